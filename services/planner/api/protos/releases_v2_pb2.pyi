from services.planner.api.protos import deployflow_pb2 as _deployflow_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NewRelease(_message.Message):
    __slots__ = ("namespace", "application", "updateStrategy", "name", "queue", "freezeOverride", "keep")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    UPDATESTRATEGY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    FREEZEOVERRIDE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    application: _struct_pb2.Struct
    updateStrategy: _struct_pb2.Struct
    name: str
    queue: bool
    freezeOverride: str
    keep: bool
    def __init__(self, namespace: _Optional[str] = ..., application: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., updateStrategy: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., name: _Optional[str] = ..., queue: _Optional[bool] = ..., freezeOverride: _Optional[str] = ..., keep: _Optional[bool] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ("deploy",)
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    deploy: _deployflow_pb2.Deploy
    def __init__(self, deploy: _Optional[_Union[_deployflow_pb2.Deploy, _Mapping]] = ...) -> None: ...
