"""Makes decisions durable: load, decide, compare-and-set, publish, in this order.

State and the messages decided on are one write in Redis; what was written and not published yet is published
when the instance is processed again, here or by the replica that takes over. The next write, or a check a little later,
records that it was published: a replica that takes over before then publishes it a second time, which every consumer
accepts. A state that Redis lost is written again from memory; where no replica holds it, it is rebuilt.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from prometheus_client import Counter

from services.planner.decision.apply_facts import Fact, make_flow
from services.planner.decision.command_factory import parse_command
from services.planner.decision.deadlines import next_deadline
from services.planner.decision.decide import Decision, decide
from services.planner.decision.scheduling import find_inheriting
from services.planner.model.state import Flow, Instance, Step
from services.planner.model.stored_state import dump, load
from services.planner.recovery.legacy_takeover import is_begun_by_legacy
from services.planner.recovery.rebuild import rebuild
from services.planner.rules.freeze_hold import Windows
from services.planner.rules.predecessors import needs_predecessors
from services.planner.runtime.flow_cache import FlowCache
from services.planner.views import metrics, spans
from shared.clock import now_milliseconds
from shared.domain.managed_namespaces import NOT_LOOKED_AFTER
from shared.domain.messages import TOPIC_OF, Command, FlowEvent, Message, Refused, SpecObserved
from shared.domain.record import Record
from shared.domain.topics import BATCH_COMMANDS, DEPLOY_COMMANDS, DEPLOYFLOW_EVENTS, Key
from shared.errors import Unavailable, Unpublishable
from shared.messaging.consumer import decode
from shared.messaging.kafka import Kafka
from shared.observability import tracing
from shared.status_store import StatusStore

CONFLICTS = 10
"""Another replica writes the same instance only around a rebalance; more in a row is a fault."""

_issued = Counter("triton_batch_commands_total", "Commands issued", ["type"])
_log = logging.getLogger(__name__)

Outbox = list[tuple[str, str]]
"""(topic, value) of messages to publish, in order; the key is the instance's."""


class Held(NamedTuple):
    """An instance with the version that Redis has of it (0: none).

    `outbox`: what may not be published yet. `lost`: Redis has an older copy, or none.
    """

    instance: Instance
    stored: int
    outbox: Sequence[tuple[str, str]] = ()
    lost: bool = False


