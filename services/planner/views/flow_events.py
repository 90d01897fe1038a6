"""The story of a release: what has changed between two states of it, as events for the log.

An event's id is made from what happened, not from when it was told: told twice it is one event.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple, Protocol

from services.planner.model.state import Batch, Flow, Instance
from services.planner.rules import freeze_hold
from services.planner.views.status import waits_for_person
from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.messages import FlowEvent, FlowRef

_DONE_AT: dict[BatchPhase, str] = {
    BatchPhase.SMOKED: "started_at",
    BatchPhase.BAKING: "smoked_at",
    BatchPhase.BAKED: "pulled_in_at",
}
"""From when to count how long a batch took to come into a phase."""


class _Tell(Protocol):
    def __call__(
        self,
        what: str,
        reason: str,
        message: str,
        batch: Batch | None = None,
        since: int = 0,
        command: str = "",
    ) -> FlowEvent: ...


def events(before: Instance, now_is: Instance, now: int) -> list[FlowEvent]:
    known = {flow.uid: flow for flow in before.flows}
    return [
        event
        for flow in now_is.flows
        if known.get(flow.uid) is not flow
        for event in _flow_events(before, now_is, known.get(flow.uid), flow, now)
    ]


def _flow_events(
    before: Instance, instance: Instance, old: Flow | None, new: Flow, now: int
) -> Iterator[FlowEvent]:
    def event(
        what: str,
        reason: str,
        message: str,
        batch: Batch | None = None,
        since: int = 0,
        command: str = "",
    ) -> FlowEvent:
        return FlowEvent(
            namespace=instance.namespace,
            instance=instance.name,
            id=f"{new.uid}:{what}",
            at=now,
            flow=FlowRef(name=new.name, uid=new.uid),
            app_id=new.app_id,
            group_id=new.group_id,
            app_name=new.app_name,
            action=new.action,
            reason=reason,
            message=message,
            phase=new.phase,
            batch=batch.number if batch else 0,
            batches=new.total,
            batch_phase=batch.phase if batch else None,
            batch_size=batch.size if batch else 0,
            canary=batch.canary if batch else False,
            failed_replicas=batch.failed_replicas if batch else 0,
            revision=new.target_revision,
            requested_by=new.requested_by,
            request=new.request if command else "",
            command=command,
            started_at=new.started_at,
            duration_ms=max(now - since, 0) if since else None,
        )

    if old is None:
        text = f"{new.action} of {instance.name} to {new.wanted} replicas"
        yield event("seen", "Received", text, command="rollback" if new.action == "rollback" else "deploy")
    elif new.generation != old.generation:
        yield from _spec_events(event, old, new)
    for what, reason, text in freeze_hold.freeze_events(old, new):
        yield event(what, reason, text)
    if old is not None and new.total and not old.total:
        yield event("plan", "Planned", f"{new.to_process} pods in {new.total} batches")
    for warning in new.warnings if old is None or old.warnings != new.warnings else ():
        # an id of Elasticsearch has 512 bytes at most, and a warning may name many pods
        yield event(f"warning:{sha256(warning.encode()).hexdigest()[:16]}", "Warning", warning)
    yield from _batch_events(event, old, new)
    if (waits := _waits(instance, new)) and waits != _waits(before, old):
        at = f"{new.batch.number}:{new.batch.phase}" if new.batch else "0"
        yield event(f"waits:{at}", "WaitingForNext", waits, new.batch)
    if old is None or new.phase != old.phase:
        yield from _phase_event(event, new)


def _waits(instance: Instance, flow: Flow | None) -> str:
    """What the release waits for somebody to let it do; empty where it does not."""
    return waits_for_person(instance, flow) if flow is not None and flow is instance.active else ""


class _Asked(NamedTuple):
    """What somebody asked for: a command of `docs/deploy-commands.md`, or `change` of something else."""

    command: str
    reason: str
    text: str


def _spec_events(make: _Tell, old: Flow, new: Flow) -> Iterator[FlowEvent]:
    by = f" by {new.requested_by}" if new.requested_by else ""
    for asked in _asked(old, new) or [_Asked("change", "SpecChanged", "strategy changed")]:
        what = f"{asked.reason}:{new.generation}"
        yield make(what, asked.reason, asked.text + by, new.open_batch, command=asked.command)


def _asked(old: Flow, new: Flow) -> list[_Asked]:
    asked: list[_Asked] = []
    a, b = old.strategy, new.strategy
    if b.paused != a.paused:
        asked.append(
            _Asked("pause", "Paused", "paused") if b.paused else _Asked("resume", "Resumed", "resumed")
        )
    if b.canceled and not a.canceled:
        asked.append(_Asked("cancel", "CancelRequested", "to be canceled"))
    if new.deleting and not old.deleting:
        asked.append(_Asked("delete", "DeleteRequested", "to be deleted"))
    if b.retries > a.retries:
        asked.append(_Asked("retry", "RetryRequested", "the batch that failed is to be made anew"))
    if (b.batches, b.stage) != (a.batches, a.stage):
        far = f"batch {b.batches}" + (f" up to {b.stage}" if b.stage else "")
        command = "next" if b.batches - a.batches in {0, 1} else "continue"
        asked.append(_Asked(command, "GoAhead", f"let go as far as {far}"))
    if b.batch_size != a.batch_size:
        text = f"batch size {a.batch_size or 'all'} → {b.batch_size or 'all'}"
        asked.append(_Asked("change", "BatchSizeChanged", text))
    return asked


def _batch_events(make: _Tell, old: Flow | None, new: Flow) -> Iterator[FlowEvent]:
    before = {batch.number: batch for batch in old.batches} if old else {}
    for batch in new.batches:
        known = before.get(batch.number)
        if known is batch or (
            known and known.phase == batch.phase and bool(known.finished_at) == bool(batch.finished_at)
        ):
            continue
        kind = "canary" if batch.canary else "batch"
        if known is None:
            yield make(
                f"batch:{batch.number}:started",
                "BatchStarted",
                f"{kind} {batch.number} of {new.total}: {_moves(batch)}",
                batch,
            )
        if known is None or known.phase != batch.phase:
            since = getattr(batch, _DONE_AT.get(batch.phase, "started_at")) or batch.started_at
            text = f"{kind} {batch.number} of {new.total} is {batch.phase}"
            text += f": {batch.message}" if batch.message else ""
            yield make(
                f"batch:{batch.number}:{batch.phase}:{batch.surged_at if batch.failed_replicas else 0}",
                f"Batch{batch.phase}",
                text,
                batch,
                0 if batch.phase == BatchPhase.SMOKING else since,
            )
        if batch.finished_at and not (known and known.finished_at):
            text = f"{kind} {batch.number} of {new.total} is finished"
            text += f": {batch.retire} old pods gone" if batch.retire else ""
            yield make(f"batch:{batch.number}:finished", "BatchFinished", text, batch, batch.started_at)


def _moves(batch: Batch) -> str:
    return f"{batch.surge} new pods" if batch.surge else f"{batch.retire} pods go"


def _phase_event(make: _Tell, new: Flow) -> Iterator[FlowEvent]:
    if new.phase in {FlowPhase.BATCH_STARTED, FlowPhase.BATCH_FINISHED}:
        return  # the batch's own events say it
    text = f"{new.action} is {new.phase}"
    text += f": {new.message}" if new.message else ""
    yield make(f"phase:{new.phase}", str(new.phase), text, None, new.started_at if new.phase.finished else 0)
