"""Every call of the APIs, whatever the protocol: who may make it, what it does, what comes of it.

Each raises `Problem`. A `request` names the request: the same one again is done once. Where none is given, each call is
one of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from prometheus_client import Counter
from pydantic import ValidationError

from services.planner.api import access
from services.planner.api.access import Access, Caller, Right
from services.planner.api.flow_queries import FlowFilter, FlowQueries
from services.planner.api.flow_streams import FlowStreams
from services.planner.api.problem import Kind, Problem
from services.planner.api.release_event_streams import ReleaseEventStreams, StreamedEvent
from services.planner.intake.flow_mutations import FlowMutations, made_by
from services.planner.runtime.flow_cache import DeployFlow, resource
from services.planner.views import plan_preview
from shared.domain import deployflow as df
from shared.domain.deploy_commands import (
    CommandType,
    DeployCommand,
    Refusal,
    Target,
    requests_of,
)
from shared.errors import Unavailable
from shared.event_store.interface import Query
from shared.kube.client import CLONESETS, PODS, ApiError, Client
from shared.releases import specs
from shared.releases.specs import Known, Unfit, Wish

_AHEAD = (CommandType.NEXT, CommandType.CONTINUE, CommandType.PROMOTE)
"""The commands that let a release go ahead."""
_OF_GOING_AHEAD = frozenset({"batches", "canary", "mode", "stage"})
"""The strategy fields that do the same."""

NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
NAMESPACE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""As Kubernetes has them."""
AT_ONCE = 4
"""Instances of one bulk request that are worked on side by side."""
STREAMS = 5_000
"""Open at one planner."""
MOST = 100
"""Instances of one bulk request."""

_changes = Counter("triton_api_changes_total", "Changes asked for through the APIs", ["what"])
_log = logging.getLogger(__name__)
Json = dict[str, Any]


class Request(NamedTuple):
    """Who asks for a change, and how it is known.

    `id`: the same one of the same caller again is done once; empty: this one is another than all others. `match`: the
    `ETag` that the DeployFlow must still have; empty: any.
    """

    caller: Caller
    id: str = ""
    match: str = ""

    @property
    def key(self) -> str:
        """The id that the DeployFlow remembers. Two callers' ids have nothing to do with each other."""
        if not self.id:
            return uuid.uuid4().hex
        return hashlib.sha256(f"{self.caller.name}\n{self.id}".encode()).hexdigest()[:32]


class Release(NamedTuple):
    """What a new release came to."""

    flow: Json
    back_to: str = ""
    """The release that a rollback goes back to."""


class One(NamedTuple):
    """What a bulk request came to for one instance: its release, or what was the matter."""

    instance: str
    flow: Json | None = None
    problem: Problem | None = None


class Searched(Protocol):
    """What is read of the event store."""

    async def search(self, query: Query) -> list[Json]:
        """As `EventStore.search`."""


