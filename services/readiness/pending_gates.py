"""Metrics of the gates that a command has yet to move, computed at each scrape of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.readiness.gate_keeper import GateCommand

LABELS: Final = ("namespace", "application_instance", "deployflow", "gate")


class PendingGates(Collector):
    """Prometheus collector. `pending`: commands under way, each with the number of its pods that wait."""

    def __init__(
        self, pending: Callable[[], Iterable[tuple[GateCommand, int]]], now: Callable[[], float] = time.time
    ) -> None:
        self._pending = pending
        self._now = now

    @staticmethod
    def describe() -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily("triton_gates_pending", "Pods whose gate a command is to move", labels=LABELS),
            GaugeMetricFamily(
                "triton_gates_pending_seconds", "How long ago that command was issued", labels=LABELS
            ),
        ]

    def collect(self) -> list[GaugeMetricFamily]:
        pods, ages = families = self.describe()
        now = self._now()
        for gate_command, waiting in self._pending():
            command = gate_command.command
            labels = (command.namespace, command.instance, command.flow.name, gate_command.gate)
            pods.add_metric(labels, waiting)
            ages.add_metric(labels, max(now - gate_command.at_ms / 1000, 0))
        return families
