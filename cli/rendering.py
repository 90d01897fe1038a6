"""A DeployFlow as lines of text for people; independent of any terminal."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

from cli.headline import headline, images, ways
from cli.outcome import FAILED_PHASES, is_stopped
from cli.output import age, clock, parse_time, table, zone
from shared.domain.deployflow import FailureReason, set_fields
from shared.domain.image_changes import changes_in, describe_images
from shared.domain.json_types import Json
from shared.domain.requesters import show_requester
from shared.releases.specs import Known

COUNTED = ("Pending", "Running", "Ready", "Failed")
_COUNTED_AS = {"ContainersReady": "Running"}
"""Containers that are ready without traffic are running pods; all other phases count as themselves."""
_STAGES = ("Pending", "Smoking", "Smoked", "Baking", "Baked")


class Pod(NamedTuple):
    name: str
    phase: str
    reason: str


class Batch(NamedTuple):
    """The progress of one batch. `share`: how much of it is done, from 0 to 1."""

    number: int
    size: int
    canary: bool
    phase: str
    share: float
    finished: bool
    message: str
    pods: tuple[Pod, ...]

    @property
    def title(self) -> str:
        return f"canary {self.number}" if self.canary else f"batch {self.number}"

    @property
    def failed(self) -> bool:
        return self.phase in FAILED_PHASES


class Progress(NamedTuple):
    """The progress of a release, as the live view and the plain lines show it."""

    name: str
    instance: str
    action: str
    phase: str
    finished: bool
    batches: tuple[Batch, ...]
    total: int
    finished_batches: int
    finished_replicas: int
    to_process: int
    counters: tuple[tuple[str, int], ...]
    waits: str
    """The reason that it waits and the command that continues it; empty while it waits for nothing."""


def phase_of(flow: Json) -> str:
    """Return the phase for people: a release that stands at a failed batch is Failed, though it may be retried."""
    return "Failed" if is_stopped(flow) else str(status_of(flow).get("phase") or "Pending")


def status_of(flow: Json) -> Json:
    return flow.get("status") or {}


def progress(flow: Json) -> Progress:
    status = status_of(flow)
    conditions: list[Json] = status.get("conditions") or []
    batches = tuple(_batch(condition) for condition in conditions)
    return Progress(
        name=flow["metadata"]["name"],
        instance=flow["spec"]["application"]["instanceName"],
        action=flow["spec"]["action"],
        phase=phase_of(flow),
        finished=bool(status.get("finished")),
        batches=batches,
        total=max(status.get("batches", 0), len(batches)),
        finished_batches=status.get("finishedBatches", 0),
        finished_replicas=status.get("finishedReplicas", 0),
        to_process=status.get("replicasToProcess", 0),
        counters=counters(batches),
        waits=waits_for(flow),
    )


def _batch(condition: Json) -> Batch:
    pods = tuple(Pod(pod["name"], pod["phase"], pod.get("reason", "")) for pod in condition.get("pods") or [])
    phase = condition["phase"]
    finished = bool(condition.get("finishedAt"))
    return Batch(
        number=condition["batch"],
        size=condition["batchSize"],
        canary=bool(condition.get("canary")),
        phase=phase,
        share=1.0 if finished else _share(phase, condition["batchSize"], pods),
        finished=finished,
        message=condition.get("message", ""),
        pods=pods,
    )


def _share(phase: str, size: int, pods: tuple[Pod, ...]) -> float:
    """Estimate the share: 45% for ready containers, 45% for traffic, the rest for the deletion of old pods."""
    if phase not in _STAGES or not size:
        return 0.0
    ready = sum(pod.phase == "Ready" for pod in pods) / size
    started = sum(pod.phase in {"Ready", "ContainersReady"} for pod in pods) / size
    return min(0.45 * started + 0.45 * ready, 0.9)


def counters(batches: tuple[Batch, ...]) -> tuple[tuple[str, int], ...]:
    """Count the new pods of the release by phase."""
    count = Counter(_COUNTED_AS.get(pod.phase, pod.phase) for batch in batches for pod in batch.pods)
    return tuple((phase, count[phase]) for phase in COUNTED)


def waits_for(flow: Json) -> str:
    """Return what an unfinished release waits for, and the command that continues it."""
    status = status_of(flow)
    name = flow["metadata"]["name"]
    if status.get("finished"):
        return ""
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    conditions = status.get("conditions") or []
    if conditions and conditions[-1]["phase"] in FAILED_PHASES:
        why = message or conditions[-1].get("message", "")
        return f"stopped, {conditions[-1]['phase']}: {why} → triton retry {name}, triton cancel {name} or {_back(flow)}"
    if reason == "WaitingForNext":
        return f"{message} → triton next {name}"
    if status.get("paused") and reason == FailureReason.PROGRESS_DEADLINE_EXCEEDED:
        return f"stopped: {message} → triton retry {name}, triton cancel {name} or {_back(flow)}"
    if reason == "Paused" or status.get("paused"):
        return f"{message or 'paused'} → triton resume {name}"
    if reason and reason != "Warning":
        return message or reason
    return ""


def _back(flow: Json) -> str:
    return f"triton rollback {flow['spec']['application']['instanceName']}"


def heading(view: Progress) -> str:
    """Return `web-a (update of web): BatchStarted, 2 of 5 batches, 4 of 10 pods`."""
    text = f"{view.name} ({view.action} of {view.instance}): {view.phase}"
    if view.total:
        text += f", {view.finished_batches} of {view.total} batches"
        text += f", {view.finished_replicas} of {view.to_process} pods"
    return text


def counted(view: Progress) -> str:
    return "  ".join(f"{phase} {count}" for phase, count in view.counters)


def changes(before: Progress | None, after: Progress) -> list[str]:
    """Return the differences between two states as lines for an output that is no terminal."""
    lines: list[str] = []
    if before is None or before.phase != after.phase:
        lines.append(heading(after))
    known = {batch.number: batch for batch in before.batches} if before else {}
    for batch in after.batches:
        lines += _batch_changes(known.get(batch.number), batch, after.total)
    if after.waits and (before is None or before.waits != after.waits):
        lines.append(waits_line(after.waits))
    return lines


def waits_line(waits: str) -> str:
    """Return `waits: …`, once where the reason begins so itself."""
    return waits if waits.startswith("waits ") else f"waits: {waits}"


def _batch_changes(before: Batch | None, after: Batch, total: int) -> list[str]:
    lines: list[str] = []
    title = f"{after.title} of {total}"
    if before is None or before.phase != after.phase:
        # why it failed is in what the release waits for
        lines.append(f"{title}: {after.phase}, {len(after.pods)} of {after.size} pods")
    if after.finished and not (before and before.finished):
        lines.append(f"{title}: finished")
    phases = {pod.name: pod.phase for pod in before.pods} if before else {}
    for pod in after.pods:
        if phases.get(pod.name) != pod.phase:
            reason = f" ({pod.reason})" if pod.reason else ""
            lines.append(f"  {pod.name}: {pod.phase}{reason}")
    return lines


# --- get and describe ------------------------------------------------------------------------------------

_WITH_TEMPLATE = ("create", "update", "rollback")
"""The actions whose new pods have a revision of their own."""
_DONE = {
    "create": "made",
    "scale_out": "made",
    "start": "made",
    "scale_in": "deleted",
    "stop": "deleted",
    "delete": "deleted",
}
_MOST_WITH_PODS = 3
"""Of more batches, those that have finished are a line each; JSON and YAML have their pods."""
_IMAGES = "IMAGES"
WIDE_COLUMNS = (_IMAGES, "REQUESTED BY")
FLOW_COLUMNS = ("NAME", "ACTION", "INSTANCE", "PHASE", "BATCHES", "PODS", "WAITING FOR", "AGE")


def flow_table(
    flows: list[Json],
    now: datetime,
    *,
    wide: bool = False,
    namespaces: bool = False,
    width: int | None = None,
) -> list[str]:
    """Return the table of releases, with their images where these fit; `width`: of the terminal, None for any.

    `wide`: with image and requester, `namespaces`: with the namespace of each.
    """
    header = [*(["NAMESPACE"] if namespaces else []), *FLOW_COLUMNS]
    rows = [_flow_row(flow, now, namespaces=namespaces) for flow in flows]
    pictured = [(*row, _image_words(flow) or "-") for row, flow in zip(rows, flows, strict=True)]
    if wide:
        complete = [
            (*row, _requester(status_of(flow)) or "-") for row, flow in zip(pictured, flows, strict=True)
        ]
        return table([*header, *WIDE_COLUMNS], complete, width=width)
    lines = table([*header, _IMAGES], pictured)
    fits = width is None or max(map(len, lines)) <= width
    return lines if fits else table(header, rows, width=width)


def _flow_row(flow: Json, now: datetime, *, namespaces: bool) -> tuple[str, ...]:
    view = progress(flow)
    return (
        *([str(flow["metadata"].get("namespace") or "-")] if namespaces else []),
        view.name,
        view.action,
        view.instance,
        view.phase,
        f"{view.finished_batches}/{view.total}" if view.total else "-",
        f"{view.finished_replicas}/{view.to_process}" if view.total else "-",
        waiting_word(flow) or "-",
        age(flow["metadata"].get("creationTimestamp"), now),
    )


def _image_words(flow: Json) -> str:
    """Return the images that the release changes; those that it brings where it changes none, or is not planned yet."""
    brought = images(flow["spec"]["application"].get("template"))
    return describe_images(changes_in(status_of(flow))) or ", ".join(brought)


def _images_line(flow: Json) -> str:
    whole, changes = images(flow["spec"]["application"].get("template")), changes_in(status_of(flow))
    if not changes:
        return ", ".join(whole) or "-"
    text = describe_images(changes)
    return text if len(changes) == len(whole) == 1 else f"{', '.join(whole)} ({text})"


def waiting_word(flow: Json) -> str:
    """Return in one word what it waits for."""
    status = status_of(flow)
    if status.get("finished"):
        return ""
    conditions = status.get("conditions") or []
    if conditions and conditions[-1]["phase"] in FAILED_PHASES:
        return str(conditions[-1]["phase"])
    reason = str(status.get("reason") or "")
    return "" if reason == "Warning" else reason


def _requester(request: Json) -> str:
    return show_requester(
        request.get("requestedBy") or "",
        claimed=request.get("requestedByClaimed") is True,
        via=request.get("requestedVia") or "",
    )


def _last_command(status: Json) -> str:
    last = status.get("lastCommand") or {}
    by = _requester(last)
    return f"{last.get('command', '')} by {by}" if by else last.get("command", "")


def describe(flow: Json, now: datetime, known: Known | None = None) -> list[str]:
    """Return the answer in one line, what can be done, and all details. `known`: the instance, for a rollback's target."""
    view, status = progress(flow), status_of(flow)
    application = flow["spec"]["application"]
    strategy = set_fields(flow["spec"].get("updateStrategy") or flow["spec"].get("nonUpdateStrategy") or {})
    answer = headline(flow, now, known)
    message = str(status.get("message") or "")
    lines = [f"{view.name}: {answer}"]
    if found := ways(flow, known):
        widest = max(len(way.command) for way in found)
        lines += [f"  {way.command:<{widest}}   {way.effect}" for way in found]
    fields = [
        ("Namespace", flow["metadata"].get("namespace", "")),
        ("Action", view.action),
        (
            "Application",
            f"{application['appName']} (app {application['appID']}, group {application['groupID']})",
        ),
        ("Instance", f"{view.instance}, {application.get('replicas', 1)} replicas wanted"),
        ("Images", _images_line(flow)),
        ("Strategy", ", ".join(f"{key} {_short(value)}" for key, value in strategy.items()) or "defaults"),
        ("Requested by", _requester(status) or "-"),
        *([("Last command", last)] if (last := _last_command(status)) else []),
        ("Phase", view.phase + (f" ({status['reason']})" if status.get("reason") else "")),
        *([("Message", message)] if message not in answer else []),
        ("Revision", status.get("updateRevision") or "-"),
        ("Batches", f"{view.finished_batches} of {view.total} finished"),
        ("Pods", _pods_line(view, status)),
        ("Created", f"{age(flow['metadata'].get('creationTimestamp'), now)} ago"),
        ("Times", f"{_times(status)} ({zone()})"),
    ]
    width = max(len(label) for label, _ in fields) + 1
    lines += ["", *(f"{label + ':':<{width}} {value}" for label, value in fields)]
    brief = len(view.batches) > _MOST_WITH_PODS
    for condition, batch in zip(status.get("conditions") or [], view.batches, strict=True):
        if brief and batch.finished:
            lines += [*([""] if batch.number == 1 else []), _batch_title(condition, batch)]
        else:
            lines += ["", *_describe_batch(condition, batch, message)]
    return lines


