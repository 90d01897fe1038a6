"""What clients of gRPC are compiled with: the messages have the names, numbers and types that they always had."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from services.planner.api.protos import application_pb2, deployflow_pb2, generate, pod_pb2, releases_v2_pb2

CONTRACT = """
deployflow.DeployMeta: string namespace, string name
deployflow.DeployFilter: string namespace, string instanceName, string action, int32 start, int32 pageSize, Timestamp after
deployflow.TargetState: string stage, int32 batches
deployflow.PodInfo: string name, string ip, int32 port, string phase, string pullInStatus
deployflow.Batch: int32 batch, int32 batchSize, bool canary, string phase, int32 failedReplicas, PodInfo[] pods, Timestamp startedAt, Timestamp finishedAt
deployflow.Deploy: string namespace, string name, int32 appID, int32 groupID, string appName, string instanceName, int32 replicas, string action, int32 availableReplicas, int32 updatedReplicas, int32 updatedReadyReplicas, string updateRevision, Batch[] conditions, bool paused, string phase, bool finished, int32 batches, int32 batchSize, int32 finishedBatches, int32 finishedReplicas, int32 failedReplicas, Timestamp startedAt, Timestamp finishedAt, string mode, int32 batchIntervalSeconds, int32 timeoutSeconds, int32 gracefulPeriodSeconds, int32 canary, Timestamp updatedAt, string requestedBy, bool requestedByClaimed, string requestedVia, LastCommand lastCommand
deployflow.LastCommand: string command, string requestedBy, bool requestedByClaimed, string requestedVia
deployflow.UpdateStrategy: int32 canary, string batchSize, bool noPullIn, string stage, int32 batches, int32 batchIntervalSeconds, string mode
deployflow.NonUpdateStrategy: string batchSize, string[] podsToDelete, int32 batches, int32 batchIntervalSeconds, string mode
deployflow.SidecarSpec: string name, string image, EnvVar[] envs, string cpu, string memory, string guaranteedCPU, string guaranteedMemory, ContainerPort[] containerPorts
deployflow.ApplicationSpec: int32 appID, int32 groupID, string appName, string instanceName, Int32Value replicas, string applicationType, ApplicationLabelEntry[] applicationLabel
deployflow.EnvVar: string name, string value
deployflow.ContainerPort: int32 hostPort, int32 containerPort, string protocol, string name
deployflow.DeployMetaRequest: DeployMeta deploy
deployflow.NextRequest: DeployMeta deploy
deployflow.DeploysRequest: DeployFilter filter
deployflow.ContinueRequest: DeployMeta deploy, TargetState target
deployflow.WatchRequest: DeployMeta deploy, TargetState target
deployflow.CreateRequest: int32 appID, int32 groupID, string appName, string instanceName, string namespace, ApplicationSpec applicationSpec, UpdateStrategy strategy
deployflow.DeployReply: Deploy deploy
deployflow.DeploysReply: Deploy[] deploys
deployflow.EmptyReply:
application.InstanceMeta: string namespace, string name
application.Instance: string namespace, string name, int32 availableReplicas, int32 replicas, string status, int32 appID, int32 groupID, string image, string cpu, string memory, string requestCPU, string requestMemory, string updateRevision
application.InstanceFilter: string namespace
application.GetsRequest: InstanceFilter filter
application.RestartRequest: InstanceMeta instance, NonUpdateStrategy strategy
application.ScaleRequest: InstanceMeta instance, NonUpdateStrategy strategy, int32 replicas
application.RollbackRequest: InstanceMeta instance, string deployName, UpdateStrategy strategy
application.InstanceMetaRequest: InstanceMeta instance
application.RestartReply: string deployName
application.ScaleReply: string deployName
application.RollbackReply: string deployName, string rollbackTo
application.InstanceReply: Instance instance
application.InstancesReply: Instance[] instances
application.EmptyReply:
pod.PodMeta: string namespace, string name
pod.PodFilter: string namespace, string instanceName, string ip
pod.PodInfo: string namespace, string name, string instanceName, string image, string cpu, string memory, string guaranteedCPU, string guaranteedMemory, bool publicNetwork, string containerName, string podIP, string status, string hostIP, string updateRevision, Timestamp creationTimestamp
pod.PodMetaRequest: PodMeta pod
pod.GetsRequest: PodFilter filter, bool noSort
pod.PodReply: PodInfo pod
pod.PodsReply: PodInfo[] pods
triton.v2.NewRelease: string namespace, Struct application, Struct updateStrategy, string name, bool queue, string freezeOverride, bool keep
triton.v2.ReleaseReply: Deploy deploy
"""
"""The fields of each message in the order of their numbers, which are 1 and up without a gap."""

CALLS = """
deployflow.DeployFlow/Get: DeployMetaRequest, DeployReply
deployflow.DeployFlow/Gets: DeploysRequest, DeploysReply
deployflow.DeployFlow/Cancel: DeployMetaRequest, stream DeployReply
deployflow.DeployFlow/Pause: DeployMetaRequest, stream DeployReply
deployflow.DeployFlow/Resume: DeployMetaRequest, stream DeployReply
deployflow.DeployFlow/Continue: ContinueRequest, DeployReply
deployflow.DeployFlow/Next: NextRequest, DeployReply
deployflow.DeployFlow/Delete: DeployMetaRequest, EmptyReply
deployflow.DeployFlow/Watch: WatchRequest, stream DeployReply
deployflow.DeployFlow/ListAndWatch: DeploysRequest, stream DeploysReply
application.Application/Get: InstanceMetaRequest, InstanceReply
application.Application/Gets: GetsRequest, InstancesReply
application.Application/Restart: RestartRequest, RestartReply
application.Application/Scale: ScaleRequest, ScaleReply
application.Application/Rollback: RollbackRequest, RollbackReply
application.Application/Delete: InstanceMetaRequest, EmptyReply
pod.Pod/Get: PodMetaRequest, PodReply
pod.Pod/Gets: GetsRequest, PodsReply
triton.v2.Releases/Create: NewRelease, ReleaseReply
triton.v2.Releases/Update: NewRelease, ReleaseReply
"""
_FILES = (
    deployflow_pb2.DESCRIPTOR,
    application_pb2.DESCRIPTOR,
    pod_pb2.DESCRIPTOR,
    releases_v2_pb2.DESCRIPTOR,
)


def _field(field: Any) -> str:
    kind = field.message_type.name if field.message_type else ""
    kind = kind or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{kind}{'[]' if field.is_repeated else ''} {field.name}"


def test_messages_have_the_fields_that_clients_were_compiled_with() -> None:
    lines = []
    for file in _FILES:
        for message in file.message_types_by_name.values():
            fields = sorted(message.fields, key=lambda field: field.number)
            assert [field.number for field in fields] == list(range(1, len(fields) + 1)), message.full_name
            lines.append(f"{message.full_name}: {', '.join(map(_field, fields))}".strip())
    assert sorted(lines) == sorted(CONTRACT.strip().splitlines())


def test_services_have_the_calls_that_clients_were_compiled_with() -> None:
    lines = [
        f"{service.full_name}/{method.name}: {method.input_type.name}, "
        f"{'stream ' if method.server_streaming else ''}{method.output_type.name}"
        for file in _FILES
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    assert sorted(lines) == sorted(CALLS.strip().splitlines())


def test_what_is_generated_is_up_to_date() -> None:
    made = generate.generated()
    assert len(made) == 12
    for name, text in made.items():
        assert (generate.FOLDER / name).read_text() == text, f"{name}: run `make documents`"
