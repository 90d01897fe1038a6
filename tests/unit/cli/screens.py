"""Screens of the command line for releases in all their states, drawn at a fixed moment.

`python -m tests.unit.cli.screens` writes them again; the difference is what a person sees otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cli import rendering
from cli.headline import headline
from cli.live_picture import Size
from cli.watching import PlainScreen, drawn
from shared.domain.json_types import Json
from shared.releases.specs import Known

FOLDER: Final = Path(__file__).parent / "golden"
SIZES: Final = (Size(80, 24), Size(140, 40))
BEGAN: Final = datetime(2026, 1, 1, 10, 0, tzinfo=UTC)
NOW: Final = BEGAN + timedelta(minutes=6)


def _at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _batch(number: int, phase: str, *pods: Json, size: int = 2, **fields: Any) -> Json:
    ready = [
        {"name": f"web-{number:02}-{pod}", "phase": "Ready", "ip": f"10.0.{number}.{pod}"}
        for pod in range(size)
    ]
    times = {"startedAt": _at(10 * number), "finishedAt": _at(10 * number + 8) if phase == "Baked" else None}
    return {
        "batch": number,
        "batchSize": size,
        "phase": phase,
        "pods": list(pods) or ready,
        **times,
        **fields,
    }


def release(action: str = "update", replicas: int = 60, **status: Any) -> Json:
    """Return a release of web:3 with this status."""
    return {
        "metadata": {"name": "web-bcdfg", "namespace": "shop", "creationTimestamp": _at(0)},
        "spec": {
            "action": action,
            "application": {
                "appID": 7,
                "groupID": 8,
                "appName": "web",
                "instanceName": "web",
                "replicas": replicas,
                "template": {"spec": {"containers": [{"name": "web", "image": "web:3"}]}},
            },
            "updateStrategy": {"batchSize": 2, "canary": 1, "mode": "auto", "batchIntervalSeconds": 5},
        },
        "status": {
            "phase": "BatchStarted",
            "batches": 30,
            "replicasToProcess": replicas,
            "startedAt": _at(1),
            "updatedAt": _at(320),
            "requestedBy": "oncall",
            "requestedVia": "cli",
            "images": [{"container": "web", "fromImage": "web:2", "toImage": "web:3"}],
            **status,
        },
    }


def _pods(number: int, *phases: str, **fields: str) -> list[Json]:
    return [
        {"name": f"web-{number:02}-{pod}", "phase": phase, **(fields if phase == "Failed" else {})}
        for pod, phase in enumerate(phases)
    ]


_WHY: Final = (
    "2 of 2 pods failed: CrashLoopBackOff (exit code 1): panic: no database at db.shop:5432 after 30 attempts, "
    "the first at 10:03:01, the last at 10:05:12, each refused with connection reset by peer; the pool is empty"
)


def releases() -> dict[str, Json]:
    """Return the releases of the screens by name."""
    done = [_batch(number, "Baked") for number in range(1, 12)]
    counts: Json = {
        "finishedBatches": 11,
        "finishedReplicas": 22,
        "availableReplicas": 59,
        "updatedReadyReplicas": 22,
    }
    crash = {
        "reason": "CrashLoopBackOff",
        "message": "container web: back-off (exit code 1, Error)",
        "log": "starting\npanic: no database",
        "since": _at(310),
    }
    return {
        "running": release(
            conditions=[*done, _batch(12, "Smoking", *_pods(12, "ContainersReady", "Running"))], **counts
        ),
        "canary": release(
            conditions=[_batch(1, "Smoked", *_pods(1, "ContainersReady"), size=1, canary=True)],
            reason="WaitingForNext",
            message="batch 1 is Smoked, without traffic: press next to send it traffic",
            availableReplicas=60,
            updatedReplicas=1,
            updatedReadyReplicas=0,
        ),
        "failed": release(
            conditions=[
                *done,
                _batch(
                    12, "SmokeFailed", *_pods(12, "Failed", "Failed", **crash), message=_WHY, failedReplicas=2
                ),
            ],
            reason="SmokeFailed",
            message=_WHY,
            paused=True,
            failedReplicas=2,
            **counts,
        ),
        "large": release(
            replicas=500,
            batches=5,
            conditions=[
                _batch(1, "Baked", size=100),
                _batch(
                    2,
                    "Smoking",
                    *_pods(2, *["Running"] * 60, "Failed", *["Ready"] * 39, reason="OOMKilled"),
                    size=100,
                ),
            ],
            finishedBatches=1,
            finishedReplicas=100,
        ),
        "finished": release(
            phase="Success",
            finished=True,
            batches=3,
            replicas=5,
            conditions=[_batch(1, "Baked", size=1, canary=True), _batch(2, "Baked"), _batch(3, "Baked")],
            finishedBatches=3,
            finishedReplicas=5,
            availableReplicas=5,
            updatedReadyReplicas=5,
            finishedAt=_at(40),
        ),
    }


def known(flow: Json) -> Known:
    """Return the instance of a release: it was web:2 before."""
    good = release(replicas=60, phase="Success", finished=True)
    good["metadata"] = {"name": "web-aaaaa", "namespace": "shop", "creationTimestamp": _at(-86_400)}
    good["spec"]["application"]["template"] = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    return Known("web", [good, flow], None)


def _live(flow: Json, size: Size, *, color: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=size.width,
        height=size.height,
        force_terminal=color,
        color_system="standard" if color else None,
    )
    console.print(drawn(flow, Size(size.width, size.height - 1), NOW))
    return out.getvalue().replace("\x1b", "␛")


def screens() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each screen."""
    for name, flow in releases().items():
        for size in SIZES:
            yield f"watch-{name}-{size.width}x{size.height}", _live(flow, size, color=False)
            yield f"watch-{name}-{size.width}x{size.height}-color", _live(flow, size, color=True)
        yield f"describe-{name}", "\n".join(rendering.describe(flow, NOW, known(flow))) + "\n"
    flows = list(releases().values())
    for size in SIZES:
        table = rendering.flow_table(flows, NOW, width=size.width)
        yield f"get-{size.width}x{size.height}", "\n".join(table) + "\n"
    yield "get-piped", "\n".join(rendering.flow_table(flows, NOW)) + "\n"
    yield "status", "\n".join(headline(flow, NOW) for flow in flows) + "\n"
    lines: list[str] = []
    moments = iter([BEGAN + timedelta(seconds=seconds) for seconds in (0, 0, 121.2, 320)])
    screen = PlainScreen(lines.append, lambda: next(moments))
    for flow in (releases()["canary"], releases()["running"], releases()["failed"]):
        screen.show(flow)
    yield "watch-piped", "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in screens():
        (FOLDER / f"{name}.txt").write_text(text)