def _pods_line(view: Progress, status: Json) -> str:
    ready, new_ready = status.get("availableReplicas", 0), status.get("updatedReadyReplicas", 0)
    done = f"{view.finished_replicas}/{view.to_process} {_DONE.get(view.action, 'replaced')}"
    if view.action in _WITH_TEMPLATE:
        parts = [
            f"new {new_ready}/{status.get('updatedReplicas', 0)} ready",
            f"old {ready - new_ready} serving",
        ]
    else:
        parts = [f"{ready}/{status.get('replicas', 0)} ready"]
    failed = status.get("failedReplicas", 0)
    return " · ".join([*parts, done, *([f"{failed} failed"] if failed else [])])


def _batch_title(condition: Json, batch: Batch) -> str:
    title = f"{batch.title.capitalize()}, {batch.size} {'pod' if batch.size == 1 else 'pods'}: {batch.phase}"
    return f"{title}{', finished' if batch.finished else ''}  ({_times(condition)})"


def _describe_batch(condition: Json, batch: Batch, said: str) -> list[str]:
    """Return the lines of a batch, without its message where that has been `said`."""
    lines = [_batch_title(condition, batch)] + (
        [f"  {batch.message}"] if batch.message and batch.message not in said else []
    )
    rows = [
        (
            f"  {pod['name']}",
            pod["phase"],
            pod.get("ip") or "-",
            pod.get("pullInStatus") or "-",
            pod.get("reason") or "-",
        )
        for pod in condition.get("pods") or []
    ]
    lines += table(("  POD", "PHASE", "IP", "PULL-IN", "REASON"), rows) if rows else []
    return lines + _describe_failed(condition.get("pods") or [])


