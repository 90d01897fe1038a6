from services.planner.api.protos import deployflow_pb2 as _deployflow_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceMeta(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("namespace", "name", "availableReplicas", "replicas", "status", "appID", "groupID", "image", "cpu", "memory", "requestCPU", "requestMemory", "updateRevision")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AVAILABLEREPLICAS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    APPID_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    REQUESTCPU_FIELD_NUMBER: _ClassVar[int]
    REQUESTMEMORY_FIELD_NUMBER: _ClassVar[int]
    UPDATEREVISION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    availableReplicas: int
    replicas: int
    status: str
    appID: int
    groupID: int
    image: str
    cpu: str
    memory: str
    requestCPU: str
    requestMemory: str
    updateRevision: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., availableReplicas: _Optional[int] = ..., replicas: _Optional[int] = ..., status: _Optional[str] = ..., appID: _Optional[int] = ..., groupID: _Optional[int] = ..., image: _Optional[str] = ..., cpu: _Optional[str] = ..., memory: _Optional[str] = ..., requestCPU: _Optional[str] = ..., requestMemory: _Optional[str] = ..., updateRevision: _Optional[str] = ...) -> None: ...

class InstanceFilter(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class GetsRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: InstanceFilter
    def __init__(self, filter: _Optional[_Union[InstanceFilter, _Mapping]] = ...) -> None: ...

class RestartRequest(_message.Message):
    __slots__ = ("instance", "strategy")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceMeta
    strategy: _deployflow_pb2.NonUpdateStrategy
    def __init__(self, instance: _Optional[_Union[InstanceMeta, _Mapping]] = ..., strategy: _Optional[_Union[_deployflow_pb2.NonUpdateStrategy, _Mapping]] = ...) -> None: ...

class ScaleRequest(_message.Message):
    __slots__ = ("instance", "strategy", "replicas")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceMeta
    strategy: _deployflow_pb2.NonUpdateStrategy
    replicas: int
    def __init__(self, instance: _Optional[_Union[InstanceMeta, _Mapping]] = ..., strategy: _Optional[_Union[_deployflow_pb2.NonUpdateStrategy, _Mapping]] = ..., replicas: _Optional[int] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("instance", "deployName", "strategy")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYNAME_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceMeta
    deployName: str
    strategy: _deployflow_pb2.UpdateStrategy
    def __init__(self, instance: _Optional[_Union[InstanceMeta, _Mapping]] = ..., deployName: _Optional[str] = ..., strategy: _Optional[_Union[_deployflow_pb2.UpdateStrategy, _Mapping]] = ...) -> None: ...

class InstanceMetaRequest(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceMeta
    def __init__(self, instance: _Optional[_Union[InstanceMeta, _Mapping]] = ...) -> None: ...

class RestartReply(_message.Message):
    __slots__ = ("deployName",)
    DEPLOYNAME_FIELD_NUMBER: _ClassVar[int]
    deployName: str
    def __init__(self, deployName: _Optional[str] = ...) -> None: ...

class ScaleReply(_message.Message):
    __slots__ = ("deployName",)
    DEPLOYNAME_FIELD_NUMBER: _ClassVar[int]
    deployName: str
    def __init__(self, deployName: _Optional[str] = ...) -> None: ...

class RollbackReply(_message.Message):
    __slots__ = ("deployName", "rollbackTo")
    DEPLOYNAME_FIELD_NUMBER: _ClassVar[int]
    ROLLBACKTO_FIELD_NUMBER: _ClassVar[int]
    deployName: str
    rollbackTo: str
    def __init__(self, deployName: _Optional[str] = ..., rollbackTo: _Optional[str] = ...) -> None: ...

class InstanceReply(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: Instance
    def __init__(self, instance: _Optional[_Union[Instance, _Mapping]] = ...) -> None: ...

class InstancesReply(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ...) -> None: ...

class EmptyReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
