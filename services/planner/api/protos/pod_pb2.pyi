import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PodMeta(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PodFilter(_message.Message):
    __slots__ = ("namespace", "instanceName", "ip")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    instanceName: str
    ip: str
    def __init__(self, namespace: _Optional[str] = ..., instanceName: _Optional[str] = ..., ip: _Optional[str] = ...) -> None: ...

class PodInfo(_message.Message):
    __slots__ = ("namespace", "name", "instanceName", "image", "cpu", "memory", "guaranteedCPU", "guaranteedMemory", "publicNetwork", "containerName", "podIP", "status", "hostIP", "updateRevision", "creationTimestamp")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GUARANTEEDCPU_FIELD_NUMBER: _ClassVar[int]
    GUARANTEEDMEMORY_FIELD_NUMBER: _ClassVar[int]
    PUBLICNETWORK_FIELD_NUMBER: _ClassVar[int]
    CONTAINERNAME_FIELD_NUMBER: _ClassVar[int]
    PODIP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HOSTIP_FIELD_NUMBER: _ClassVar[int]
    UPDATEREVISION_FIELD_NUMBER: _ClassVar[int]
    CREATIONTIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    instanceName: str
    image: str
    cpu: str
    memory: str
    guaranteedCPU: str
    guaranteedMemory: str
    publicNetwork: bool
    containerName: str
    podIP: str
    status: str
    hostIP: str
    updateRevision: str
    creationTimestamp: _timestamp_pb2.Timestamp
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., instanceName: _Optional[str] = ..., image: _Optional[str] = ..., cpu: _Optional[str] = ..., memory: _Optional[str] = ..., guaranteedCPU: _Optional[str] = ..., guaranteedMemory: _Optional[str] = ..., publicNetwork: _Optional[bool] = ..., containerName: _Optional[str] = ..., podIP: _Optional[str] = ..., status: _Optional[str] = ..., hostIP: _Optional[str] = ..., updateRevision: _Optional[str] = ..., creationTimestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PodMetaRequest(_message.Message):
    __slots__ = ("pod",)
    POD_FIELD_NUMBER: _ClassVar[int]
    pod: PodMeta
    def __init__(self, pod: _Optional[_Union[PodMeta, _Mapping]] = ...) -> None: ...

class GetsRequest(_message.Message):
    __slots__ = ("filter", "noSort")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    NOSORT_FIELD_NUMBER: _ClassVar[int]
    filter: PodFilter
    noSort: bool
    def __init__(self, filter: _Optional[_Union[PodFilter, _Mapping]] = ..., noSort: _Optional[bool] = ...) -> None: ...

class PodReply(_message.Message):
    __slots__ = ("pod",)
    POD_FIELD_NUMBER: _ClassVar[int]
    pod: PodInfo
    def __init__(self, pod: _Optional[_Union[PodInfo, _Mapping]] = ...) -> None: ...

class PodsReply(_message.Message):
    __slots__ = ("pods",)
    PODS_FIELD_NUMBER: _ClassVar[int]
    pods: _containers.RepeatedCompositeFieldContainer[PodInfo]
    def __init__(self, pods: _Optional[_Iterable[_Union[PodInfo, _Mapping]]] = ...) -> None: ...
