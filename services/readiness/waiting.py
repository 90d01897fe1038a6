"""Which gates are not yet as a command wants them, for Prometheus: made when it asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.readiness.keeper import Asked

LABELS: Final = ("namespace", "application_instance", "deployflow", "gate")


class WaitingGates(Collector):
    """The collector of readiness. `pending`: commands under way, each with how many of its pods wait."""

    def __init__(
        self, pending: Callable[[], Iterable[tuple[Asked, int]]], now: Callable[[], float] = time.time
    ) -> None:
        self._pending = pending
        self._now = now

    @staticmethod
    def describe() -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily("triton_gates_pending", "Pods whose gate a command is to move", labels=LABELS),
            GaugeMetricFamily(
                "triton_gates_pending_seconds", "How long ago that command was given", labels=LABELS
            ),
        ]

    def collect(self) -> list[GaugeMetricFamily]:
        pods, ages = families = self.describe()
        now = self._now()
        for asked, waiting in self._pending():
            command = asked.command
            labels = (command.namespace, command.instance, command.flow.name, asked.gate)
            pods.add_metric(labels, waiting)
            ages.add_metric(labels, max(now - asked.at_ms / 1000, 0))
        return families
