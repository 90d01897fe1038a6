"""The saved searches, panels and dashboards: the questions of people on call."""

from __future__ import annotations

from typing import Final

from services.events.kibana.kql import Kql, known, one_of
from services.events.kibana.objects import (
    Column,
    Dashboard,
    Panel,
    Place,
    Search,
    count,
    dashboard,
    data_view,
    different,
    identity,
    largest,
    latest,
    lens,
    lines,
    over_time,
    percentile,
    percentiles,
    saved_search,
    smallest,
    table,
    times,
    values,
)
from services.events.kibana.views import CLONESETS, DEPLOYFLOWS, EVERYTHING, PODS, VIEWS, View
from shared.domain.deployflow import FlowPhase
from shared.domain.messages import PodTransition

FAILED: Final = one_of("event.outcome", "failure")
OF_A_RELEASE: Final = known("triton.deployflow")
BATCH_FINISHED: Final = one_of("event.reason", "BatchFinished")


def _pod(transition: PodTransition) -> Kql:
    return one_of("event.action", f"pod-{transition}")


STARTED_UP: Final = _pod(PodTransition.CONTAINERS_READY)

RELEASES_COUNTED: Final = different("triton.uid", "releases")
PODS_COUNTED: Final = different("kubernetes.pod.uid", "pods")
LAST_REASON: Final = latest("event.reason", "last reason")
LAST_SEEN: Final = largest("@timestamp", "last seen")

# --- searches ---------------------------------------------------------------------------------------------

A_RELEASES_STORY: Final = Search(
    "A release's story",
    EVERYTHING,
    OF_A_RELEASE,
    ("triton.deployflow", "triton.batch", "user.name", "message", "event.duration"),
    newest=False,
    description='Everything about releases in the order in which it happened. Add: triton.deployflow : "NAME"',
)
A_PODS_STORY: Final = Search(
    "A pod's story",
    PODS,
    known("kubernetes.pod.name"),
    (
        "kubernetes.pod.name",
        "event.action",
        "event.duration",
        "message",
        "triton.deployflow",
        "user.name",
    ),
    newest=False,
    description='What happened to pods, in order, with logs and Events. Add: kubernetes.pod.name : "NAME"',
)
FAILURES: Final = Search(
    "Failures",
    EVERYTHING,
    FAILED,
    ("triton.deployflow", "orchestrator.resource.name", "event.reason", "message"),
    description="Failed releases, batches and pods, the cluster's warnings, and the logs of failed containers.",
)
LOGS: Final = Search(
    "Logs of failed containers",
    PODS,
    one_of("event.action", "pod-log"),
    ("triton.deployflow", "kubernetes.pod.name", "container.name", "triton.log_previous", "triton.log"),
    description="The last lines of the containers of failed pods, those before the last start included.",
)
COMMANDS: Final = Search(
    "Commands with their sender",
    DEPLOYFLOWS,
    known("triton.command"),
    (
        "user.name",
        "triton.command",
        "kubernetes.namespace",
        "triton.instance",
        "triton.deployflow",
        "message",
    ),
    description="Who requested what: deploy, next, pause, cancel, rollback …",
)
SEARCHES: Final = (A_RELEASES_STORY, A_PODS_STORY, FAILURES, LOGS, COMMANDS)

# --- releases now -----------------------------------------------------------------------------------------

RELEASES: Final = table(
    "Releases, the newest change first",
    DEPLOYFLOWS,
    (
        values("triton.uid", "uid", by="changed", size=100, hidden=True),
        latest("kubernetes.namespace", "namespace"),
        latest("triton.deployflow", "release"),
        latest("triton.action", "action"),
        latest("triton.phase", "phase"),
        latest("event.reason", "last news"),
        latest("triton.batch", "batch"),
        latest("triton.batches", "of"),
        latest("triton.batch_phase", "batch is"),
        largest("triton.failed_replicas", "pods failed"),
        latest("user.name", "last request by"),
        largest("@timestamp", "changed"),
        largest("triton.age_ms", "age"),
    ),
    description="The last known state of each release that changed in the chosen time.",
)


def _releases(title: str, where: Kql) -> Panel:
    return Panel(title, DEPLOYFLOWS, "number", (different("triton.uid", title),), where)


RELEASES_CHANGED: Final = _releases("Releases that changed", OF_A_RELEASE)
RELEASES_WITH_A_FAILURE: Final = _releases("Releases with a failure", FAILED)
RELEASES_DONE: Final = _releases("Releases done", one_of("triton.phase", FlowPhase.SUCCESS))
RELEASES_TAKEN_BACK: Final = _releases(
    "Releases failed or taken back",
    one_of("triton.phase", FlowPhase.FAILED, FlowPhase.ABORTED, FlowPhase.CANCELED),
)
BATCHES_OVER_TIME: Final = over_time(
    "Batches by phase",
    DEPLOYFLOWS,
    "triton.batch_phase",
    "phase",
    counted="batches",
    where=known("triton.batch_phase"),
)
NOW: Final = Dashboard(
    "Releases now",
    "What runs, waits or failed, and who did something about it.",
    ("kubernetes.namespace", "triton.application", "triton.instance"),
    DEPLOYFLOWS,
    (
        Place(RELEASES_CHANGED, 12, 6),
        Place(RELEASES_DONE, 12, 6),
        Place(RELEASES_WITH_A_FAILURE, 12, 6),
        Place(RELEASES_TAKEN_BACK, 12, 6),
        Place(RELEASES, 48, 18),
        Place(BATCHES_OVER_TIME, 48, 10),
        Place(COMMANDS, 24, 16),
        Place(FAILURES, 24, 16),
    ),
    refresh_seconds=30,
)

