"""The release log as lines of text. Pure.

The log has documents of several kinds. A reader wants them in one order: what happened when, counted from the
start of the release, the pods between the batches that they belong to, who approved it, and how it ended.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Final, NamedTuple

from cli.output import span
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import PodTransition
from shared.domain.requesters import show_requester
from shared.event_store import Stream, dataset

BATCH_FAILED: Final = frozenset({"batch-smoke-failed", "batch-bake-failed"})


class Tone(StrEnum):
    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    HEAD = "bold"


class Line(NamedTuple):
    text: str
    tone: Tone = Tone.PLAIN


@dataclass
class _Release:
    name: str
    start: datetime
    last: datetime
    phase: str = FlowPhase.PENDING
    batches: int = 0
    began: dict[int, datetime] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    """Seconds that each new pod took from its creation to ready containers."""
    failed: set[str] = field(default_factory=set)
    summarized: bool = False
    stands: bool = False
    """Its last batch failed, and nothing has continued it since."""

    @property
    def finished(self) -> bool:
        return FlowPhase(self.phase).finished


class LogText:
    """Turns documents, in order, into lines. `everything`: includes documents that only repeat others."""

    def __init__(self, zone: tzinfo | None = None, *, everything: bool = False) -> None:
        self._zone = zone
        self._everything = everything
        self._releases: dict[str, _Release] = {}
        self._current: _Release | None = None

    @property
    def finished(self) -> bool:
        """Return whether every release in the text is finished."""
        return bool(self._releases) and all(release.finished for release in self._releases.values())

    def add(self, document: Json) -> list[Line]:
        """Return the lines about one more event."""
        if is_of(document, Stream.DEPLOYFLOW):
            return self._flow(document)
        self._count(document)
        return self._other(document) if self._everything or _is_new(document) else []

    def end(self) -> list[Line]:
        """Return the summary of each release that has none yet."""
        return self._summaries(self._releases.values())

    def _summaries(self, releases: Collection[_Release]) -> list[Line]:
        """Return the summaries; they follow a release's last pod events, so they are not made at its end."""
        lines = [_summary(release) for release in releases if not release.summarized]
        for release in releases:
            release.summarized = True
        return lines

    def _flow(self, document: Json) -> list[Line]:
        triton, at = document["triton"], time_of(document)
        release = self._releases.get(triton["uid"])
        lines: list[Line] = []
        if release is None:
            lines += self._summaries([other for other in self._releases.values() if other.finished])
            release = self._releases[triton["uid"]] = _Release(triton["deployflow"], at, at)
            lines.append(Line(self._headline(document), Tone.HEAD))
        self._current = release
        release.phase = triton["phase"]
        release.last = at
        release.stands = stands_after(document["event"]["action"], release.stands)
        release.batches = triton.get("batches", release.batches)
        if batch := triton.get("batch"):
            release.began.setdefault(batch, at)
            if document["event"]["action"] == "batch-finished":
                release.took[batch] = (at - release.began[batch]).total_seconds()
        lines.append(self._line(document, _flow_text(document)))
        return lines

    def _count(self, document: Json) -> None:
        """Count the pods for the summary of their release."""
        triton, action = document["triton"], document["event"]["action"]
        release = self._releases.get(triton.get("uid", ""))
        if release is None or not is_of(document, Stream.POD):
            return
        if not release.finished:
            release.last = max(release.last, time_of(document))
        uid = document["kubernetes"]["pod"]["uid"]
        if action == f"pod-{PodTransition.CONTAINERS_READY}" and {"batch", "age_ms"} <= triton.keys():
            release.started.setdefault(uid, triton["age_ms"] / 1000)
        if action == f"pod-{PodTransition.FAILED}":
            release.failed.add(uid)

    def _other(self, document: Json) -> list[Line]:
        first, *more = str(document["message"]).splitlines()
        first += _aside(document)
        return [self._line(document, f"  {first}"), *(Line(f"{' ' * 24}    {line}") for line in more)]

    def _headline(self, document: Json) -> str:
        triton = document["triton"]
        name, app, group = (triton.get(field, "-") for field in ("application", "application_id", "group"))
        application = f"{name}, app {app}, group {group}"
        instance = f"{document['kubernetes']['namespace']}/{triton['instance']}"
        day = time_of(document).astimezone(self._zone).strftime("%Y-%m-%d")
        name, claimed, via = release_requester_of(document)
        who = show_requester(name, claimed=claimed, via=via)
        by = f", by {who}" if who else ""
        return f"{triton['deployflow']}: {triton['action']} of {instance} ({application}), {day}{by}"

    def _line(self, document: Json, text: str) -> Line:
        at = time_of(document)
        local = at.astimezone(self._zone).strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"
        since = f"{(at - self._current.start).total_seconds():+9.1f}" if self._current else " " * 9
        tone = {"failure": Tone.BAD, "success": Tone.GOOD}.get(
            document["event"].get("outcome", ""), Tone.PLAIN
        )
        return Line(f"{local} {since}  {text}", tone)


