"""The commands by way of the Kubernetes API server: the command line reads and writes DeployFlows itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cli import control, manifests, planning, watching
from cli.backend import Adoption, Approve, NewRelease, Outlook
from cli.connection import Cluster
from cli.manifests import Document
from cli.naming import resolve
from cli.output import note, now
from services.planner.views.plan_preview import assume
from shared.domain.deploy_commands import DeployCommand
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.domain.requesters import Origin, Via
from shared.kube.adoption import request_adoption
from shared.kube.client import DEPLOYFLOWS
from shared.kube.ownership import identity_labels
from shared.releases import specs
from shared.releases.specs import Known


class InCluster:
    """The commands by way of the Kubernetes API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._origin = Origin(Via.CLI)

    async def flow(self, name: str) -> Json:
        return await resolve(name, self._cluster)

    async def flows(self, *, selector: str = "", all_namespaces: bool = False) -> list[Json]:
        return await self._cluster.flows(selector=selector, all_namespaces=all_namespaces)

    def follow(self, name: str) -> AsyncIterator[Json]:
        return watching.follow(self._cluster, name)

    async def requester(self, name: str | None) -> str:
        account = await self._cluster.account()
        # the API server says who the account is; all other names are what somebody wrote
        self._origin = Origin(Via.CLI, claimed=not account or name not in {None, account})
        return name or account or control.local_user()

    async def begin(self, release: NewRelease, requested_by: str, approve: Approve) -> Json | None:
        cluster = self._cluster
        pods = await cluster.pods(release.instance) if release.names_pods else []
        known = await self._known(release.instance, pods)
        spec = release.build(known)
        if spec is None:
            return None
        approve(Outlook(spec, planning.planned(spec, assume(spec, known.cloneset, pods)), known.releases))
        body = specs.release(
            spec,
            namespace=cluster.namespace,
            request_id=control.new_request_id(),
            requested_by=requested_by,
            origin=self._origin,
            freeze_override=release.freeze_override,
            unsaid=release.unsaid,
        )
        return await cluster.call(cluster.client.create(DEPLOYFLOWS, cluster.namespace, body))

    async def command(self, flow: Json, command: DeployCommand) -> str:
        return await control.act(self._cluster, flow, command, self._origin)

    def accepts(self, document: Document) -> None:
        """Accept every document: the cluster knows which kinds it has."""

    async def apply(
        self, document: Document, *, namespace_explicit: bool, requested_by: str, approve: Approve
    ) -> str:
        async def begins(namespace: str) -> None:
            spec = document.spec()
            there = InCluster(Cluster(self._cluster.client, namespace))
            known = await there._known(spec.application.instance_name)
            approve(Outlook(spec, await there._plan(spec), known.releases, document.where))

        return await manifests.apply(
            self._cluster,
            document,
            namespace_explicit=namespace_explicit,
            requested_by=requested_by,
            origin=self._origin,
            begins=begins,
        )

    async def plan(self, document: Document, spec: DeployFlowSpec) -> Json:
        metadata = document.body["metadata"]
        cluster = Cluster(self._cluster.client, metadata.get("namespace", self._cluster.namespace))
        windows = await cluster.freeze_windows()
        if held := planning.held_back(metadata, spec, cluster.namespace, windows, now()):
            note(f"{document.where}: {held}")
        return await InCluster(cluster)._plan(spec)

    async def _plan(self, spec: DeployFlowSpec) -> Json:
        instance = spec.application.instance_name
        pods = [] if spec.updating else await self._cluster.pods(instance)
        return planning.planned(spec, assume(spec, await self._cluster.cloneset(instance), pods))

    async def adopt(self, adoption: Adoption, requested_by: str) -> Json:
        cluster = self._cluster
        identity = identity_labels(adoption.app_id, adoption.group_id, adoption.app_name)
        request = request_adoption(
            cluster.client,
            cluster.namespace,
            adoption.instance,
            requested_by=requested_by,
            identity=identity,
        )
        return await cluster.call(request)

    async def known(self, instance: str) -> Known:
        return await self._known(instance)

    async def replicas(self, instance: str) -> int:
        return specs.replicas_of(await self._known(instance))

    async def _known(self, instance: str, pods: Sequence[Json] = ()) -> Known:
        cluster = self._cluster
        flows, cloneset = await cluster.releases(instance), await cluster.cloneset(instance)
        return Known(instance, flows, cloneset, [pod["metadata"]["name"] for pod in pods])
