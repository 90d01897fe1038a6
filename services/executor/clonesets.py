"""The executor's hands: carries batch commands out on CloneSets, and tells what it sees of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

import msgspec
from prometheus_client import Counter, Histogram

from services.executor.change import Answer, BadTemplate, Create, Delete, Patch, change, trial
from services.executor.extras import only_claims
from services.executor.hooks import with_hooks
from services.executor.writing import guarded, same
from shared.domain import messages as m
from shared.domain.deployflow import FailureReason
from shared.domain.record import Record
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, DEPLOYFLOWS, JSON, PAGE, PODS, ApiError, Client, Json
from shared.kube.clonesets import CloneSet, facts_of
from shared.kube.cluster_events import Involved, Subject
from shared.kube.pods import Pod
from shared.kube.reflector import ListMeta, Reflector, milliseconds
from shared.messaging.background_publisher import BackgroundPublisher
from shared.messaging.kafka import Consumer, Kafka, decode
from shared.observability import tracing
from shared.settings import Settings

CONFLICTS: Final = 10
_results = Counter("triton_batch_results_total", "Answers to batch commands", ["command", "result"])
_durations = Histogram(
    "triton_batch_command_duration_seconds",
    "From a command on Kafka to its answer there",
    ["command"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
)
# a first one is a rise only where there was a 0
for _command in get_args(m.ExecutorCommand):
    _durations.labels(_command.model_fields["type"].default)
_log = logging.getLogger(__name__)
_cloneset = msgspec.json.Decoder(CloneSet)


class _PodList(msgspec.Struct):
    metadata: ListMeta
    items: list[Pod]


_pod_list = msgspec.json.Decoder(_PodList)


def _read(obj: Json) -> CloneSet:
    return _cloneset.decode(msgspec.json.encode(obj))


class CloneSets:
    """The only writer of CloneSets."""

    def __init__(self, client: Client, kafka: Kafka, settings: Settings) -> None:
        self._client = client
        self._kafka = kafka
        self._graceful = settings.graceful_shutdown
        self._consumer: Consumer | None = None
        self._seen: dict[str, object] = {}
        """By uid: what was told last of a CloneSet whose controller had caught up."""
        self.outgoing = BackgroundPublisher(kafka)
        self.reflector = Reflector(
            client,
            CLONESETS,
            CloneSet,
            self._changed,
            namespaces=settings.namespaces,
            labels="managed-by=triton-io",
            silence_seconds=settings.watch_silence_seconds,
        )

    def subject(self, about: Involved) -> Subject | None:
        """What an Event of the cluster is about."""
        live = self.reflector.get(about.namespace, about.name)
        if live is None or live.metadata.uid != about.uid:
            return None
        return Subject(Key(about.namespace, about.name), live.release, live.app)

    def attach(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def handle(self, key: str, records: list[Record]) -> None:  # noqa: ARG002
        for record in records:
            command = decode(record)
            if not isinstance(command, (m.PullIn, m.PullOut)):
                result = await self._carry_out(command)
                with tracing.within(tracing.work(command, "executor")):
                    await self._answer(command, result)
                tracing.tell(_span(command, result, record))
                _durations.labels(command.type).observe(max(time.time() - record.timestamp_ms / 1000, 0))

    async def _answer(self, command: m.ExecutorCommand, result: m.Result) -> None:
        kind = type(result).__name__
        _results.labels(command.type, kind).inc()
        _log.info(
            "%s %s: %s",
            command.type,
            command.sequence,
            kind,
            extra={"triton.deployflow": command.flow.name, "triton.key": str(command.key)},
        )
        await self._kafka.publish([result])

    async def _carry_out(self, command: m.ExecutorCommand) -> m.Result:
        try:
            return await self._attempts(command)
        except BadTemplate as error:
            return m.Refused(**_head(command), reason=FailureReason.INVALID_TEMPLATE, message=str(error))
        except ApiError as error:
            if error.rights_missing:
                raise error.waited_for("executor") from error
            return m.Refused(**_head(command), reason=error.reason, message=str(error))

    async def _attempts(self, command: m.ExecutorCommand) -> m.Result:
        given = command
        live = self.reflector.get(command.namespace, command.instance)
        if live is None or isinstance(command, m.Observe):
            live = await self._live(command)
        for _ in range(CONFLICTS):
            command = with_hooks(given, live, by_setting=self._graceful)
            pods = [] if isinstance(command, (m.Finish, m.Remove)) else await self._pods(command, live)
            todo = change(command, live, pods)
            try:
                match todo:
                    case Answer(result=m.Done() as done) if isinstance(command, m.Observe):
                        return await self._tried(command, live, done)
                    case Answer():
                        return todo.result
                    case Create():
                        if not await self._unfinished(command):
                            text = (
                                f"DeployFlow {command.flow.name} is over or gone: no CloneSet is made for it"
                            )
                            return m.Refused(**_head(command), reason="FlowFinished", message=text)
                        written = await self._client.create(CLONESETS, command.namespace, todo.body)
                        return self._done(command, written, ())
                    case Delete():
                        await self._client.delete(CLONESETS, command.namespace, command.instance, todo.body)
                        return m.Done(**_head(command), cloneset=facts_of(None))
                    case Patch():
                        assert live is not None
                        written = await self._client.patch(
                            CLONESETS,
                            command.namespace,
                            command.instance,
                            guarded(live, todo.body),
                            content_type=JSON,
                        )
                        return self._done(command, written, todo.before)
            except ApiError as error:
                if error.code not in {404, 409, 422}:
                    raise
                now = await self._live(command)
                if error.code == 422 and same(now, live):
                    # no guard that failed, but the API server's or a webhook's word on the change itself
                    raise
                live = now
        msg = f"CloneSet {command.key} keeps changing"
        raise Unavailable(msg)

    def _done(self, command: m.ExecutorCommand, written: Json, before: tuple[m.PodRef, ...]) -> m.Result:
        self.reflector.put(written)
        return m.Done(**_head(command), cloneset=facts_of(_read(written)), pods=list(before))

    async def _tried(self, command: m.Observe, live: CloneSet | None, done: m.Done) -> m.Result:
        """The answer to `observe`, the template tried by a dry run; raises `ApiError` when it is refused."""
        if command.application is None:
            return done
        body = trial(command, live)
        if live is None:
            await self._client.create(CLONESETS, command.namespace, body, dry_run=True)
            return done
        tried = await self._client.patch(CLONESETS, command.namespace, command.instance, body, dry_run=True)
        same = tried["spec"]["template"] == live.spec.template
        if same and (against := only_claims(live, tried)):
            raise BadTemplate(against)
        return done.model_copy(update={"same_template": same})

    async def _live(self, command: m.Command) -> CloneSet | None:
        try:
            return _read(await self._client.get(CLONESETS, command.namespace, command.instance))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _unfinished(self, command: m.Command) -> bool:
        try:
            flow = await self._client.get(DEPLOYFLOWS, command.namespace, command.flow.name)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return flow["metadata"]["uid"] == command.flow.uid and not (flow.get("status") or {}).get("finished")

    async def _pods(self, command: m.Command, live: CloneSet | None) -> list[m.PodRef]:
        """The pods that the CloneSet's controller counts, read live: none that is being deleted or has ended."""
        if live is None:
            return []
        query = {"labelSelector": f"app.kubernetes.io/instance={command.instance}", "limit": str(PAGE)}
        pods: list[m.PodRef] = []
        while True:
            page = _pod_list.decode(await self._client.list_page(PODS, command.namespace, query))
            pods += [_ref(pod) for pod in page.items if _owned(pod, live) and _counts(pod)]
            if not page.metadata.next_page:
                return pods
            query["continue"] = page.metadata.next_page

    def _changed(self, old: CloneSet | None, new: CloneSet | None) -> None:
        cloneset = new or old
        if cloneset is None or self._consumer is None:
            return
        head: Any = {"namespace": cloneset.metadata.namespace, "instance": cloneset.metadata.name}
        if not self._consumer.owns(f"{head['namespace']}/{head['instance']}"):
            return
        facts, uid = facts_of(cloneset), cloneset.metadata.uid
        if new is None:
            self._seen.pop(uid, None)
            if cloneset.sequence:
                self.outgoing.put(m.CloneSetSeen(**head, sequence=cloneset.sequence, cloneset=facts_of(None)))
        elif new.settled and new.sequence and self._seen.get(uid) != _gist(new):
            self._seen[uid] = _gist(new)
            self.outgoing.put(m.CloneSetSeen(**head, sequence=facts.sequence, cloneset=facts))
        for told in _told(old, new):
            self.outgoing.put(
                m.CloneSetEvent(
                    **head,
                    id=f"{uid}:{told.reason}:{told.number}",
                    at=time.time_ns() // 1_000_000,
                    reason=told.reason,
                    message=told.message,
                    cloneset=facts,
                    flow=cloneset.release or (old.release if old else None),
                    app=cloneset.app,
                )
            )

    async def assigned(self, owned: frozenset[int]) -> None:  # noqa: ARG002 - the consumer knows it
        """Partitions are newly given: tell where their CloneSets stand."""
        self._seen.clear()
        for cloneset in self.reflector.items.values():
            if cloneset.sequence:
                self._changed(None, cloneset)