def is_of(document: Json, stream: Stream) -> bool:
    return bool(document["event"]["dataset"] == dataset(stream))


def time_of(document: Json) -> datetime:
    return datetime.fromisoformat(document["@timestamp"])


def _is_new(document: Json) -> bool:
    """Return False for what the pods' documents already show: counts of the CloneSet, normal Events of the cluster."""
    if "event" in document["kubernetes"]:
        return bool(document["kubernetes"]["event"]["type"] == "Warning")
    if is_of(document, Stream.CLONESET):
        return "by somebody else" in document["message"] or document["event"]["action"] == "deleted"
    return True


def _requester(document: Json) -> str:
    name, claimed, via = sender_of(document)
    return show_requester(name, claimed=claimed, via=via)


def sender_of(document: Json) -> tuple[str, bool, str]:
    """Return who sent the last request before what the document says, whether the name is claimed, and by which way."""
    triton = document["triton"]
    name = document.get("user", {}).get("name", "")
    return name, triton.get("requested_by_claimed") is True, triton.get("requested_via", "")


def release_requester_of(document: Json) -> tuple[str, bool, str]:
    """Return the same of who requested the release; older documents have the sender of the last request alone."""
    triton = document["triton"]
    if not {"release_requested_by", "release_requested_via"} & triton.keys():
        return sender_of(document)
    return (
        triton.get("release_requested_by", ""),
        triton.get("release_requested_by_claimed") is True,
        triton.get("release_requested_via", ""),
    )


def _aside(document: Json) -> str:
    """Return how long it took, and who approved it."""
    triton, took = document["triton"], seconds(document["event"])
    match document["event"]["action"].removeprefix("pod-"):
        case PodTransition.CONTAINERS_READY | PodTransition.FAILED if "age_ms" in triton:
            return f" ({span(triton['age_ms'] / 1000)} after its creation)"
        case PodTransition.PULLED_IN if "user" in document and "batch" in triton:
            return f" (batch {triton['batch']}, approved by {_requester(document)})"
        case PodTransition.PULLED_OUT if took is not None:
            return f" (after {span(took)} in traffic)"
        case PodTransition.SCHEDULED | PodTransition.STARTED | PodTransition.READY | PodTransition.GONE:
            return f" (took {span(took)})" if took is not None else ""
    return ""


def _flow_text(document: Json) -> str:
    triton, event = document["triton"], document["event"]
    reason, message = event.get("reason", ""), triton.get("message", "")
    text = message or reason
    if message and event.get("outcome") == "failure" and reason not in message:
        text = f"{reason}: {message}"
    took = seconds(event)
    return f"{text} (took {span(took)})" if took is not None else text


def _summary(release: _Release) -> Line:
    took = span((release.last - release.start).total_seconds())
    phase = FlowPhase.FAILED if release.stands else release.phase
    result = f"{release.phase} after {took}" if release.finished else f"{phase}, not finished after {took}"
    parts = [f"{release.name}: {result}"]
    if release.batches:
        times = ", ".join(f"{batch}: {span(took)}" for batch, took in sorted(release.took.items()))
        parts.append(
            f"{len(release.took)} of {release.batches} batches finished" + (f" ({times})" if times else "")
        )
    if release.started:
        slowest = max(release.started.values())
        parts.append(f"{_pods(len(release.started))} started, the slowest in {span(slowest)}")
    if release.failed:
        parts.append(f"{_pods(len(release.failed))} failed")
    tone = {FlowPhase.SUCCESS: Tone.GOOD}.get(
        FlowPhase(release.phase), Tone.BAD if release.finished or release.stands else Tone.PLAIN
    )
    return Line("; ".join(parts), tone)


def _pods(number: int) -> str:
    return f"{number} pod" if number == 1 else f"{number} pods"


def stands_after(action: str, stands: bool) -> bool:
    """Return whether a release stands at a failed batch after an event of this action, where it did or did not before."""
    if action.startswith("batch-") or action == "retry-requested":
        return action in {*BATCH_FAILED, "batch-failed"}
    return stands


def seconds(event: Json) -> float | None:
    """Return the seconds that led to an event, None where it has no duration."""
    return event["duration"] / 1e9 if "duration" in event else None