# --- one release ------------------------------------------------------------------------------------------

BATCHES: Final = table(
    "Batches",
    DEPLOYFLOWS,
    (
        values("triton.batch", "batch", size=100),
        latest("triton.batch_phase", "last phase"),
        latest("triton.batch_size", "pods"),
        latest("triton.canary", "canary"),
        largest("triton.failed_replicas", "pods failed"),
        smallest("@timestamp", "from"),
        largest("@timestamp", "to"),
        largest("event.duration", "took", BATCH_FINISHED),
    ),
    known("triton.batch"),
)
STEPS: Final = table(
    "How long the steps of the batches took",
    DEPLOYFLOWS,
    (
        values("event.reason", "step", by="longest"),
        count("times"),
        percentile("event.duration", 50, "median"),
        largest("event.duration", "longest"),
    ),
    known("event.duration") & known("triton.batch"),
)
PODS_OF_A_RELEASE: Final = table(
    "Pods",
    PODS,
    (
        values("kubernetes.pod.name", "pod", by="last seen", size=200),
        latest("triton.batch", "batch"),
        latest("event.action", "last news"),
        latest("triton.gate", "gate"),
        latest("kubernetes.node.name", "node"),
        latest("container.image.name", "image"),
        largest("triton.age_ms", "ready after", STARTED_UP),
        largest("triton.age_ms", "in traffic after", _pod(PodTransition.READY)),
        largest("triton.restarts", "restarts"),
        count("failures", FAILED),
        count("gone", _pod(PodTransition.GONE)),
        LAST_SEEN,
    ),
    OF_A_RELEASE,
)
CLONESET_COUNTS: Final = Panel(
    "Pods of the CloneSet",
    CLONESETS,
    "line",
    (
        times(),
        largest("triton.replicas", "wanted"),
        largest("triton.ready_replicas", "ready"),
        largest("triton.updated_ready_replicas", "new revision, ready"),
    ),
    OF_A_RELEASE,
)
FACTS_OVER_TIME: Final = over_time(
    "Facts by what happened", EVERYTHING, "event.action", "what", counted="facts", where=OF_A_RELEASE
)
STORY: Final = Dashboard(
    "One release's story",
    "Choose the release above: its batches, its pods, its CloneSet, and every fact in order.",
    ("kubernetes.namespace", "triton.deployflow"),
    EVERYTHING,
    (
        Place(BATCHES, 24, 12),
        Place(STEPS, 24, 12),
        Place(PODS_OF_A_RELEASE, 48, 14),
        Place(CLONESET_COUNTS, 24, 10),
        Place(FACTS_OVER_TIME, 24, 10),
        Place(A_RELEASES_STORY, 48, 24),
        Place(LOGS, 48, 14),
    ),
    since="now-7d",
)

# --- failures ---------------------------------------------------------------------------------------------

FAILURES_OVER_TIME: Final = over_time(
    "Failures over time", EVERYTHING, "event.reason", "reason", counted="failures", where=FAILED
)
REASONS: Final = table(
    "Failures by reason",
    EVERYTHING,
    (
        values("event.reason", "reason", by="failures", size=50),
        count("failures"),
        RELEASES_COUNTED,
        PODS_COUNTED,
        latest("triton.deployflow", "last release"),
        LAST_SEEN,
    ),
    FAILED,
)


def _failures_by(title: str, view: View, field: str, label: str, affected: Column) -> Panel:
    columns = (values(field, label, by="failures"), count("failures"), affected, LAST_REASON)
    return table(title, view, columns, FAILED)


NODES: Final = _failures_by("Failures by node", PODS, "kubernetes.node.name", "node", PODS_COUNTED)
IMAGES: Final = _failures_by("Failures by image", PODS, "container.image.name", "image", PODS_COUNTED)
APPLICATIONS: Final = _failures_by(
    "Failures by application", EVERYTHING, "triton.application", "application", RELEASES_COUNTED
)
WARNINGS: Final = table(
    "The cluster's warnings",
    EVERYTHING,
    (
        values("event.reason", "warning", by="times"),
        values("event.provider", "reported by", by="times"),
        largest("kubernetes.event.count", "times"),
        different("orchestrator.resource.id", "objects"),
        LAST_SEEN,
    ),
    one_of("kubernetes.event.type", "Warning"),
)
WHY: Final = Dashboard(
    "Failures by reason",
    "What failed, why, and whether it is the application, the image or the node.",
    ("kubernetes.namespace", "triton.application", "event.reason"),
    EVERYTHING,
    (
        Place(FAILURES_OVER_TIME, 48, 10),
        Place(REASONS, 24, 14),
        Place(WARNINGS, 24, 14),
        Place(APPLICATIONS, 16, 12),
        Place(NODES, 16, 12),
        Place(IMAGES, 16, 12),
        Place(FAILURES, 48, 16),
        Place(LOGS, 48, 16),
    ),
    since="now-7d",
)

