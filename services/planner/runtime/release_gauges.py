"""Metrics of each unfinished release, made from the planner's memory whenever Prometheus scrapes it.

A finished release that may have raised an alert reports zeros for a while: the alerts bridge the time in which a planner
starts, so only a 0 ends them.
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


class AlertState(NamedTuple):
    """The causes of alerts on a release. Times in seconds since 1970, 0 for not.

    `failed`: a batch has failed and nobody has decided yet what to do; `overdue`: it failed by its progress deadline.
    `waits`: since when it waits for approval, at the `gate` of the canary or of another batch. `unanswered`: since when
    a command of it has no answer, once it had to be sent again.
    """

    failed: bool = False
    batch_phase: str = ""
    reason: str = ""
    overdue: bool = False
    gate: str = ""
    waits: float = 0.0
    unanswered: float = 0.0


NO_ALERT: Final = AlertState()
_DEADLINE: Final = FailureReason.PROGRESS_DEADLINE_EXCEEDED


def alert_state(instance: Instance, flow: Flow) -> AlertState:
    if flow.failed and flow.outcome is None:
        batch = flow.open_batch
        if batch is not None and batch.phase in FAILURES:
            return AlertState(True, batch.phase, bounded(batch.reason), batch.reason == _DEADLINE)
        return AlertState(True, "", bounded(flow.reason), flow.reason == _DEADLINE)
    match status.explain(instance, flow)[0]:
        case status.WAITING:
            gate = CANARY if flow.batch is not None and flow.batch.canary else BATCH
            return AlertState(gate=gate, waits=_waits_since(flow) / 1000)
        case "Unanswered" if instance.pending is not None:
            return AlertState(unanswered=instance.pending.late_since / 1000)
    return NO_ALERT


def _waits_since(flow: Flow) -> int:
    """Return milliseconds since 1970, never 0: the start of the batch where the state was rebuilt from `.status`."""
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

    def add_alert_state(self, release: Release, state: AlertState) -> None:
        self.failed.add_metric(release, state.failed)
        self.overdue.add_metric(release, state.overdue)
        for gate in (CANARY, BATCH):
            self.waits.add_metric((*release, gate), state.waits if state.gate == gate else 0)
        self.unanswered.add_metric(release, state.unanswered)
        if state.failed:
            self.why.add_metric((*release, state.batch_phase, state.reason), 1)

    def add_progress(self, release: Release, flow: Flow) -> None:
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
    """Collects the metrics of the instances in this planner's partitions. `now`: seconds since 1970."""

    def __init__(self, flows: FlowCache, now: Callable[[], float] = time.time) -> None:
        self._flows = flows
        self._now = now
        self._latest: dict[Key, Instance] = {}
        self._shown: dict[Release, float] = {}
        """The time at which something other than zeros was last reported of a release."""

    def changed(self, instance: Instance) -> None:
        if instance.active is None and not instance.waiting:
            self._latest.pop(instance.key, None)
        else:
            self._latest[instance.key] = instance

    def forget(self) -> None:
        """Drop all: another replica may have processed them. Each is reported again once it is read again."""
        self._latest.clear()

    @staticmethod
    def describe() -> list[GaugeMetricFamily]:
        return Families().all()

    def collect(self) -> list[GaugeMetricFamily]:
        families = Families()
        counts: Counter[tuple[str, str]] = Counter()
        reported: set[Release] = set()
        now = self._now()
        for instance in self._latest.values():
            for flow in instance.flows if self._flows.owns(instance.key) else ():
                if flow.phase.finished:
                    continue
                release = Release(instance.namespace, instance.name, flow.app_name, flow.name, flow.action)
                state = alert_state(instance, flow)
                families.add_alert_state(release, state)
                families.add_progress(release, flow)
                counts[flow.action, flow.phase] += 1
                reported.add(release)
                if state != NO_ALERT:
                    self._shown[release] = now
        for release in self._to_clear(now) - reported:
            if self._flows.owns(Key(release.namespace, release.instance)):
                families.add_alert_state(release, NO_ALERT)
        families.count(counts)
        return families.all()

    def _to_clear(self, now: float) -> set[Release]:
        """Return the finished releases that may still have an alert: raised by this process, or by another one."""
        self._shown = {release: at for release, at in self._shown.items() if now - at < CLEARED_SECONDS}
        # one that is unfinished, and is not read yet, must not report 0
        finished = {release for release in self._shown if not self._is_unfinished(release)}
        after = datetime.fromtimestamp(now - CLEARED_SECONDS, UTC).isoformat(timespec="milliseconds")
        recent = self._flows.finished_after(after.replace("+00:00", "Z"))
        return finished | {_release(flow) for flow in recent if _had_trouble(flow)}

    def _is_unfinished(self, release: Release) -> bool:
        flow = self._flows.get(release.namespace, release.name)
        return flow is not None and not flow.finished


def _had_trouble(flow: DeployFlow) -> bool:
    """Decide whether it may have raised an alert: it did not succeed, or a batch of it was retried."""
    strategy = flow.spec.get("updateStrategy") or flow.spec.get("nonUpdateStrategy") or {}
    return flow.status.get("phase") != FlowPhase.SUCCESS or bool(strategy.get("retries"))


def _release(flow: DeployFlow) -> Release:
    application = flow.spec.get("application") or {}
    app, action = str(application.get("appName", "")), str(flow.spec.get("action", ""))
    return Release(*flow.key, app, flow.metadata.name, action)