class InstanceProcessor:
    """Processes the instances of this replica; every write checks the copy that is held in memory.

    `published` is called with each event of a release that is on Kafka, after a crash perhaps a second time.
    """

    def __init__(
        self,
        store: StatusStore,
        kafka: Kafka,
        flows: FlowCache,
        changed: Callable[[Instance], None],
        windows: Callable[[str], Windows],
        is_terminating: Callable[[str], bool],
        fill_in: Callable[[Instance, Flow], Awaitable[Fact]],
        published: Callable[[FlowEvent], None] = lambda _: None,
        *,
        resend_seconds: float,
        finished_ttl_seconds: int,
    ) -> None:
        self._store = store
        self._kafka = kafka
        self._flows = flows
        self._fill_in = fill_in
        self._event_published = published
        self._changed = changed
        self._windows = windows
        self._is_terminating = is_terminating
        self._resend_ms = int(resend_seconds * 1000)
        self._ttl = finished_ttl_seconds
        self._held: dict[Key, Held] = {}
        self._doubted: dict[Key, Held] = {}
        """Those of which Redis has another version than was written last: newer, or lost."""
        self._published: dict[Key, int] = {}
        """Versions whose outbox is published, which Redis does not know yet."""
        self._refused: dict[Key, list[Fact]] = {}
        """The commands that Kafka has refused, until it is decided what that means for their release."""

    def versions(self) -> dict[Key, int]:
        return {key: held.stored for key, held in self._held.items()}

    def forget(self) -> None:
        """Drop all from memory: they are read again when they are needed next."""
        self._held.clear()
        self._doubted.clear()

    def doubt(self, keys: Sequence[Key]) -> None:
        """Compare these with Redis and `.status` when they are needed next: the newest is right."""
        for key in keys:
            if (held := self._held.pop(key, None)) is not None:
                self._doubted[key] = held

    async def handle(self, name: str, records: list[Record]) -> None:
        """Decide on the facts of one instance; those of namespaces that this Triton does not manage are left out.

        Raises `Unavailable`.
        """
        key = Key.parse(name)
        if not self._flows.manages(key.namespace):
            # a deadline or an outbox from before somebody narrowed the setting, or a replica with another one
            _log.warning("%s: not in TRITON_NAMESPACES", NOT_LOOKED_AFTER, extra={"triton.key": name})
            return
        facts: list[Fact] = [fact for fact in map(decode, records) if not self._is_outdated(fact)]
        for _ in range(CONFLICTS):
            held = await self._catch_up(key, self._held.get(key) or await self._load(key, facts))
            facts += self._refused.pop(key, [])
            asks = needs_predecessors(held.instance)
            decision = decide(
                held.instance,
                facts,
                now_milliseconds(),
                resend_ms=self._resend_ms,
                windows=self._windows(key.namespace),
                predecessors=self._flows.predecessors(key) if asks else (),
                terminating=self._is_terminating(key.namespace),
            )
            unchanged = decision.instance is held.instance and not held.lost
            if unchanged or await self._write(key, held, decision):
                facts = self._refused.pop(key, [])
                if (waiting := find_inheriting(decision.instance)) is not None:
                    facts.append(await self._fill_in(decision.instance, waiting))
                if not facts:
                    return
            else:
                self.doubt([key])
        msg = f"{key}: somebody else keeps writing this instance"
        raise Unavailable(msg)

    def _is_outdated(self, fact: Fact) -> bool:
        """Decide whether a spec was observed before its release finished: after a loss of Redis it would begin again."""
        if not isinstance(fact, SpecObserved) or fact.status.get("finished"):
            return False
        flow = self._flows.get(fact.namespace, fact.flow.name)
        return flow is not None and flow.metadata.uid == fact.flow.uid and flow.finished

    async def _load(self, key: Key, facts: Sequence[Fact]) -> Held:
        stored = await self._store.load(key)
        new = {
            fact.flow.uid
            for fact in facts
            if isinstance(fact, SpecObserved)
            and not fact.status.get("version")
            and not is_begun_by_legacy(fact.status)
        }
        specs = [spec for spec in self._flows.of_instance(key) if spec.flow.uid not in new]
        behind = max((int(spec.status.get("version") or 0) for spec in specs), default=0)
        known = self._doubted.pop(key, None)
        written = stored.version if stored is not None else 0
        if known is not None and known.instance.version > written and known.instance.version >= behind:
            _log.warning("Redis has lost it: writing it again from memory", extra={"triton.key": str(key)})
            held = known._replace(stored=written, lost=True)
        elif stored is not None and written >= behind:
            outbox = msgspec.json.decode(stored.outbox, type=list[tuple[str, str]]) if stored.outbox else ()
            held = Held(load(stored.state), written, outbox)
            self._changed(held.instance)
        else:
            instance = rebuild(key, specs, make_flow, now_milliseconds())
            if stored is not None or behind:
                _log.warning("rebuilt from .status (version %s)", behind, extra={"triton.key": str(key)})
            if instance.active is not None and instance.active.step == Step.TAKE_OVER:
                _log.warning(
                    "taking over what Triton 0.1.x began",
                    extra={"triton.key": str(key), "triton.deployflow": instance.active.name},
                )
            held = Held(instance, written)
        self._held[key] = held
        return held

    async def _catch_up(self, key: Key, held: Held) -> Held:
        """Publish what may not be published yet."""
        if held.outbox:
            await self._publish(key, held.outbox)
            if not held.lost:
                await self._store.published(key, held.stored)
            held = self._held[key] = held._replace(outbox=())
        return held

    async def _write(self, key: Key, held: Held, decision: Decision) -> bool:
        instance = decision.instance
        outbox = await self._outbox(decision)
        idle = instance.active is None and not instance.waiting
        done = await self._store.commit(
            key,
            expected=held.stored,
            version=instance.version,
            state=dump(instance),
            outbox=msgspec.json.encode(outbox) if outbox else b"",
            deadline=next_deadline(instance, now_milliseconds(), resend_ms=self._resend_ms),
            ttl_seconds=self._ttl if idle else None,
        )
        if not done:
            return False
        self._held[key] = Held(instance, instance.version, outbox)
        self._changed(instance)
        self._published.pop(key, None)
        if outbox:
            await self._publish(key, outbox)
            self._held[key] = Held(instance, instance.version)
            if idle:
                await self._store.published(key, instance.version)
            else:
                self._published[key] = instance.version
        if idle and not instance.finished:
            self._held.pop(key, None)
        metrics.count(instance, decision.events)
        tracing.export(*spans.spans(instance, decision.events))
        return True

    async def note_published(self) -> None:
        """Record in Redis what has been published since the last write of each instance."""
        while self._published:
            key, version = self._published.popitem()
            await self._store.published(key, version)

    async def _outbox(self, decision: Decision) -> Outbox:
        messages: list[Message] = []
        for command in decision.commands:
            complete = await self._with_application(command)
            if complete is None:
                continue  # its DeployFlow is gone: the cancel that follows needs no template
            messages.append(complete)
            _issued.labels(complete.model_dump(include={"type"})["type"]).inc()
        messages += decision.events
        published = [(TOPIC_OF[type(message)], message.model_dump_json()) for message in messages]
        requests = [request.model_dump_json(exclude_none=True) for request in decision.requests]
        return published + [(DEPLOY_COMMANDS, value) for value in requests]

    async def _with_application(self, command: Command) -> Command | None:
        application: Any = getattr(command, "application", None)
        if application is None:
            return command
        application = await self._flows.application(command.namespace, command.flow.name)
        return command.model_copy(update={"application": application}) if application else None

    async def _publish(self, key: Key, outbox: Sequence[tuple[str, str]]) -> None:
        """Publish the messages. A command that Kafka refuses fails its release, as one that the cluster refuses does."""
        try:
            await self._kafka.send([(topic, str(key), value.encode()) for topic, value in outbox])
        except Unpublishable as error:
            for place, fault in error.faults.items():
                topic, value = outbox[place]
                _log.error(
                    "%s: not published: %s: %s",
                    topic,
                    fault.reason,
                    fault.message,
                    extra={"triton.key": str(key)},
                )
                if topic == BATCH_COMMANDS:
                    command = parse_command(value)
                    about = {
                        "reason": fault.reason,
                        "message": f"the command {command.sequence}: {fault.message}",
                    }
                    refused = Refused(**key._asdict(), sequence=command.sequence, **about)
                    self._refused.setdefault(key, []).append(refused)
        for topic, value in outbox:
            if topic == DEPLOYFLOW_EVENTS:
                self._event_published(FlowEvent.model_validate_json(value))