# --- slow pods --------------------------------------------------------------------------------------------

SLOWEST: Final = table(
    "Slowest pods",
    PODS,
    (
        values("kubernetes.pod.name", "pod", by="ready after", size=50),
        largest("triton.age_ms", "ready after"),
        latest("kubernetes.node.name", "node"),
        latest("container.image.name", "image"),
        latest("triton.deployflow", "release"),
        largest("@timestamp", "at"),
    ),
    STARTED_UP,
    "From the making of the pod until all of its containers were ready.",
)


def _slow_by(title: str, field: str, label: str) -> Panel:
    columns = (
        values(field, label, by="longest"),
        count("pods"),
        *percentiles("triton.age_ms"),
        largest("triton.age_ms", "longest"),
    )
    return table(title, PODS, columns, STARTED_UP)


SLOW_NODES: Final = _slow_by("Start of pods by node", "kubernetes.node.name", "node")
SLOW_IMAGES: Final = _slow_by("Start of pods by image", "container.image.name", "image")
WHERE_THE_TIME_GOES: Final = table(
    "Where the time goes",
    PODS,
    (
        values("event.action", "until", by="longest"),
        count("pods"),
        *percentiles("event.duration"),
        largest("event.duration", "longest"),
    ),
    known("event.duration"),
    "How long each phase of the pods took: scheduled, started, containers ready, pulled in, gone.",
)
STARTS_OVER_TIME: Final = Panel(
    "Start of pods",
    PODS,
    "line",
    (
        times(),
        *percentiles("triton.age_ms"),
    ),
    STARTED_UP,
)
SLOW: Final = Dashboard(
    "Slowest pods",
    "How long pods took to start, by node and image, and in which phase the time went.",
    ("kubernetes.namespace", "triton.application", "kubernetes.node.name"),
    PODS,
    (
        Place(STARTS_OVER_TIME, 24, 12),
        Place(WHERE_THE_TIME_GOES, 24, 12),
        Place(SLOW_NODES, 24, 12),
        Place(SLOW_IMAGES, 24, 12),
        Place(SLOWEST, 48, 18),
    ),
    since="now-7d",
)

# --- who --------------------------------------------------------------------------------------------------

COMMANDS_BY_USER: Final = table(
    "Commands by sender",
    DEPLOYFLOWS,
    (
        values("user.name", "who", by="commands", size=50),
        values("triton.command", "command", by="commands"),
        count("commands"),
        RELEASES_COUNTED,
        different("triton.instance", "instances"),
        largest("@timestamp", "last"),
    ),
    known("triton.command"),
)
COMMANDS_OVER_TIME: Final = over_time(
    "Commands over time",
    DEPLOYFLOWS,
    "triton.command",
    "command",
    counted="commands",
    where=known("triton.command"),
)
RELEASES_BY_USER: Final = table(
    "Releases by sender, and how they ended",
    DEPLOYFLOWS,
    (
        values("user.name", "who", by="releases", size=50),
        RELEASES_COUNTED,
        *(
            different("triton.uid", phase, one_of("triton.phase", phase))
            for phase in (FlowPhase.SUCCESS, FlowPhase.FAILED, FlowPhase.ABORTED, FlowPhase.CANCELED)
        ),
    ),
)
RELEASES_BY_APPLICATION: Final = table(
    "Releases by application",
    DEPLOYFLOWS,
    (
        values("triton.application", "application", by="releases", size=50),
        RELEASES_COUNTED,
        different("triton.uid", "with a failure", FAILED),
        latest("triton.deployflow", "last release"),
        latest("user.name", "last request by"),
        largest("@timestamp", "last change"),
    ),
)
WHO: Final = Dashboard(
    "Who released what",
    "Commands with their sender, and how the releases ended.",
    ("user.name", "kubernetes.namespace", "triton.application", "triton.command"),
    DEPLOYFLOWS,
    (
        Place(COMMANDS_OVER_TIME, 48, 10),
        Place(COMMANDS_BY_USER, 24, 14),
        Place(RELEASES_BY_USER, 24, 14),
        Place(RELEASES_BY_APPLICATION, 48, 14),
        Place(COMMANDS, 48, 20),
    ),
    since="now-7d",
)

DASHBOARDS: Final = (NOW, STORY, WHY, SLOW, WHO)


def text() -> str:
    """Return the file that Kibana imports. An object stands before those that refer to it."""
    placed = [place.what for board in DASHBOARDS for place in board.places]
    panels = {identity(what): what for what in placed if isinstance(what, Panel)}
    return lines(
        [
            *map(data_view, VIEWS),
            *map(saved_search, SEARCHES),
            *(lens(panels[id_]) for id_ in sorted(panels)),
            *map(dashboard, DASHBOARDS),
        ]
    )
