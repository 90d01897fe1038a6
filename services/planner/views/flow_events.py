"""The events of the release log: the differences between two states of an instance.

An event's id is made from what happened, not from when it was published, so that an event that is published
twice is stored once.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from services.planner.model.release_requester import release_requester
from services.planner.model.state import Batch, Flow, Instance, Strategy
from services.planner.rules import freeze_hold
from services.planner.views.plan_preview import count_of
from services.planner.views.status import waits_for_person
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import BatchPhase, FlowPhase, Mode
from shared.domain.image_changes import describe_images
from shared.domain.messages import FlowEvent, FlowRef, ImageChange
from shared.domain.requesters import show_requester

_DONE_AT: dict[BatchPhase, str] = {
    BatchPhase.SMOKED: "started_at",
    BatchPhase.BAKING: "smoked_at",
    BatchPhase.BAKED: "pulled_in_at",
}
"""The field from which the time that a batch took to reach a phase is counted."""


class _MakeEvent(Protocol):
    def __call__(
        self,
        key: str,
        reason: str,
        message: str,
        batch: Batch | None = None,
        since: int = 0,
        command: str = "",
    ) -> FlowEvent: ...


def events(before: Instance, after: Instance, now: int) -> list[FlowEvent]:
    """Return what happened between two states of an instance; `now` in ms since 1970."""
    known = {flow.uid: flow for flow in before.flows}
    return [
        event
        for flow in after.flows
        if known.get(flow.uid) is not flow
        for event in _flow_events(before, after, known.get(flow.uid), flow, now)
    ]


def _flow_events(
    before: Instance, instance: Instance, old: Flow | None, new: Flow, now: int
) -> Iterator[FlowEvent]:
    by = new.requester if old is None else new.last_requester
    other = release_requester(new) if old is not None else None

    def event(
        key: str,
        reason: str,
        message: str,
        batch: Batch | None = None,
        since: int = 0,
        command: str = "",
    ) -> FlowEvent:
        return FlowEvent(
            namespace=instance.namespace,
            instance=instance.name,
            id=f"{new.uid}:{key}",
            at=now,
            flow=FlowRef(name=new.name, uid=new.uid, release_requester=other),
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
            images=[
                ImageChange(container=one.container, from_image=one.from_image, to_image=one.to_image)
                for one in new.images
            ],
            requested_by=by.requested_by,
            requested_by_claimed=by.requested_by_claimed,
            requested_via=by.requested_via,
            request=new.request if command else "",
            command=command,
            started_at=new.started_at,
            duration_ms=max(now - since, 0) if since else None,
        )

    if old is None:
        text = f"{new.action} of {instance.name} to {new.wanted} replicas"
        yield event("seen", "Received", text, command="rollback" if new.action == "rollback" else "deploy")
    elif old.inherits and not new.inherits and new.last_command == old.last_command:
        text = "takes over the template of the last successful release"
        yield event(f"inherited:{new.generation}", "Inherited", text)
    elif new.generation != old.generation:
        yield from _spec_events(event, old, new)
    for key, reason, text in freeze_hold.freeze_events(old, new):
        yield event(key, reason, text)
    if old is not None and new.total and not old.total:
        text = f"{new.to_process} pods in {new.total} batches"
        yield event("plan", "Planned", ": ".join(filter(None, (text, describe_images(new.images)))))
    for warning in new.warnings if old is None or old.warnings != new.warnings else ():
        # an id of Elasticsearch has 512 bytes at most, and a warning may name many pods
        yield event(f"warning:{sha256(warning.encode()).hexdigest()[:16]}", "Warning", warning)
    if old is not None and new.scaled_to is not None and new.scaled_to != old.scaled_to:
        text = f"scaled to {new.scaled_to} by somebody else: the release leads to that count, before to {old.wanted}"
        # the version distinguishes a count that comes back
        yield event(f"scaled:{before.version}:{new.scaled_to}", "Scaled", text, new.open_batch)
    yield from _batch_events(event, old, new)
    if (stopped := _baked_batch_that_failed(old, new)) is not None:
        text = f"batch {stopped.number} of {new.total} failed: {new.message}"
        yield event(f"batch:{stopped.number}:failed:{stopped.baked_at}", "BatchFailed", text, stopped)
    if (waits := _waits(instance, new)) and waits != _waits(before, old):
        at = f"{new.batch.number}:{new.batch.phase}" if new.batch else "0"
        yield event(f"waits:{at}", "WaitingForNext", waits, new.batch)
    if old is None or new.phase != old.phase:
        yield from _phase_event(event, new)


def _baked_batch_that_failed(old: Flow | None, new: Flow) -> Batch | None:
    """Return the batch that failed just now although it is baked, and stays so: its old pods are not removed."""
    batch = new.open_batch
    failed = new.failed and not (old and old.failed)
    return batch if failed and batch is not None and batch.baked else None


def _waits(instance: Instance, flow: Flow | None) -> str:
    """Return what the active release requires of a person; empty where it waits for nobody."""
    return waits_for_person(instance, flow) if flow is not None and flow is instance.active else ""


class _Request(NamedTuple):
    """One change of the spec, as the command of `docs/deploy-commands.md` that makes it; `change` for any other."""

    command: str
    reason: str
    text: str


def _spec_events(make: _MakeEvent, old: Flow, new: Flow) -> Iterator[FlowEvent]:
    last = new.last_requester
    by = show_requester(last.requested_by, claimed=last.requested_by_claimed, via=last.requested_via)
    for request in _requests(old, new) or [_Request("change", "SpecChanged", "changed the strategy")]:
        key = f"{request.reason}:{new.generation}"
        yield make(
            key, request.reason, f"{by or 'somebody'} {request.text}", new.open_batch, command=request.command
        )


def _requests(old: Flow, new: Flow) -> list[_Request]:
    requests: list[_Request] = []
    before, after = old.strategy, new.strategy
    named = new.last_command.command if new.last_command else ""
    if after.paused and not before.paused:
        requests.append(_Request("pause", "Paused", "paused the release"))
    if before.paused and not after.paused:
        requests.append(_Request("resume", "Resumed", "resumed the release"))
    if after.canceled and not before.canceled:
        requests.append(_Request("cancel", "CancelRequested", "canceled the release"))
    if new.deleting and not old.deleting:
        requests.append(_Request("delete", "DeleteRequested", "deleted the DeployFlow"))
    if after.retries > before.retries:
        requests.append(_Request("retry", "RetryRequested", "retried the failed batch"))
    if (after.batches, after.stage) != (before.batches, before.stage):
        requests.append(_approval(before, after, named))
    elif named == CommandType.PROMOTE and after.mode != before.mode:
        requests.append(_PROMOTION)
    if after.batch_size != before.batch_size:
        text = f"changed the batch size: {before.batch_size or 'all'} → {after.batch_size or 'all'}"
        requests.append(_Request("change", "BatchSizeChanged", text))
    return requests


_PROMOTION: Final = _Request("promote", "GoAhead", "promoted the release: all its batches are approved")


def _approval(before: Strategy, after: Strategy, named: str) -> _Request:
    """Return an approval as the command that its sender `named`; of a change of the spec, as the one that makes it."""
    turned_auto = after.mode == Mode.AUTO != before.mode and after.stage is None
    if named == CommandType.PROMOTE or (
        turned_auto and named not in {CommandType.NEXT, CommandType.CONTINUE}
    ):
        return _PROMOTION
    if after.batches - before.batches in {0, 1} and named != CommandType.CONTINUE:
        return _Request("next", "GoAhead", f"pressed next: {_approved_step(after.batches, after.stage)}")
    stage = f" as far as {after.stage}" if after.stage else ""
    return _Request("continue", "GoAhead", f"approved all batches up to batch {after.batches}{stage}")


def _approved_step(batch: int, stage: BatchPhase | None) -> str:
    match stage:
        case BatchPhase.BAKING:
            return f"batch {batch} takes traffic"
        case BatchPhase.BAKED:
            return f"batch {batch} is accepted"
        case None:
            return f"batch {batch} may start"
        case _:
            return f"batch {batch} may reach {stage}"


def _batch_events(make: _MakeEvent, old: Flow | None, new: Flow) -> Iterator[FlowEvent]:
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
                f"{kind} {batch.number} of {new.total} started: {_pods(batch)}",
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
            text = f"{kind} {batch.number} of {new.total} finished"
            text += f": {count_of(batch.retire, 'old pod')} deleted" if batch.retire else ""
            yield make(f"batch:{batch.number}:finished", "BatchFinished", text, batch, batch.started_at)


def _pods(batch: Batch) -> str:
    if batch.surge:
        return count_of(batch.surge, "new pod")
    return f"{count_of(batch.retire, 'pod')} to delete"


def _phase_event(make: _MakeEvent, new: Flow) -> Iterator[FlowEvent]:
    if new.phase in {FlowPhase.BATCH_STARTED, FlowPhase.BATCH_FINISHED}:
        return  # the events of the batch report it
    text = f"{new.action} ended as {new.phase}" if new.phase.finished else f"{new.action} is {new.phase}"
    text += f": {new.message}" if new.message else ""
    yield make(f"phase:{new.phase}", str(new.phase), text, None, new.started_at if new.phase.finished else 0)
