"""How fast the planner decides, and how much memory a release takes in Redis while it waits.

The planner alone, in one process: the messages of an update of 20 pods in 4 batches, each pod telling of itself, are
decided on again and again. What it costs to read the same messages is measured beside it. The size is what Redis
itself says of the key (`MEMORY USAGE`), with names, uids and addresses as long as Kubernetes' own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    root = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))
    if importlib.util.find_spec("msgspec") is None:
        own = root / ".venv" / "bin" / "python"
        if not own.exists() or Path(sys.prefix) == own.parents[1]:
            sys.exit("error: packages are missing: run `make .venv/.ready` first")
        os.execv(own, [str(own), *sys.argv])

import redis

from bench.errors import BenchError
from bench.progress import say
from sandbox.process import free_port
from services.planner.decision.decide import decide
from services.planner.model.state import Instance
from services.planner.model.stored_state import dump, encode, load
from shared.domain.messages import ADAPTERS, TOPIC_OF
from tests.simulation.cluster import INSTANCE, NAMESPACE
from tests.simulation.world import RESEND_MS, HandledFact, World

PODS: Final = 20
BATCH: Final = 5
SECONDS: Final = 1.0
"""How long each run lasts at least."""
AIM_FACTS, AIM_BYTES = 20_000, 4_096
EXAMPLES: Final = """
examples:
  python bench/lifecycle.py
  python bench/lifecycle.py --runs 9 -o json
"""


class Measured(NamedTuple):
    """Facts a second: the median of the runs, each with its lowest and highest; bytes in Redis."""

    decided: list[float]
    read: list[float]
    waiting_bytes: int
    finished_bytes: int


def release() -> World:
    """An update, from its first to its last message; one pod after the other starts."""
    world = World(PODS)
    world.containers_start = False
    world.apply("new", {"mode": "auto", "batchSize": BATCH})
    while not world.flow("new").phase.finished:
        world.start(next(pod for pod in world.cluster.live if not pod.containers_ready))
    return world


def waiting() -> Instance:
    """A release of so many pods that waits for a person, its canary without traffic."""
    world = World(PODS - 1)
    world.apply("new", {"mode": "auto", "batchSize": BATCH, "canary": 1})
    return world.instance


def _decide_all(history: list[HandledFact]) -> None:
    instance = Instance(namespace=NAMESPACE, name=INSTANCE)
    for entry in history:
        instance = decide(instance, [entry.fact], entry.now, resend_ms=RESEND_MS).instance
    if instance.active is not None:
        msg = "the release did not come to its end: what was measured is not what was meant"
        raise BenchError(msg)


def _rate(work: Callable[[], None], facts: int) -> float:
    rounds, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < SECONDS:
        work()
        rounds += 1
    return rounds * facts / spent


def as_in_kubernetes(state: bytes) -> Instance:
    """With uids, names, revisions and addresses as long as they are in a cluster."""
    uids: dict[str, str] = {}
    text = re.sub(
        r"uid-[a-z]+(-\d+)?", lambda found: uids.setdefault(found[0], str(uuid.uuid4())), state.decode()
    )
    body: Any = json.loads(text)
    body["name"] = "12122-sample-10010"
    for number, pod in enumerate(body.get("pods", {}).values()):
        pod |= {
            "name": f"12122-sample-10010-{uuid.uuid4().hex[:5]}",
            "revision": f"12122-sample-10010-{pod['revision'][:1] * 10}",
            "ip": f"10.128.{number}.{number + 100}",
            "port": 8080,
        }
    return load(json.dumps(body).encode())


def _redis_bytes(instances: list[Instance]) -> list[int]:
    """What Redis needs for each, in a server of our own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        try:
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            msg = "redis-server is missing: apt-get install redis-server"
            raise BenchError(msg) from None
        try:
            client: Any = redis.Redis(port=port, retry_on_error=[redis.ConnectionError], retry=_patient())
            sizes = []
            for number, instance in enumerate(instances):
                key = f"triton:instance:{instance.namespace}/{instance.name}-{number}"
                fields: Any = {"version": str(instance.version), "state": dump(instance), "outbox": ""}
                client.hset(key, mapping=fields)
                sizes.append(int(client.memory_usage(key, samples=0)))
            return sizes
        finally:
            server.terminate()
            server.wait()


def _patient() -> Any:
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    return Retry(ConstantBackoff(0.05), 100)


def measure(runs: int) -> Measured:
    world = release()
    history = world.history
    records = [(ADAPTERS[TOPIC_OF[type(entry.fact)]], entry.fact.model_dump_json()) for entry in history]

    def read_all() -> None:
        for adapter, record in records:
            adapter.validate_json(record)

    decided, read = [], []
    for run in range(runs):
        decided.append(_rate(lambda: _decide_all(history), len(history)))
        read.append(_rate(read_all, len(history)))
        say(f"run {run + 1} of {runs}: {decided[-1]:,.0f} facts/s decided on, {read[-1]:,.0f} read")
    idle = as_in_kubernetes(encode(waiting()))
    over = as_in_kubernetes(encode(_published(world)))
    return Measured(decided, read, *_redis_bytes([idle, over]))


def _published(world: World) -> Instance:
    """Once `.status` has a release's end, the planner keeps only that it was."""
    world.handle(world.observed("new", {"finished": True}))
    return world.instance


def lines(found: Measured) -> list[str]:
    decided, read = statistics.median(found.decided), statistics.median(found.read)
    spread = f"{min(found.decided):,.0f} to {max(found.decided):,.0f}"
    return [
        f"facts decided on, a second, one core: {decided:,.0f} ({spread}; aim: {AIM_FACTS:,})",
        f"the same facts read from JSON, a second: {read:,.0f}; deciding takes {read / decided:.1f} times as long",
        f"Redis, a release of {PODS} pods that waits for a person: {found.waiting_bytes:,} bytes (aim: {AIM_BYTES:,})",
        f"Redis, an instance whose release is finished and published: {found.finished_bytes:,} bytes",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("-o", "--output", choices=["json"], help="print JSON")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    try:
        found = measure(arguments.runs)
    except BenchError as error:
        sys.exit(f"error: {error}")
    if arguments.output:
        print(json.dumps(found._asdict()))
    else:
        print(*lines(found), sep="\n")


if __name__ == "__main__":
    main()
