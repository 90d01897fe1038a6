"""The commands by way of Triton's REST API: the server does what the command line otherwise works out itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cli import control
from cli.backend import Adoption, Approve, NewRelease, Outlook
from cli.connection import ANSWER_SECONDS
from cli.exits import BadInput, Failure
from cli.manifests import Document, merged, namespace_of
from cli.naming import resolve
from cli.options import Where
from cli.output import note
from services.planner.views.plan_preview import refusal_object
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType, DeployCommand, Refusal
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.domain.requesters import CLI_AGENT
from shared.errors import Unavailable
from shared.event_store.interface import Query, dataset
from shared.releases import specs
from shared.releases.history import age, is_under_way
from shared.releases.specs import Known
from triton_client import AsyncTriton, DeployFlow, TritonError

RETRIES: Final = 3
PAGE: Final = 1000


def client(server: str, where: Where) -> AsyncTriton:
    """Return the client that options and environment name; raises the client's `ConfigError` for options that can't be used."""
    ca_file = where.ca_file or os.environ.get("TRITON_SERVER_CA_FILE") or None
    return AsyncTriton(
        server,
        namespace=where.namespace or "default",
        token=os.environ.get("TRITON_TOKEN", ""),
        token_file=os.environ.get("TRITON_TOKEN_FILE") or None,
        ca_file=Path(ca_file).expanduser() if ca_file else None,
        user_agent=f"{CLI_AGENT}{version('triton-release')}",
        timeout=ANSWER_SECONDS,
        retries=RETRIES,
    )


class ByServer:
    """The `Backend` that sends every command to a server."""

    def __init__(self, triton: AsyncTriton) -> None:
        self.triton = triton

    @property
    def namespace(self) -> str:
        return self.triton.namespace

    async def deployflow(self, name: str) -> Json | None:
        try:
            return (await self.triton.deployflow(name)).resource
        except TritonError as error:
            if error.reason == "NotFound":
                return None
            raise

    async def has_instance(self, name: str) -> bool:
        try:
            await self.triton.instance(name)
        except TritonError as error:
            if error.reason == "NotFound":
                return False
            raise
        return True

    async def releases(self, instance: str) -> list[Json]:
        return await _releases(self.triton, instance)

    async def flow(self, name: str) -> Json:
        return await resolve(name, self)

    async def flows(self, *, selector: str = "", all_namespaces: bool = False) -> list[Json]:
        found = await _releases(self.triton, "", all_namespaces=all_namespaces)
        if not selector:
            return found
        from sandbox.kubernetes.errors import ApiError
        from sandbox.kubernetes.selectors import matches, parse_labels

        try:
            wanted = parse_labels(selector)
        except ApiError as error:
            msg = f"--selector: {error}"
            raise BadInput(msg) from error
        return [flow for flow in found if matches(wanted, flow["metadata"].get("labels") or {})]

    async def follow(self, name: str) -> AsyncIterator[Json]:
        async for flow in self.triton.watch(name):
            yield flow.resource
        msg = f"{name} was deleted"
        raise Failure(msg)

    async def requester(self, name: str | None) -> str:
        # with a login, the server takes the account's
        return name or control.local_user()

    async def begin(self, release: NewRelease, requested_by: str, approve: Approve) -> Json | None:
        try:
            known = await _known(self.triton, release.instance, pods=release.names_pods)
            if any(flow["spec"]["action"] in df.UPDATING and is_under_way(flow) for flow in known.releases):
                # the server says of the CloneSet only how many pods it has with those of the batch
                known = known._replace(cloneset=None)
            spec = release.build(known)
        except (Refusal, specs.Unfit):
            # the server knows the template of a CloneSet too, and has the last word
            pass
        else:
            if spec is None:
                return None
            approve(Outlook(spec, await _plan(self.triton, spec), known.releases))
        made = await release.request(self.triton.using(requested_by=requested_by))
        return made.resource if made else None

    async def command(self, flow: Json, command: DeployCommand) -> str:
        triton = self.triton.using(requested_by=command.requested_by, request_id=command.id)
        name = flow["metadata"]["name"]
        if command.type == CommandType.NEXT:
            after = await triton.next(name, batch=command.batch, stage=command.stage)
        elif command.type == CommandType.CONTINUE:
            assert command.target is not None
            after = await triton.continue_(name, batches=command.target.batches, stage=command.target.stage)
        else:
            plain: dict[CommandType, Callable[[str], Awaitable[DeployFlow]]] = {
                CommandType.PROMOTE: triton.promote,
                CommandType.PAUSE: triton.pause,
                CommandType.RESUME: triton.resume,
                CommandType.CANCEL: triton.cancel,
                CommandType.RETRY: triton.retry,
            }
            after = await plain[command.type](name)
        return control.result_of(flow, after.resource, command)

    def accepts(self, document: Document) -> None:
        if not document.is_flow:
            msg = f"{document.where}: only DeployFlows can be sent to a server: apply it without --server, or with kubectl"
            raise BadInput(msg)
        metadata = document.body["metadata"]
        set_by_triton: dict[str, Collection[str]] = {
            "labels": document.spec().application.labels(),
            "annotations": (df.LAST_REQUEST, df.REQUESTED_BY, df.FREEZE_OVERRIDE),
        }
        for field, known in set_by_triton.items():
            if other := [name for name in metadata.get(field) or {} if name not in known]:
                msg = f"{document.where}: metadata.{field}: {', '.join(other)} can't be sent to a server: remove it"
                raise BadInput(msg)

    async def apply(
        self, document: Document, *, namespace_explicit: bool, requested_by: str, approve: Approve
    ) -> str:
        namespace = namespace_of(document, self.triton.namespace, explicit=namespace_explicit)
        triton = self.triton.using(namespace=namespace, requested_by=requested_by)
        try:
            name, outcome = await _put(triton, document, approve)
        except TritonError as error:
            raise TritonError(error.status, error.reason, f"{document.where}: {error}") from error
        return f"{df.KIND.lower()}.{df.GROUP}/{name} {outcome}"

    async def plan(self, document: Document, spec: DeployFlowSpec) -> Json:
        namespace = document.body["metadata"].get("namespace")
        return await _plan(self.triton.using(namespace=namespace), spec)

    async def adopt(self, adoption: Adoption, requested_by: str) -> Json:
        adopted = await self.triton.using(requested_by=requested_by).adopt(
            adoption.instance,
            app_id=adoption.app_id,
            group_id=adoption.group_id,
            app_name=adoption.app_name,
        )
        body: Json = adopted.model_dump(mode="json", by_alias=True)
        return body

    async def known(self, instance: str) -> Known:
        return await _known(self.triton, instance)

    async def replicas(self, instance: str) -> int:
        return specs.replicas_of(await _known(self.triton, instance))


async def _plan(triton: AsyncTriton, spec: DeployFlowSpec) -> Json:
    try:
        plan = await triton.plan(spec.model_dump(mode="json", exclude_unset=True, exclude_none=True))
    except TritonError as error:
        if error.reason != "NoPlan":
            raise
        return refusal_object(spec, str(error))
    return plan.model_dump(mode="json", by_alias=True)


async def roll_back(triton: AsyncTriton, instance: str, to: str | None, strategy: Json) -> DeployFlow:
    base, _ = specs.rollback(await _known(triton, instance), to, strategy)
    return await triton.rollback(instance, to=base["metadata"]["name"], strategy=strategy)


async def scale(
    triton: AsyncTriton, instance: str, replicas: int, pods: Sequence[str], strategy: Json
) -> DeployFlow | None:
    try:
        return await triton.scale(instance, replicas, pods=pods, strategy=strategy, queue=True)
    except TritonError as error:
        if error.reason != "NothingToDo":
            raise
        note(f"{error}: nothing to do")
        return None


async def delete(triton: AsyncTriton, instance: str, strategy: Json) -> DeployFlow:
    spec = specs.delete(await _known(triton, instance), strategy)
    body = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return await triton.create(body, queue=True)


async def _releases(triton: AsyncTriton, instance: str, *, all_namespaces: bool = False) -> list[Json]:
    """Return the releases of one instance, or of all, oldest first."""
    found: list[DeployFlow] = []
    token: str | None = ""
    while token is not None:
        items, token = await triton.deployflows(
            instance=instance, limit=PAGE, continue_token=token, all_namespaces=all_namespaces
        )
        found += items
    return sorted((flow.resource for flow in found), key=age)


async def _known(triton: AsyncTriton, instance: str, *, pods: bool = False) -> Known:
    cloneset: Json | None = None
    try:
        found = await triton.instance(instance)
        cloneset = {
            "metadata": {"name": instance, "labels": found.labels},
            "spec": {"replicas": found.replicas},
        }
    except TritonError as error:
        if error.reason != "NotFound":
            raise
    names = [pod.name for pod in await triton.pods(instance)] if pods and cloneset else []
    return Known(instance, await _releases(triton, instance), cloneset, names)


async def _put(triton: AsyncTriton, document: Document, approve: Approve) -> tuple[str, str]:
    """Create the release, or change the strategy of an existing one; return its name and the outcome."""
    metadata, spec = document.body["metadata"], document.body["spec"]
    name = metadata.get("name", "")
    override = (metadata.get("annotations") or {}).get(df.FREEZE_OVERRIDE, "")
    try:
        before = (await triton.deployflow(name)).resource["spec"] if name else None
    except TritonError as error:
        if error.reason != "NotFound":
            raise
        before = None
    if before is None:
        wanted = document.spec()
        releases = await _releases(triton, wanted.application.instance_name)
        approve(Outlook(wanted, await _plan(triton, wanted), releases, document.where))
        # the file may be applied again when its release is history
        made = await triton.create(spec, name=name, queue=True, freeze_override=override, keep=True)
        return made.name, "created"
    after = merged(before, spec)
    for field in ("action", "application"):
        if after[field] != before[field]:
            msg = f"{document.where}: spec.{field}: {name} exists already, and this field can't change: choose another name"
            raise BadInput(msg)
    field = document.spec().strategy_field
    if after.get(field) == before.get(field):
        return name, "unchanged"
    await triton.steer(name, spec[field])
    return name, "configured"


class ServerLog:
    """The release log as a server returns it, with the part of an `EventStore` that reading needs."""

    def __init__(self, triton: AsyncTriton) -> None:
        self._triton = triton

    async def search(self, query: Query) -> list[Json]:
        triton = self._triton.using(namespace=query.namespace)
        instance = query.instance
        try:
            instance = instance or (await triton.deployflow(query.deployflow)).instance
            found = await triton.history(instance, since=query.since, until=query.until, limit=query.limit)
        except TritonError as error:
            if error.reason == "NotFound":
                return []
            if error.reason == "Unavailable":
                raise Unavailable(str(error)) from error
            raise
        streams = {dataset(stream) for stream in query.streams}
        return [
            document
            for document in found
            if document["event"].get("dataset") in streams
            and query.deployflow in {"", document["triton"].get("deployflow")}
            and query.uid in {"", document["triton"].get("uid")}
        ]

    async def close(self) -> None:
        await self._triton.close()