def _describe_failed(pods: list[Json]) -> list[str]:
    """Return why and since when pods failed their batch, the last event, and the last lines of the log.

    Pods that failed in the same way are described once, by the first of them.
    """
    lines: list[str] = []
    alike: dict[tuple[str, ...], list[Json]] = {}
    for pod in pods:
        if any(pod.get(field) for field in ("message", "event", "log", "since")):
            alike.setdefault((str(pod.get("reason")), _kind_of(pod)), []).append(pod)
    for first, *others in alike.values():
        why = (
            ": ".join(text for text in (first.get("reason"), first.get("message")) if text) or first["phase"]
        )
        since = f", since {clock(first['since'])[:-2]}" if first.get("since") else ""
        rest = f" and {len(others)} more alike" if others else ""
        lines.append(f"  {first['name']}{rest}: {why}{since}")
        if first.get("event"):
            lines.append(f"    last event: {first['event']}")
        if first.get("log"):
            lines += ["    last lines of its log:", *(f"      {line}" for line in first["log"].splitlines())]
    return lines


def _kind_of(pod: Json) -> str:
    """Return the message without what differs between pods that fail in the same way: the name and numbers."""
    text = str(pod.get("message") or "").replace(pod["name"], "")
    return "".join(" " if letter.isdigit() else letter for letter in text)


def _times(timed: Json) -> str:
    text = f"started {clock(timed.get('startedAt'))}"
    if timed.get("pulledInAt"):
        text += f", pulled in {clock(timed['pulledInAt'])}"
    if timed.get("finishedAt"):
        text += f", finished {clock(timed['finishedAt'])}"
    start, end = parse_time(timed.get("startedAt")), parse_time(timed.get("finishedAt"))
    return f"{text}, took {(end - start).total_seconds():.1f} s" if start and end else text


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
