"""The result of a measurement as a record (JSON) and as a table for people, targets beside it.

A target that is missed is said as loudly as one that is met, and changes nothing else.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Final

from bench.demo import DemoMeasured
from bench.legs import LEGS
from bench.measure import FLOOR, TRITON, Measured, Run
from bench.workloads import WORKLOADS
from sandbox.environment import SERVICES
from shared.domain.json_types import Json

READY_SECONDS: Final = 8.0
DEMO_SECONDS: Final = 60.0
DEMO_BYTES: Final = 1e9
_AGENTS: Final = {"triton-planner": "planner", "triton-executor": "executor", "triton-readiness": "readiness"}
WIDE: Final = 46
COLUMN: Final = 22
FLOOR_AGENT: Final = "triton-bench-floor"


@dataclass
class Results:
    """Everything that was measured."""

    where: str
    ready_seconds: list[float] = field(default_factory=list)
    workloads: dict[str, list[Run]] = field(default_factory=dict)
    demo: DemoMeasured | None = None
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_at_start: tuple[float, float, float] = field(default_factory=os.getloadavg)


class Target:
    """A wanted bound beside what was measured."""

    def __init__(self, what: str, measured: float, most: float, unit: str) -> None:
        self.what, self.measured, self.most, self.unit = what, measured, most, unit
        self.met = measured <= most

    def __str__(self) -> str:
        word = "met" if self.met else "MISSED"
        return f"{self.what:<38} {self.measured:8.2f} {self.unit:<3} target ≤ {self.most:g} {self.unit:<3} {word}"


def targets(results: Results) -> list[Target]:
    found = []
    for name, runs in results.workloads.items():
        if results.where == "real":
            found += _on_real_parts(name, runs)
        elif (most := WORKLOADS[name].target) is not None:
            found.append(Target(f"{name}: Triton ÷ floor", median(run.ratio for run in runs), most, "×"))
    if results.ready_seconds and results.where == "sandbox":
        found.append(Target("sandbox ready", median(results.ready_seconds), READY_SECONDS, "s"))
    if results.demo is not None:
        found.append(Target("triton demo", results.demo.seconds, DEMO_SECONDS, "s"))
        found.append(
            Target("triton demo, all its processes", results.demo.peak_bytes / 1e9, DEMO_BYTES / 1e9, "GB")
        )
    return found


def _on_real_parts(name: str, runs: Sequence[Run]) -> list[Target]:
    bounds = WORKLOADS[name].real
    if bounds is None:
        return []
    triton = [run.sides[TRITON] for run in runs]
    largest = [max(_megabytes(service)(one) for service in SERVICES) for one in triton]
    return [
        Target(f"{name}: Triton ÷ floor", median(run.ratio for run in runs), bounds.ratio, "×"),
        Target(f"{name}: requests per pod", median(map(_all_requests, triton)), bounds.requests, ""),
        Target(f"{name}: CPU of the services", median(map(_services_cpu, triton)), bounds.cpu_seconds, "s"),
        Target(f"{name}: memory of a service", median(largest), bounds.megabytes, "MB"),
    ]


def _target(results: Results, name: str) -> float | None:
    """The most that Triton's time may be there, in times of the floor's."""
    bounds = WORKLOADS[name].real
    return WORKLOADS[name].target if results.where == "sandbox" else bounds and bounds.ratio


def record(results: Results) -> Json:
    """All of it, for `-o json` and for the picture."""
    return {
        "date": results.begun.isoformat(timespec="seconds"),
        "where": results.where,
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "loadAtStart": list(results.load_at_start),
        },
        "readySeconds": results.ready_seconds,
        "workloads": {
            name: {
                "what": str(WORKLOADS[name]),
                "ratio": _spread([run.ratio for run in runs]),
                "target": _target(results, name),
                "runs": [{**asdict(run), "ratio": run.ratio} for run in runs],
            }
            for name, runs in results.workloads.items()
        },
        "demo": asdict(results.demo) if results.demo is not None else None,
        "targets": [vars(target) for target in targets(results)],
    }


def _spread(values: Sequence[float]) -> Json:
    return {"median": median(values), "least": min(values), "most": max(values)}


def table(results: Results) -> str:
    lines = [
        " · ".join(
            (
                f"{results.begun:%Y-%m-%d %H:%M} UTC",
                results.where,
                f"{os.cpu_count()} cores",
                f"Python {platform.python_version()}",
                f"load average at the start {results.load_at_start[0]:.2f}",
            )
        )
    ]
    for name, runs in results.workloads.items():
        lines += ["", *_workload(name, runs)]
    if (demo := results.demo) is not None:
        memory = f"{demo.processes} processes, {demo.peak_bytes / 1e6:.0f} MB together at most"
        lines += ["", f"triton demo: {demo.seconds:.1f} s, exit code {demo.exit_code}, {memory}"]
    return "\n".join([*lines, "", *map(str, targets(results))])


def _workload(name: str, runs: Sequence[Run]) -> list[str]:
    floor, triton = ([run.sides[side] for run in runs] for side in (FLOOR, TRITON))
    measured = list(triton[0].cpu_seconds)
    load = [load for run in runs for load in run.load.values()]
    times = f"{len(runs)} runs: median (range)" if len(runs) > 1 else "1 run"
    return [
        f"{WORKLOADS[name]}; {times}; load average {min(load):.1f}–{max(load):.1f}",
        f"  {'':<{WIDE}}{'floor':>{COLUMN}}{'Triton':>{COLUMN}}",
        _row("wall, seconds", floor, triton, lambda m: m.seconds),
        f"  {'Triton ÷ floor':<{WIDE}}{'':>{COLUMN}}{_told([run.ratio for run in runs], 2):>{COLUMN}}",
        "  of one release, in the mean, seconds",
        *(_row(f"  {what}", floor, triton, _leg(leg)) for leg, what in LEGS.items()),
        _row("requests per pod: floor, all services", floor, triton, _all_requests),
        *(_row(f"  {service}", (), triton, _requests(agent)) for agent, service in _AGENTS.items()),
        _row("CPU seconds of the four services", (), triton, _services_cpu),
        *(_row(f"  {part}", floor, triton, _cpu(part)) for part in measured),
        _row("peak memory, MB, the whole sandbox so far", (), triton, _megabytes("all"), 0),
        *(_row(f"  {part}", (), triton, _megabytes(part), 0) for part in measured),
    ]


Value = Callable[[Measured], float]


def _leg(leg: str) -> Value:
    return lambda measured: measured.legs[leg]


def _requests(agent: str) -> Value:
    return lambda measured: measured.requests_per_pod.get(agent, 0.0)


def _cpu(part: str) -> Value:
    return lambda measured: measured.cpu_seconds[part]


def _megabytes(part: str) -> Value:
    return lambda measured: measured.peak_bytes[part] / 1e6


def _services_cpu(measured: Measured) -> float:
    return sum(measured.cpu_seconds[service] for service in SERVICES)


def _all_requests(measured: Measured) -> float:
    agents = (FLOOR_AGENT, *_AGENTS)
    return sum(measured.requests_per_pod.get(agent, 0.0) for agent in agents)


def _row(
    what: str,
    floor: Sequence[Measured],
    triton: Sequence[Measured],
    value: Value,
    digits: int = 2,
) -> str:
    left = _told([value(one) for one in floor], digits) if floor else ""
    return f"  {what:<{WIDE}}{left:>{COLUMN}}{_told([value(one) for one in triton], digits):>{COLUMN}}"


def _told(values: Sequence[float], digits: int) -> str:
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"
