"""Where each unfinished release stands, for Prometheus: made when it asks, from what the planner holds anyway.

Of a release that is over, and had something that an alert stands on, zeros are told for a while: an alert bridges
the time in which a planner starts, and only a 0 says that its cause is gone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.planner.model.state import Flow, Instance
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from services.planner.views import status
from services.planner.views.metrics import FAILURES, bounded
from shared.domain.deployflow import Action, BatchPhase, FailureReason, FlowPhase
from shared.domain.topics import Key

CLEARED_SECONDS: Final = 900.0
"""Above the 10 minutes for which alerts bridge a planner that is away (deploy/prometheus)."""
LABELS: Final = ("namespace", "application_instance", "app", "deployflow", "action")
CANARY: Final = "canary"
BATCH: Final = "batch"


class Release(NamedTuple):
    """The labels of a release, in the order of `LABELS`."""

    namespace: str
    instance: str
    app: str
    name: str
    action: str


class Standing(NamedTuple):
    """What an alert may stand on. Times in seconds since 1970, 0 for not.

    `failed`: a batch has failed and nobody has decided yet what comes of it; `overdue`: it failed by its progress
    deadline. `waits`: since when it waits for a person's go-ahead, at the `gate` of the canary or of another batch.
    `unanswered`: since when a command of it has no answer, once it had to be given again.
    """

    failed: bool = False
    batch_phase: str = ""
    reason: str = ""
    overdue: bool = False
    gate: str = ""
    waits: float = 0.0
    unanswered: float = 0.0


QUIET: Final = Standing()
_DEADLINE: Final = FailureReason.PROGRESS_DEADLINE_EXCEEDED


def standing(instance: Instance, flow: Flow) -> Standing:
    if flow.failed and flow.outcome is None:
        batch = flow.open_batch
        if batch is not None and batch.phase in FAILURES:
            return Standing(True, batch.phase, bounded(batch.reason), batch.reason == _DEADLINE)
        return Standing(True, "", bounded(flow.reason), flow.reason == _DEADLINE)
    match status.explain(instance, flow)[0]:
        case status.WAITING:
            gate = CANARY if flow.batch is not None and flow.batch.canary else BATCH
            return Standing(gate=gate, waits=_waits_since(flow) / 1000)
        case "Unanswered" if instance.pending is not None:
            return Standing(unanswered=instance.pending.late_since / 1000)
    return QUIET


def _waits_since(flow: Flow) -> int:
    """Milliseconds since 1970, never 0: where `.status` was all that there was, from the begin of the batch."""
    batch = flow.batch
    if batch is None:
        return flow.started_at or flow.created_at or 1
    since = batch.finished_at or (batch.smoked_at if batch.phase == BatchPhase.SMOKED else batch.ready_since)
    return since or batch.started_at or 1


class Families:
    """The metrics of one answer, as they are filled."""

    def __init__(self) -> None:
        self.failed = _gauge("triton_flow_batch_failed", "1: a batch has failed, and nobody has decided yet")
        self.overdue = _gauge("triton_flow_overdue", "1: it failed by its progress deadline")
        self.waits = _gauge(
            "triton_flow_waiting_since_timestamp_seconds", "Since when it waits for next, or 0", "gate"
        )
        self.unanswered = _gauge(
            "triton_flow_unanswered_since_timestamp_seconds", "Since when a command has no answer, or 0"
        )
        self.why = _gauge("triton_flow_failure_info", "How its batch failed", "batch_phase", "reason")
        self.phase = _gauge("triton_flow_phase", "The phase that it is in", "phase")
        self.batches = _gauge("triton_flow_batches", "How many batches it has by its plan")
        self.finished = _gauge("triton_flow_batches_finished", "How many of them are finished")
        self.flows = GaugeMetricFamily("triton_flows", "Unfinished releases", labels=("action", "phase"))

    def all(self) -> list[GaugeMetricFamily]:
        return list(vars(self).values())

    def stands(self, release: Release, where: Standing) -> None:
        self.failed.add_metric(release, where.failed)
        self.overdue.add_metric(release, where.overdue)
        for gate in (CANARY, BATCH):
            self.waits.add_metric((*release, gate), where.waits if where.gate == gate else 0)
        self.unanswered.add_metric(release, where.unanswered)
        if where.failed:
            self.why.add_metric((*release, where.batch_phase, where.reason), 1)

    def goes(self, release: Release, flow: Flow) -> None:
        self.phase.add_metric((*release, flow.phase), 1)
        self.batches.add_metric(release, flow.total)
        self.finished.add_metric(release, flow.finished_batches)

    def count(self, counts: Counter[tuple[str, str]]) -> None:
        for action in Action:
            for phase in FlowPhase:
                if not phase.finished:
                    self.flows.add_metric((action, phase), counts[action, phase])


def _gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*LABELS, *more))


class ReleaseGauges(Collector):
    """The collector of a planner: tells of the instances in its partitions. `now`: seconds since 1970."""

    def __init__(self, flows: FlowCache, now: Callable[[], float] = time.time) -> None:
        self._flows = flows
        self._now = now
        self._latest: dict[Key, Instance] = {}
        self._shown: dict[Release, float] = {}
        """Of which something but zeros was told, and when last."""

    def changed(self, instance: Instance) -> None:
        if instance.active is None and not instance.waiting:
            self._latest.pop(instance.key, None)
        else:
            self._latest[instance.key] = instance

    def forget(self) -> None:
        """Others may have gone on with any of them: they are told of again once they are read anew."""
        self._latest.clear()

    @staticmethod
    def describe() -> list[GaugeMetricFamily]:
        return Families().all()

    def collect(self) -> list[GaugeMetricFamily]:
        families = Families()
        counts: Counter[tuple[str, str]] = Counter()
        told: set[Release] = set()
        now = self._now()
        for instance in self._latest.values():
            for flow in instance.flows if self._flows.owns(instance.key) else ():
                if flow.phase.finished:
                    continue
                release = Release(instance.namespace, instance.name, flow.app_name, flow.name, flow.action)
                where = standing(instance, flow)
                families.stands(release, where)
                families.goes(release, flow)
                counts[flow.action, flow.phase] += 1
                told.add(release)
                if where != QUIET:
                    self._shown[release] = now
        for release in self._over(now) - told:
            if self._flows.owns(Key(release.namespace, release.instance)):
                families.stands(release, QUIET)
        families.count(counts)
        return families.all()

    def _over(self, now: float) -> set[Release]:
        """Those that are over, on which an alert may stand still: by what was told here, or by another process."""
        self._shown = {release: at for release, at in self._shown.items() if now - at < CLEARED_SECONDS}
        # one that goes on, and is not read yet, is no 0
        over = {release for release in self._shown if not self._goes_on(release)}
        after = datetime.fromtimestamp(now - CLEARED_SECONDS, UTC).isoformat(timespec="milliseconds")
        ended = self._flows.ended_after(after.replace("+00:00", "Z"))
        return over | {_release(flow) for flow in ended if _had_trouble(flow)}

    def _goes_on(self, release: Release) -> bool:
        flow = self._flows.get(release.namespace, release.name)
        return flow is not None and not flow.finished


def _had_trouble(flow: DeployFlow) -> bool:
    """Whether it may have stood still: it did not succeed, or a batch of it was retried."""
    strategy = flow.spec.get("updateStrategy") or flow.spec.get("nonUpdateStrategy") or {}
    return flow.status.get("phase") != FlowPhase.SUCCESS or bool(strategy.get("retries"))


def _release(flow: DeployFlow) -> Release:
    application = flow.spec.get("application") or {}
    app, action = str(application.get("appName", "")), str(flow.spec.get("action", ""))
    return Release(*flow.key, app, flow.metadata.name, action)
