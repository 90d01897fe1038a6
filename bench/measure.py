"""One measurement: a workload released by one side, with what it cost and where its time went."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from bench.drivers import Driver, Floor, Triton
from bench.errors import BenchError
from bench.legs import ends, legs_of
from bench.meters import Request, cpu_between
from bench.observer import Observer
from bench.progress import during, say
from bench.surroundings import Surroundings
from bench.workloads import NAMESPACE, Workload
from shared.kube.client import CLONESETS, DEPLOYFLOWS, ApiError, Resource

SETTLE_SECONDS: Final = 1.0
"""After making and after releasing: what trails behind (status, commits, events) counts to what came before."""
GONE_SECONDS: Final = 60.0
FLOOR: Final = "floor"
TRITON: Final = "triton"


@dataclass
class Measured:
    """One side of one run. Requests are per pod replaced, by client; memory is the most so far."""

    seconds: float
    legs: dict[str, float]
    requests_per_pod: dict[str, float]
    requests: dict[str, int]
    cpu_seconds: dict[str, float]
    peak_bytes: dict[str, int]


@dataclass
class Run:
    """A workload released by both, one after the other; `load` is the machine's before each."""

    order: list[str]
    load: dict[str, float] = field(default_factory=dict)
    sides: dict[str, Measured] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.sides[TRITON].seconds / self.sides[FLOOR].seconds


async def compare(where: Surroundings, workload: Workload, number: int) -> Run:
    """One run: the floor first, then Triton; the other way round in every second run."""
    run = Run([FLOOR, TRITON] if number % 2 else [TRITON, FLOOR])
    for side in run.order:
        of_set = f"{workload.name.lower()}-{number}-{side}"
        run.load[side] = os.getloadavg()[0]
        async with _driver(side, where, of_set, workload) as driver:
            run.sides[side] = await _measure(where, driver, of_set, workload)
    say(
        f"  {workload.name}: floor {run.sides[FLOOR].seconds:.2f} s, Triton {run.sides[TRITON].seconds:.2f} s, "
        f"ratio {run.ratio:.2f}"
    )
    return run


@contextlib.asynccontextmanager
async def _driver(side: str, where: Surroundings, of_set: str, workload: Workload) -> AsyncIterator[Driver]:
    if side == TRITON:
        yield Triton(where.client, of_set, workload)
        return
    async with Floor.started(where.kubeconfig, of_set, workload) as floor:
        yield floor


async def _measure(where: Surroundings, driver: Driver, of_set: str, workload: Workload) -> Measured:
    observer = Observer(where.client, of_set)
    watching = asyncio.create_task(observer.watch())
    try:
        await driver.prepare()
        await asyncio.sleep(SETTLE_SECONDS)
        requests, usage = await where.requests(), where.usage()
        outcome = await driver.release()
        await asyncio.sleep(SETTLE_SECONDS)
        spent = await where.requests() - requests
        used = where.usage()
        await _remove(where, observer, of_set)
    finally:
        watching.cancel()
    pods = list(observer.pods.values())
    if (new := sum(1 for pod in pods if pod.new and pod.ready)) != workload.pods:
        msg = (
            f"{new} pods of the new image became Ready, not {workload.pods}: the release did not do its work"
        )
        raise BenchError(msg)
    done = ends(pods, outcome.finished)
    return Measured(
        seconds=max(done.values()) - outcome.submitted,
        legs=legs_of(pods, done, outcome.submitted, workload.batch_size),
        requests_per_pod=_per_pod(spent, workload),
        requests={f"{r.client} {r.verb} {r.resource} {r.code}": count for r, count in sorted(spent.items())},
        cpu_seconds=cpu_between(usage, used),
        peak_bytes={name: one.peak_bytes for name, one in used.items()}
        | {"all": sum(where.usage_of_all().values())},
    )


def _per_pod(spent: Counter[Request], workload: Workload) -> dict[str, float]:
    clients: Counter[str] = Counter()
    for request, count in spent.items():
        clients[request.client] += count
    return {client: count / workload.pods for client, count in sorted(clients.items())}


async def _remove(where: Surroundings, observer: Observer, of_set: str) -> None:
    """Everything of one side, so that the next one finds an empty cluster."""
    async with during("removing the pods", lambda: f"{len(observer.live)} left"):
        for resource in (DEPLOYFLOWS, CLONESETS):
            async with asyncio.TaskGroup() as group:
                for name in await _names(where, resource, of_set):
                    group.create_task(_delete(where, resource, name))
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await observer.none_left.wait()
        except TimeoutError:
            msg = f"{len(observer.live)} pods of {of_set} are still there {GONE_SECONDS:g} s after their deletion"
            raise BenchError(msg) from None


async def _names(where: Surroundings, resource: Resource, of_set: str) -> list[str]:
    items = await where.client.list(resource, NAMESPACE)
    return [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith(f"{of_set}-")]


async def _delete(where: Surroundings, resource: Resource, name: str) -> None:
    try:
        await where.client.delete(resource, NAMESPACE, name)
    except ApiError as error:
        if error.code != 404:
            raise