def _span(command: m.ExecutorCommand, result: m.Result, record: Record) -> tracing.Span:
    error = f"{result.reason}: {result.message}" if isinstance(result, m.Refused) else ""
    kind = type(result).__name__
    return tracing.carried_out(command, command.type, record, "executor", error=error, result=kind)


def _head(command: m.Command) -> dict[str, Any]:
    return {"namespace": command.namespace, "instance": command.instance, "sequence": command.sequence}


def _gist(cloneset: CloneSet) -> object:
    """What the planner waits for: which command the CloneSet's controller has caught up with."""
    return (cloneset.sequence, cloneset.status.update_revision, cloneset.spec.replicas)


class _Told(NamedTuple):
    """What the log says of a change; `number` tells it from others of that reason."""

    reason: str
    number: str
    message: str


def _told(old: CloneSet | None, new: CloneSet | None) -> Iterator[_Told]:
    if new is None:
        yield _Told("Deleted", "end", "the CloneSet is gone")
        return
    ours = old is None or old.sequence != new.sequence
    if old is None or ours or _wish(old) != _wish(new):
        spec = f"replicas {new.spec.replicas}, partition {new.spec.update_strategy.get('partition', 0)}"
        by = f" by command {new.sequence}" if ours else " by somebody else"
        yield _Told("SpecChanged", f"{new.metadata.generation}.{new.sequence}", spec + by)
    if old is not None and _counts_of(old) != _counts_of(new):
        status = new.status
        text = f"{status.replicas} pods, {status.updated_replicas} of revision {status.update_revision}"
        yield _Told("StatusChanged", new.metadata.resource_version, text)


def _counts_of(cloneset: CloneSet) -> object:
    return msgspec.structs.replace(cloneset.status, observed_generation=0)


def _wish(cloneset: CloneSet) -> object:
    """What somebody wants of the pods; OpenKruise itself clears the names of pods that it has deleted."""
    return (cloneset.spec.replicas, cloneset.spec.template, cloneset.spec.update_strategy)


def _ref(pod: Pod) -> m.PodRef:
    return m.PodRef(
        uid=pod.metadata.uid,
        name=pod.metadata.name,
        revision=pod.revision,
        gate=pod.gate,
        ready=pod.ready,
        containers_ready=pod.containers_ready,
        created_at=milliseconds(pod.metadata.creation_timestamp),
        drained=pod.drained,
    )


def _counts(pod: Pod) -> bool:
    return not pod.deleting and pod.status.phase not in {"Failed", "Succeeded"}


def _owned(pod: Pod, cloneset: CloneSet) -> bool:
    return any(
        owner.uid == cloneset.metadata.uid and owner.controller for owner in pod.metadata.owner_references
    )
