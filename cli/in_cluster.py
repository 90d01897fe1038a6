"""The two ways of the verbs to the releases: straight to the cluster, or by Triton's REST API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cli import connection, control, manifests, planning, watching
from cli.connection import Cluster
from cli.exits import BadInput
from cli.manifests import Document
from cli.options import Where, server_of
from cli.output import note, now
from services.planner.views.plan_preview import assume
from shared.domain.deploy_commands import DeployCommand
from shared.domain.deployflow import DeployFlowSpec
from shared.kube.client import DEPLOYFLOWS
from shared.releases import specs
from shared.releases.specs import Known

if TYPE_CHECKING:
    from cli.remote import ByServer
    from triton_client import DeployFlow

Json = dict[str, Any]


class Wanted(NamedTuple):
    """A release of an instance that is wanted: how its spec is made here, and how a server is asked for it.

    None in the place of it: there is nothing to do. `pods`: the names of the pods have to be known.
    """

    instance: str
    build: Callable[[Known], DeployFlowSpec | None]
    ask: Callable[[ByServer], Awaitable[DeployFlow | None]]
    pods: bool = False
    freeze_override: str = ""


class Backend(Protocol):
    """What the verbs do, of one namespace. A DeployFlow is as the cluster has it."""

    async def flow(self, name: str) -> Json:
        """The DeployFlow of that name or, where an instance is named, its current (else newest) release."""

    async def flows(self) -> list[Json]:
        """Oldest first."""

    def follow(self, name: str) -> AsyncIterator[Json]:
        """The DeployFlow as it is and after each change; raises `Failure` once it is deleted."""

    async def begin(self, wanted: Wanted, requested_by: str) -> Json | None:
        """The new release; None where there is nothing to do."""

    async def command(self, flow: Json, command: DeployCommand) -> str:
        """The line that says what it came to."""

    def accepts(self, document: Document) -> None:
        """Raises `BadInput` for what can't be applied in this way."""

    async def apply(self, document: Document, *, namespace_given: bool, requested_by: str) -> str:
        """The line that says what it came to."""

    async def plan(self, document: Document, spec: DeployFlowSpec) -> Json:
        """The plan for programs, or why there is none."""

    async def replicas(self, instance: str) -> int:
        """How many the instance is meant to have."""


class InCluster:
    """Straight to the API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def flow(self, name: str) -> Json:
        return await self._cluster.flow(name)

    async def flows(self) -> list[Json]:
        return await self._cluster.flows()

    def follow(self, name: str) -> AsyncIterator[Json]:
        return watching.follow(self._cluster, name)

    async def begin(self, wanted: Wanted, requested_by: str) -> Json | None:
        cluster = self._cluster
        spec = wanted.build(await self._known(wanted.instance, pods=wanted.pods))
        if spec is None:
            return None
        body = specs.release(
            spec,
            namespace=cluster.namespace,
            request_id=control.new_request_id(),
            requested_by=requested_by,
            freeze_override=wanted.freeze_override,
        )
        return await cluster.ask(cluster.client.create(DEPLOYFLOWS, cluster.namespace, body))

    async def command(self, flow: Json, command: DeployCommand) -> str:
        return await control.act(self._cluster, flow, command)

    def accepts(self, document: Document) -> None:
        """Whatever the cluster knows."""

    async def apply(self, document: Document, *, namespace_given: bool, requested_by: str) -> str:  # noqa: ARG002
        return await manifests.apply(self._cluster, document, namespace_given=namespace_given)

    async def plan(self, document: Document, spec: DeployFlowSpec) -> Json:
        metadata = document.body["metadata"]
        cluster = Cluster(self._cluster.client, metadata.get("namespace", self._cluster.namespace))
        instance = spec.application.instance_name
        pods = [] if spec.updating else await cluster.pods(instance)
        given = assume(spec, await cluster.cloneset(instance), pods)
        windows = await cluster.freeze_windows()
        if held := planning.held_back(metadata, spec, cluster.namespace, windows, now()):
            note(f"{document.where}: {held}")
        return planning.planned(spec, given)

    async def replicas(self, instance: str) -> int:
        return specs.replicas_of(await self._known(instance))

    async def _known(self, instance: str, *, pods: bool = False) -> Known:
        cluster = self._cluster
        flows, cloneset = await cluster.releases(instance), await cluster.cloneset(instance)
        there = await cluster.pods(instance) if pods else []
        return Known(instance, flows, cloneset, [pod["metadata"]["name"] for pod in there])


@contextlib.asynccontextmanager
async def reach(where: Where) -> AsyncIterator[Backend]:
    """The server or cluster that the options name; raises `BadInput` where they can't be meant."""
    if where.server and where.kubeconfig:
        msg = "--server and --kubeconfig: give one of them"
        raise BadInput(msg)
    if server := server_of(where):
        from cli.remote import ByServer, client

        async with client(server, where) as triton:
            yield ByServer(triton)
        return
    async with connection.connect(connection.Place.of(where.kubeconfig, where.namespace)) as cluster:
        yield InCluster(cluster)