class Calls:
    """What callers can do. A DeployFlow in an answer is as `FlowQueries` has it.

    `namespaces`: those that Triton looks after; none: all.
    """

    def __init__(
        self,
        access: Access,
        reading: FlowQueries,
        changes: FlowMutations,
        streams: FlowStreams,
        client: Client,
        events: Searched,
        stories: ReleaseEventStreams | None = None,
        namespaces: Sequence[str] = (),
    ) -> None:
        self.access = access
        self._namespaces = namespaces
        self._reading = reading
        self._changes = changes
        self._streams = streams
        self._client = client
        self._events = events
        self._stories = stories

    # --- reading ---

    async def flow(self, who: Caller, namespace: str, name: str) -> Json:
        await self._may(who, access.GET, namespace, name)
        with _problems():
            return await self._reading.flow(namespace, name)

    async def flows(self, who: Caller, wanted: FlowFilter) -> list[Json]:
        """Newest first."""
        await self._may(who, access.LIST, wanted.namespace)
        with _problems():
            return await self._reading.flows(wanted)

    async def watch(self, who: Caller, namespace: str, name: str) -> AsyncGenerator[Json]:
        """Its state now and after every change, until it is deleted."""
        states = self.beats(who, namespace, name)
        try:
            async for state in states:
                if state is not None:
                    yield state
        finally:
            await states.aclose()

    async def beats(
        self, who: Caller, namespace: str, name: str, quiet: float = 3600
    ) -> AsyncGenerator[Json | None]:
        """The same, and None after so many seconds in which nothing happened."""
        await self._may(who, access.WATCH, namespace, name)
        self._one_more()
        with _problems():
            flow = await self._reading.flow(namespace, name)
        with self._streams.of(flow) as stream:
            # a stream that waits keeps no state: there may be many of them
            del flow
            while True:
                while await stream.quiet(quiet):
                    yield None
                state = await anext(stream, None)
                if state is None:
                    return
                yield state
                del state

    async def watch_all(self, who: Caller, wanted: FlowFilter) -> AsyncGenerator[list[Json]]:
        """All that there are, newest first, then each that has changed, for ever."""
        await self._may(who, access.WATCH, wanted.namespace)
        self._one_more()
        with self._streams.of_all(wanted) as stream:
            with _problems():
                found = await self._reading.flows(wanted)
            self._streams.listed(found)
            yield found
            async for state in stream:
                yield [state]

    async def story(
        self, who: Caller, namespace: str, name: str, after: int | None = None
    ) -> AsyncGenerator[StreamedEvent | None]:
        """What happens to it, from the beginning or behind an event that was told already, until it is over.

        None first, and now and then where nothing happens for a while.
        """
        await self._may(who, access.WATCH, namespace, name)
        self._one_more()
        with _problems():
            flow = await self._reading.flow(namespace, name)
        if self._stories is None:
            raise Problem(Kind.UNAVAILABLE, "Unavailable", "events are not served here")

        async def over() -> bool:
            try:
                now = await self._reading.flow(namespace, name)
            except Problem:
                return True
            except (ApiError, Unavailable):
                return False
            same = now["metadata"]["uid"] == flow["metadata"]["uid"]
            return not same or bool(now["status"]["finished"])

        story = self._stories.of(flow, after, over)
        with _problems():
            await anext(story)
        return story

    async def instance(self, who: Caller, namespace: str, name: str) -> Json:
        """Its CloneSet."""
        await self._may(who, access.GET, namespace)
        _fit(NAME, name)
        with _problems():
            found = await self._changes.cloneset(namespace, name)
        if found is None or not _is_ours(found):
            text = f"there is no instance {name} in namespace {namespace}"
            raise Problem(Kind.NOT_FOUND, "NotFound", text)
        return found

    async def instances(self, who: Caller, namespace: str, labels: str = "") -> list[Json]:
        """The CloneSets that Triton made, by name; those with such labels, as `kubectl -l` takes them."""
        await self._may(who, access.LIST, namespace)
        ours = ",".join(f"{name}={value}" for name, value in df.MANAGED_BY.items())
        with _problems():
            found = await self._client.list(
                CLONESETS, namespace, labels=",".join(filter(None, [ours, labels]))
            )
        return sorted(found, key=lambda cloneset: str(cloneset["metadata"]["name"]))

    async def pod(self, who: Caller, namespace: str, name: str) -> Json:
        await self._may(who, access.GET, namespace)
        _fit(NAME, name)
        none = Problem(
            Kind.NOT_FOUND, "NotFound", f"there is no pod {name} of Triton's in namespace {namespace}"
        )
        with _problems():
            try:
                found = await self._client.get(PODS, namespace, name)
            except ApiError as error:
                if error.code == 404:
                    raise none from error
                raise
        if not _is_ours(found):
            raise none
        return found

    async def pods(self, who: Caller, namespace: str, instance: str = "", ip: str = "") -> list[Json]:
        """Those of instances that Triton looks after, oldest first."""
        await self._may(who, access.LIST, namespace)
        labels = df.MANAGED_BY | ({df.INSTANCE_LABEL: instance} if instance else {})
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        with _problems():
            found = await self._client.list(PODS, namespace or None, labels=selector)
        found = [pod for pod in found if ip in {"", (pod.get("status") or {}).get("podIP")}]
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    async def history(
        self,
        who: Caller,
        namespace: str,
        instance: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> list[Json]:
        """What the release log says of an instance, oldest first; the newest `limit` events."""
        await self._may(who, access.LIST, namespace)
        query = Query(namespace=namespace, instance=instance, since=since, until=until, limit=limit)
        with _problems():
            return await self._events.search(query)

    async def plan(self, who: Caller, namespace: str, spec: Json) -> Json:
        """The batches that a release of this spec would have now; nothing is started."""
        await self._may(who, access.GET, namespace)
        with _problems():
            wanted = specs.checked(spec)
            instance = wanted.application.instance_name
            cloneset = await self._changes.cloneset(namespace, instance)
            pods = await self._client.list(PODS, namespace, labels=f"{df.INSTANCE_LABEL}={instance}")
            given = plan_preview.assume(wanted, cloneset, pods)
            try:
                return plan_preview.plan_object(wanted, given, plan_preview.make(wanted, given))
            except ValueError as error:
                raise Problem(Kind.UNPROCESSABLE, "NoPlan", str(error)) from error

    # --- new releases ---

    async def deploy(
        self,
        by: Request,
        namespace: str,
        spec: df.DeployFlowSpec,
        *,
        name: str = "",
        queue: bool = False,
        freeze_override: str = "",
    ) -> Json:
        """A release of any action. `queue`: it may wait for one that runs, else that is a conflict."""
        await self._may_release(by.caller, namespace, spec.action)
        with _problems():
            known = await self._changes.releases(namespace, spec.application.instance_name)
            if made := _made_before(by, known):
                return await self._reading.of(made)
        return await self._begin(
            by, namespace, spec, known, name=name, queue=queue, freeze_override=freeze_override
        )

    async def _begin(
        self,
        by: Request,
        namespace: str,
        spec: df.DeployFlowSpec,
        known: Sequence[Json],
        *,
        name: str = "",
        queue: bool,
        freeze_override: str,
    ) -> Json:
        """A release that may be made and is not yet; `known`: all that its instance has."""
        with _problems():
            if not queue and (running := await self._in_the_way(known, spec)):
                text = (
                    f"{running['metadata']['name']} is releasing {spec.application.instance_name} "
                    f"({running['status']['phase']}): wait for its end, cancel it, or pause it"
                )
                raise Problem(Kind.CONFLICT, "InProgress", text)
            command = DeployCommand(
                id=by.key,
                type=CommandType.DEPLOY,
                namespace=namespace,
                deploy_flow=name or None,
                spec=spec,
                requested_by=by.caller.name,
                freeze_override=freeze_override,
            )
            return await self._made(by, spec.action, await self._changes.carry_out(command))

    async def release(self, by: Request, namespace: str, application: Json, strategy: Json | None) -> Json:
        """A create where the instance does not exist, else an update."""
        await self._may(by.caller, access.CREATE, namespace)
        with _problems():
            instance = str(application.get("instanceName", ""))
            exists = bool(instance) and await self._changes.cloneset(namespace, instance) is not None
            action = df.Action.UPDATE if exists else df.Action.CREATE
            spec = {"action": action, "application": application, "updateStrategy": strategy}
            wanted = specs.checked({key: value for key, value in spec.items() if value is not None})
        return await self.deploy(by, namespace, wanted)

    async def update(
        self,
        by: Request,
        namespace: str,
        instance: str,
        wish: Wish,
        *,
        queue: bool = False,
        freeze_override: str = "",
    ) -> Json:
        """Another image; all else as its last successful release has it."""
        return await self._start(
            by,
            namespace,
            instance,
            lambda known: specs.update(known, wish),
            queue=queue,
            freeze_override=freeze_override,
        )

    async def rollback(
        self, by: Request, namespace: str, instance: str, to: str | None, strategy: Json | None
    ) -> Release:
        """To the release named, else the last successful one before this; whatever runs is taken over."""
        back: list[str] = []

        def build(known: Known) -> df.DeployFlowSpec:
            base, spec = specs.rollback(known, to, strategy or {})
            back.append(base["metadata"]["name"])
            return spec

        flow = await self._start(by, namespace, instance, build, queue=True)
        if not back:
            # the same request again: where it went to is what has its template
            known = await self._changes.releases(namespace, instance)
            back += [found["metadata"]["name"] for found in known if specs.brought_by(flow, found)]
        return Release(flow, back[-1] if back else "")

    async def restart(
        self, by: Request, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._start(
            by, namespace, instance, lambda known: specs.restart(known, strategy), queue=queue
        )

    async def scale(
        self,
        by: Request,
        namespace: str,
        instance: str,
        replicas: int,
        strategy: Json,
        *,
        queue: bool = False,
    ) -> Json:
        """In or out; a `Problem` where it has that many already."""

        def build(known: Known) -> df.DeployFlowSpec:
            spec = specs.scale(known, replicas, strategy)
            if spec is None:
                raise Refusal("NothingToDo", f"{instance} has {replicas} replicas already")
            return spec

        return await self._start(by, namespace, instance, build, queue=queue)

    async def stop(
        self, by: Request, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._start(
            by, namespace, instance, lambda known: specs.stop(known, strategy), queue=queue
        )

    async def start(
        self, by: Request, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        return await self._start(
            by, namespace, instance, lambda known: specs.start(known, strategy), queue=queue
        )

    async def remove(
        self, by: Request, namespace: str, instance: str, strategy: Json, *, queue: bool = False
    ) -> Json:
        """All its pods, drained, then its CloneSet; its DeployFlows stay."""
        return await self._start(
            by, namespace, instance, lambda known: specs.delete(known, strategy), queue=queue
        )

    async def each(
        self,
        by: Request,
        namespace: str,
        labels: str,
        start: Callable[[Request, str], Awaitable[Json]],
    ) -> list[One]:
        """`start` for every instance with such labels, a few side by side: some may do it and others not."""
        await self._may(by.caller, access.CREATE, namespace)
        found = await self.instances(by.caller, namespace, labels)
        if len(found) > MOST:
            text = f"{len(found)} instances fit, {MOST} at most may be changed at once: select fewer"
            raise Problem(Kind.UNPROCESSABLE, "TooManyInstances", text)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(instance: str) -> One:
            own = by._replace(id=f"{by.id} {instance}" if by.id else "")
            async with room:
                try:
                    return One(instance, await start(own, instance))
                except Problem as problem:
                    return One(instance, problem=problem)

        return await asyncio.gather(*(one(cloneset["metadata"]["name"]) for cloneset in found))

    # --- a release under way ---

    async def command(
        self,
        by: Request,
        namespace: str,
        name: str,
        kind: CommandType,
        *,
        target: Target | None = None,
        batch: int | None = None,
        stage: df.BatchPhase | None = None,
        watched: bool = False,
    ) -> Json:
        """next, continue, promote, pause, resume, cancel or retry. `watched`: by somebody who watches it then."""
        right = access.PROMOTE if kind in _AHEAD else access.PATCH
        await self._may(by.caller, right, namespace, name)
        if watched:
            await self._may(by.caller, access.WATCH, namespace, name)
        with _problems():
            command = DeployCommand(
                id=by.key,
                type=kind,
                namespace=namespace,
                deploy_flow=name,
                target=target,
                batch=batch,
                stage=stage,
                requested_by=by.caller.name,
            )
            look = await self._guard(by, command.id, namespace, name)
            return await self._made(by, kind, await self._changes.carry_out(command, look))

    async def patch(self, by: Request, namespace: str, name: str, fields: Json) -> Json:
        """Change its strategy; a field that is null is taken away."""
        await self._may(by.caller, access.PATCH, namespace, name)
        if _OF_GOING_AHEAD & fields.keys():
            await self._may(by.caller, access.PROMOTE, namespace, name)
        with _problems():
            key = by.key
            look = await self._guard(by, key, namespace, name)
            try:
                changed = await self._changes.steer(
                    namespace, name, fields, request_id=key, requested_by=by.caller.name, look=look
                )
            except Unfit as error:
                raise Problem(Kind.UNPROCESSABLE, "Invalid", str(error)) from error
            return await self._made(by, "patch", changed)

    async def delete(self, by: Request, namespace: str, name: str) -> None:
        """A release that is over, from the list of releases."""
        await self._may(by.caller, access.DELETE, namespace, name)
        with _problems():
            command = DeployCommand(
                id=by.key,
                type=CommandType.DELETE,
                namespace=namespace,
                deploy_flow=name,
                requested_by=by.caller.name,
            )
            look = await self._guard(by, command.id, namespace, name)
            flow = await self._reading.flow(namespace, name)
            if not flow["status"]["finished"]:
                text = f"{name} is not over ({flow['status']['phase']}): cancel it first"
                raise Problem(Kind.CONFLICT, "InProgress", text)
            await self._made(by, CommandType.DELETE, await self._changes.carry_out(command, look))

    # ---

    async def _may(self, who: Caller, right: Right, namespace: str, name: str = "") -> None:
        _fit(NAMESPACE, namespace)
        _fit(NAME, name)
        await self.access.allow(who, right, namespace, name)
        if namespace and self._namespaces and namespace not in self._namespaces:
            text = f"nobody would act in namespace {namespace}: this Triton looks after {', '.join(self._namespaces)}"
            raise Problem(Kind.NOT_FOUND, "NotLookedAfter", text)

    def _one_more(self) -> None:
        """Refuses one stream too many: what they take is taken from releases."""
        if len(self._streams) + len(self._stories or ()) >= STREAMS:
            text = f"{STREAMS} streams are open at this planner, no more are: close some, or try another one"
            raise Problem(Kind.TOO_MANY, "TooManyStreams", text, retry_after=5)

    async def _start(
        self,
        by: Request,
        namespace: str,
        instance: str,
        build: Callable[[Known], df.DeployFlowSpec],
        *,
        queue: bool = False,
        freeze_override: str = "",
    ) -> Json:
        await self._may(by.caller, access.CREATE, namespace)
        _fit(NAME, instance)
        with _problems():
            known = await self._changes.known(namespace, instance, pods=True)
            if made := _made_before(by, known.releases):
                return await self._reading.of(made)
            spec = build(known)
        await self._may_release(by.caller, namespace, spec.action)
        return await self._begin(
            by, namespace, spec, known.releases, queue=queue, freeze_override=freeze_override
        )

    async def _may_release(self, who: Caller, namespace: str, action: str) -> None:
        await self._may(who, access.CREATE, namespace)
        if action == df.Action.DELETE:
            await self._may(who, access.DELETE, namespace)

    async def _in_the_way(self, known: Sequence[Json], spec: df.DeployFlowSpec) -> Json | None:
        """The release that the new one would have to wait for."""
        for flow in known:
            if (flow.get("status") or {}).get("finished"):
                continue
            shown = await self._reading.of(flow)
            taken_over = spec.updating and shown["status"].get("paused")
            if not (shown["status"]["finished"] or taken_over):
                return shown
        return None

    async def _guard(self, by: Request, key: str, namespace: str, name: str) -> Callable[[Json], None] | None:
        """Refuses a DeployFlow that is not any more what the caller has seen."""
        if not by.match:
            return None
        shown = await self._reading.flow(namespace, name)
        if key in requests_of(shown["metadata"]["annotations"]):
            return None
        told = Problem(
            Kind.CHANGED,
            "Changed",
            f"{name} has changed since it was read: read it again (If-Match {by.match})",
        )
        tags = {tag.strip() for tag in by.match.split(",")}

        def look(flow: Json) -> None:
            if not tags & {etag(flow), "*"}:
                raise told

        look(shown)
        return lambda live: look(resource(msgspec.convert(live, DeployFlow)))

    async def _made(self, by: Request, what: str, flow: Json) -> Json:
        _changes.labels(what).inc()
        name = flow["metadata"]["name"]
        about = {"triton.deployflow": name, "user.name": by.caller.name}
        _log.info("%s by %s", what, by.caller.name or "somebody", extra=about)
        return await self._reading.of(flow)


def _fit(pattern: str, given: str) -> None:
    """What is no name at all does not get into a path of the API server. Empty where none is given."""
    if given and not (len(given) <= 253 and re.fullmatch(pattern, given)):
        raise Problem(Kind.INVALID, "Invalid", f"{given[:253]!r} is no name of Kubernetes")


def etag(flow: Json) -> str:
    """What tells two states of a DeployFlow apart (RFC 9110, strong)."""
    told = json.dumps([flow["metadata"], flow["spec"], flow["status"]], sort_keys=True, default=str)
    return f'"{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"'


def _made_before(by: Request, known: Sequence[Json]) -> Json | None:
    """What the same request has made already."""
    if not by.id:
        return None
    return next((flow for flow in known if made_by(flow, by.key)), None)


def _is_ours(item: Json) -> bool:
    labels = item["metadata"].get("labels") or {}
    return df.MANAGED_BY.items() <= labels.items()


_REFUSED = {
    "NotFound": Kind.NOT_FOUND,
    "NoRelease": Kind.NOT_FOUND,
    "InvalidArgument": Kind.UNPROCESSABLE,
}
"""All other refusals are conflicts with the state of the release."""


@contextmanager
def _problems() -> Iterator[None]:
    """What goes wrong below, as callers are told of it."""
    try:
        yield
    except Refusal as error:
        kind = _REFUSED.get(error.reason, Kind.CONFLICT)
        raise Problem(kind, error.reason, str(error)) from error
    except Unfit as error:
        # where one field is named, it is read well but does not fit what there is
        kind = Kind.UNPROCESSABLE if error.field else Kind.INVALID
        raise Problem(kind, "Invalid", str(error)) from error
    except ValidationError as error:
        raise Problem(Kind.INVALID, "Invalid", df.problems(error)) from error
    except ApiError as error:
        raise _of_cluster(error) from error
    except Unavailable as error:
        raise Problem(Kind.UNAVAILABLE, "Unavailable", str(error), retry_after=1) from error


def _of_cluster(error: ApiError) -> Problem:
    if error.rights_missing:
        return Problem(Kind.UNAVAILABLE, "RightsMissing", str(error.waited_for("planner")))
    kinds = {
        404: Kind.NOT_FOUND,
        409: Kind.CONFLICT,
        403: Kind.FORBIDDEN,
        422: Kind.INVALID,
        413: Kind.TOO_LARGE,
    }
    return Problem(kinds.get(error.code, Kind.INVALID), error.reason, f"Kubernetes refused: {error}")


__all__ = ["Calls", "FlowFilter", "One", "Release", "Request", "Right", "Target", "etag"]
