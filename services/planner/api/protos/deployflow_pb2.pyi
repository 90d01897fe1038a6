import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeployMeta(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeployFilter(_message.Message):
    __slots__ = ("namespace", "instanceName", "action", "start", "pageSize", "after")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    PAGESIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    instanceName: str
    action: str
    start: int
    pageSize: int
    after: _timestamp_pb2.Timestamp
    def __init__(self, namespace: _Optional[str] = ..., instanceName: _Optional[str] = ..., action: _Optional[str] = ..., start: _Optional[int] = ..., pageSize: _Optional[int] = ..., after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TargetState(_message.Message):
    __slots__ = ("stage", "batches")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    stage: str
    batches: int
    def __init__(self, stage: _Optional[str] = ..., batches: _Optional[int] = ...) -> None: ...

class PodInfo(_message.Message):
    __slots__ = ("name", "ip", "port", "phase", "pullInStatus")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PULLINSTATUS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ip: str
    port: int
    phase: str
    pullInStatus: str
    def __init__(self, name: _Optional[str] = ..., ip: _Optional[str] = ..., port: _Optional[int] = ..., phase: _Optional[str] = ..., pullInStatus: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("batch", "batchSize", "canary", "phase", "failedReplicas", "pods", "startedAt", "finishedAt")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    FAILEDREPLICAS_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    STARTEDAT_FIELD_NUMBER: _ClassVar[int]
    FINISHEDAT_FIELD_NUMBER: _ClassVar[int]
    batch: int
    batchSize: int
    canary: bool
    phase: str
    failedReplicas: int
    pods: _containers.RepeatedCompositeFieldContainer[PodInfo]
    startedAt: _timestamp_pb2.Timestamp
    finishedAt: _timestamp_pb2.Timestamp
    def __init__(self, batch: _Optional[int] = ..., batchSize: _Optional[int] = ..., canary: _Optional[bool] = ..., phase: _Optional[str] = ..., failedReplicas: _Optional[int] = ..., pods: _Optional[_Iterable[_Union[PodInfo, _Mapping]]] = ..., startedAt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finishedAt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Deploy(_message.Message):
    __slots__ = ("namespace", "name", "appID", "groupID", "appName", "instanceName", "replicas", "action", "availableReplicas", "updatedReplicas", "updatedReadyReplicas", "updateRevision", "conditions", "paused", "phase", "finished", "batches", "batchSize", "finishedBatches", "finishedReplicas", "failedReplicas", "startedAt", "finishedAt", "mode", "batchIntervalSeconds", "timeoutSeconds", "gracefulPeriodSeconds", "canary", "updatedAt", "requestedBy", "requestedByClaimed", "requestedVia", "lastCommand")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    APPID_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    APPNAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    AVAILABLEREPLICAS_FIELD_NUMBER: _ClassVar[int]
    UPDATEDREPLICAS_FIELD_NUMBER: _ClassVar[int]
    UPDATEDREADYREPLICAS_FIELD_NUMBER: _ClassVar[int]
    UPDATEREVISION_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    FINISHEDBATCHES_FIELD_NUMBER: _ClassVar[int]
    FINISHEDREPLICAS_FIELD_NUMBER: _ClassVar[int]
    FAILEDREPLICAS_FIELD_NUMBER: _ClassVar[int]
    STARTEDAT_FIELD_NUMBER: _ClassVar[int]
    FINISHEDAT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BATCHINTERVALSECONDS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTSECONDS_FIELD_NUMBER: _ClassVar[int]
    GRACEFULPERIODSECONDS_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    UPDATEDAT_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDBY_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDBYCLAIMED_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDVIA_FIELD_NUMBER: _ClassVar[int]
    LASTCOMMAND_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    appID: int
    groupID: int
    appName: str
    instanceName: str
    replicas: int
    action: str
    availableReplicas: int
    updatedReplicas: int
    updatedReadyReplicas: int
    updateRevision: str
    conditions: _containers.RepeatedCompositeFieldContainer[Batch]
    paused: bool
    phase: str
    finished: bool
    batches: int
    batchSize: int
    finishedBatches: int
    finishedReplicas: int
    failedReplicas: int
    startedAt: _timestamp_pb2.Timestamp
    finishedAt: _timestamp_pb2.Timestamp
    mode: str
    batchIntervalSeconds: int
    timeoutSeconds: int
    gracefulPeriodSeconds: int
    canary: int
    updatedAt: _timestamp_pb2.Timestamp
    requestedBy: str
    requestedByClaimed: bool
    requestedVia: str
    lastCommand: LastCommand
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., appID: _Optional[int] = ..., groupID: _Optional[int] = ..., appName: _Optional[str] = ..., instanceName: _Optional[str] = ..., replicas: _Optional[int] = ..., action: _Optional[str] = ..., availableReplicas: _Optional[int] = ..., updatedReplicas: _Optional[int] = ..., updatedReadyReplicas: _Optional[int] = ..., updateRevision: _Optional[str] = ..., conditions: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ..., paused: _Optional[bool] = ..., phase: _Optional[str] = ..., finished: _Optional[bool] = ..., batches: _Optional[int] = ..., batchSize: _Optional[int] = ..., finishedBatches: _Optional[int] = ..., finishedReplicas: _Optional[int] = ..., failedReplicas: _Optional[int] = ..., startedAt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finishedAt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., mode: _Optional[str] = ..., batchIntervalSeconds: _Optional[int] = ..., timeoutSeconds: _Optional[int] = ..., gracefulPeriodSeconds: _Optional[int] = ..., canary: _Optional[int] = ..., updatedAt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requestedBy: _Optional[str] = ..., requestedByClaimed: _Optional[bool] = ..., requestedVia: _Optional[str] = ..., lastCommand: _Optional[_Union[LastCommand, _Mapping]] = ...) -> None: ...

class LastCommand(_message.Message):
    __slots__ = ("command", "requestedBy", "requestedByClaimed", "requestedVia")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDBY_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDBYCLAIMED_FIELD_NUMBER: _ClassVar[int]
    REQUESTEDVIA_FIELD_NUMBER: _ClassVar[int]
    command: str
    requestedBy: str
    requestedByClaimed: bool
    requestedVia: str
    def __init__(self, command: _Optional[str] = ..., requestedBy: _Optional[str] = ..., requestedByClaimed: _Optional[bool] = ..., requestedVia: _Optional[str] = ...) -> None: ...

class UpdateStrategy(_message.Message):
    __slots__ = ("canary", "batchSize", "noPullIn", "stage", "batches", "batchIntervalSeconds", "mode")
    CANARY_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    NOPULLIN_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BATCHINTERVALSECONDS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    canary: int
    batchSize: str
    noPullIn: bool
    stage: str
    batches: int
    batchIntervalSeconds: int
    mode: str
    def __init__(self, canary: _Optional[int] = ..., batchSize: _Optional[str] = ..., noPullIn: _Optional[bool] = ..., stage: _Optional[str] = ..., batches: _Optional[int] = ..., batchIntervalSeconds: _Optional[int] = ..., mode: _Optional[str] = ...) -> None: ...

class NonUpdateStrategy(_message.Message):
    __slots__ = ("batchSize", "podsToDelete", "batches", "batchIntervalSeconds", "mode")
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    PODSTODELETE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BATCHINTERVALSECONDS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    batchSize: str
    podsToDelete: _containers.RepeatedScalarFieldContainer[str]
    batches: int
    batchIntervalSeconds: int
    mode: str
    def __init__(self, batchSize: _Optional[str] = ..., podsToDelete: _Optional[_Iterable[str]] = ..., batches: _Optional[int] = ..., batchIntervalSeconds: _Optional[int] = ..., mode: _Optional[str] = ...) -> None: ...

class SidecarSpec(_message.Message):
    __slots__ = ("name", "image", "envs", "cpu", "memory", "guaranteedCPU", "guaranteedMemory", "containerPorts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GUARANTEEDCPU_FIELD_NUMBER: _ClassVar[int]
    GUARANTEEDMEMORY_FIELD_NUMBER: _ClassVar[int]
    CONTAINERPORTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    image: str
    envs: _containers.RepeatedCompositeFieldContainer[EnvVar]
    cpu: str
    memory: str
    guaranteedCPU: str
    guaranteedMemory: str
    containerPorts: _containers.RepeatedCompositeFieldContainer[ContainerPort]
    def __init__(self, name: _Optional[str] = ..., image: _Optional[str] = ..., envs: _Optional[_Iterable[_Union[EnvVar, _Mapping]]] = ..., cpu: _Optional[str] = ..., memory: _Optional[str] = ..., guaranteedCPU: _Optional[str] = ..., guaranteedMemory: _Optional[str] = ..., containerPorts: _Optional[_Iterable[_Union[ContainerPort, _Mapping]]] = ...) -> None: ...

class ApplicationSpec(_message.Message):
    __slots__ = ("appID", "groupID", "appName", "instanceName", "replicas", "applicationType", "applicationLabel")
    class ApplicationLabelEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    APPID_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    APPNAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    APPLICATIONTYPE_FIELD_NUMBER: _ClassVar[int]
    APPLICATIONLABEL_FIELD_NUMBER: _ClassVar[int]
    appID: int
    groupID: int
    appName: str
    instanceName: str
    replicas: _wrappers_pb2.Int32Value
    applicationType: str
    applicationLabel: _containers.ScalarMap[str, str]
    def __init__(self, appID: _Optional[int] = ..., groupID: _Optional[int] = ..., appName: _Optional[str] = ..., instanceName: _Optional[str] = ..., replicas: _Optional[_Union[_wrappers_pb2.Int32Value, _Mapping]] = ..., applicationType: _Optional[str] = ..., applicationLabel: _Optional[_Mapping[str, str]] = ...) -> None: ...

class EnvVar(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ContainerPort(_message.Message):
    __slots__ = ("hostPort", "containerPort", "protocol", "name")
    HOSTPORT_FIELD_NUMBER: _ClassVar[int]
    CONTAINERPORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    hostPort: int
    containerPort: int
    protocol: str
    name: str
    def __init__(self, hostPort: _Optional[int] = ..., containerPort: _Optional[int] = ..., protocol: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeployMetaRequest(_message.Message):
    __slots__ = ("deploy",)
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    deploy: DeployMeta
    def __init__(self, deploy: _Optional[_Union[DeployMeta, _Mapping]] = ...) -> None: ...

class NextRequest(_message.Message):
    __slots__ = ("deploy",)
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    deploy: DeployMeta
    def __init__(self, deploy: _Optional[_Union[DeployMeta, _Mapping]] = ...) -> None: ...

class DeploysRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: DeployFilter
    def __init__(self, filter: _Optional[_Union[DeployFilter, _Mapping]] = ...) -> None: ...

class ContinueRequest(_message.Message):
    __slots__ = ("deploy", "target")
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    deploy: DeployMeta
    target: TargetState
    def __init__(self, deploy: _Optional[_Union[DeployMeta, _Mapping]] = ..., target: _Optional[_Union[TargetState, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("deploy", "target")
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    deploy: DeployMeta
    target: TargetState
    def __init__(self, deploy: _Optional[_Union[DeployMeta, _Mapping]] = ..., target: _Optional[_Union[TargetState, _Mapping]] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("appID", "groupID", "appName", "instanceName", "namespace", "applicationSpec", "strategy")
    APPID_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    APPNAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCENAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    APPLICATIONSPEC_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    appID: int
    groupID: int
    appName: str
    instanceName: str
    namespace: str
    applicationSpec: ApplicationSpec
    strategy: UpdateStrategy
    def __init__(self, appID: _Optional[int] = ..., groupID: _Optional[int] = ..., appName: _Optional[str] = ..., instanceName: _Optional[str] = ..., namespace: _Optional[str] = ..., applicationSpec: _Optional[_Union[ApplicationSpec, _Mapping]] = ..., strategy: _Optional[_Union[UpdateStrategy, _Mapping]] = ...) -> None: ...

class DeployReply(_message.Message):
    __slots__ = ("deploy",)
    DEPLOY_FIELD_NUMBER: _ClassVar[int]
    deploy: Deploy
    def __init__(self, deploy: _Optional[_Union[Deploy, _Mapping]] = ...) -> None: ...

class DeploysReply(_message.Message):
    __slots__ = ("deploys",)
    DEPLOYS_FIELD_NUMBER: _ClassVar[int]
    deploys: _containers.RepeatedCompositeFieldContainer[Deploy]
    def __init__(self, deploys: _Optional[_Iterable[_Union[Deploy, _Mapping]]] = ...) -> None: ...

class EmptyReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
