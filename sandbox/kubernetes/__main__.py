"""Runs the embedded Kubernetes as a process of its own: `python -m sandbox.kubernetes --kubeconfig PATH`.

Prints one JSON line when it is ready, so that whoever started it knows where it listens, and stops on SIGTERM
or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from .behaviours import parse_span
from .cluster import Cluster, Options
from .kubelet import Timing
from .recorder import KEPT
from .store import HISTORY_EVENTS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.kubernetes",
        description=(
            "An embedded Kubernetes for trying and testing: in memory, no authentication, on loopback only."
        ),
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="where to write a kubeconfig")
    parser.add_argument(
        "--crd",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file of CustomResourceDefinitions to load at start; repeatable",
    )
    parser.add_argument(
        "--start-seconds",
        type=parse_span,
        default=Timing().start,
        metavar="A-B",
        help="how long pods take to start (default 0.2-1.2)",
    )
    parser.add_argument(
        "--stop-seconds",
        type=parse_span,
        default=Timing().stop,
        metavar="A-B",
        help="how long pods take to stop (default 0.1-0.5)",
    )
    parser.add_argument(
        "--bookmark-seconds", type=float, default=3.0, help="between two bookmarks of a watch"
    )
    parser.add_argument(
        "--history-events",
        type=int,
        default=HISTORY_EVENTS,
        help="changes kept for each resource for watches to start from",
    )
    parser.add_argument("--kept-events", type=int, default=KEPT, help="Event objects kept; 0 makes none")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options = Options(
        port=arguments.port,
        crds=tuple(arguments.crd),
        timing=Timing(arguments.start_seconds, arguments.stop_seconds),
        bookmark_seconds=arguments.bookmark_seconds,
        history_events=arguments.history_events,
        kept_events=arguments.kept_events,
    )
    async with Cluster(options=options) as cluster:
        arguments.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        arguments.kubeconfig.write_text(cluster.kubeconfig)
        print(
            json.dumps({"ready": True, "url": cluster.url, "kubeconfig": str(arguments.kubeconfig)}),
            flush=True,
        )
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
