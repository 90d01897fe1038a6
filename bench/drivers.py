"""The two sides of a comparison: how each prepares its applications, and releases them when told to.

Both return when the release was submitted and when each application was finished, on the same clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bench.errors import BenchError
from bench.following import follow
from bench.progress import during
from bench.workloads import NAMESPACE, SET_LABEL, V1, V2, Workload, template
from shared.domain.deploy_commands import deployflow_name, manifest
from shared.domain.deployflow import Action, Application, DeployFlowSpec, Mode, UpdateStrategy
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS, Client

GIVE_UP_SECONDS: Final = 600.0
"""A release that takes longer hangs: even the largest takes a minute."""
_FAILED: Final = {"Failed", "Aborted", "Canceled"}


class Outcome(NamedTuple):
    """When the release was submitted, and when each application was finished (seconds, monotonic clock)."""

    submitted: float
    finished: dict[str, float]


class Driver(Protocol):
    """One side: `prepare` makes everything with the old image, `release` replaces it."""

    async def prepare(self) -> None: ...

    async def release(self) -> Outcome: ...


class Triton:
    """Releases by DeployFlows, one an application; finished is when a watch shows phase Success."""

    def __init__(self, client: Client, of_set: str, workload: Workload) -> None:
        self._client = client
        self._set = of_set
        self._workload = workload

    async def prepare(self) -> None:
        await self._run(Action.CREATE, V1, self._workload.replicas, "Triton: applications made")

    async def release(self) -> Outcome:
        return await self._run(Action.UPDATE, V2, self._workload.batch_size, "Triton: applications released")

    async def _run(self, action: Action, image: str, batch_size: int, what: str) -> Outcome:
        flows = {
            name: self._flow(name, action, image, batch_size) for name in self._workload.instances(self._set)
        }
        names = {flow["metadata"]["name"]: instance for instance, flow in flows.items()}
        finished: dict[str, float] = {}
        async with during(what, lambda: f"{len(finished)} of {len(flows)}"), asyncio.timeout(GIVE_UP_SECONDS):
            watching = asyncio.create_task(self._watch(names, finished))
            submitted = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    for flow in flows.values():
                        group.create_task(self._client.create(DEPLOYFLOWS, NAMESPACE, flow))
                await watching
            finally:
                watching.cancel()
        return Outcome(submitted, finished)

    async def _watch(self, names: dict[str, str], finished: dict[str, float]) -> None:
        async for _, raw in follow(self._client, DEPLOYFLOWS, self._set):
            flow = json.loads(bytes(raw))
            instance = names.get(flow["metadata"]["name"])
            if instance is not None and instance not in finished and _succeeded(flow):
                finished[instance] = time.monotonic()
            if len(finished) == len(names):
                return

    def _flow(self, instance: str, action: Action, image: str, batch_size: int) -> Json:
        application = Application(
            app_id=1,
            group_id=1,
            app_name="bench",
            instance_name=instance,
            replicas=self._workload.replicas,
            template=template(self._set, instance, image),
        )
        strategy = UpdateStrategy(batch_size=batch_size, mode=Mode.AUTO)
        spec = DeployFlowSpec(action=action, application=application, update_strategy=strategy)
        request = f"{instance}-{action}"
        flow = manifest(
            spec,
            name=deployflow_name(instance, request),
            namespace=NAMESPACE,
            request_id=request,
            requested_by="bench",
        )
        flow["metadata"]["labels"][SET_LABEL] = self._set
        return flow


def _succeeded(flow: Json) -> bool:
    """Whether a release is over; raises `BenchError` for one that failed or stopped."""
    status = flow.get("status") or {}
    phases = {condition["phase"] for condition in status.get("conditions") or ()}
    if status.get("phase") in _FAILED or phases & {"SmokeFailed", "BakeFailed"}:
        reason = f"{status.get('reason')}: {status.get('message')}"
        msg = f"the release {flow['metadata']['name']} failed, where it must not: {reason}"
        raise BenchError(msg)
    return status.get("phase") == "Success"


class Floor:
    """The bare script in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, workload: Workload) -> None:
        self._process = process
        self._workload = workload

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, kubeconfig: Path, of_set: str, workload: Workload) -> AsyncIterator[Floor]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("floor.py")),
            *("--kubeconfig", str(kubeconfig), "--set", of_set),
            *("--applications", str(workload.applications)),
            *("--replicas", str(workload.replicas), "--batch-size", str(workload.batch_size)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process, workload)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def prepare(self) -> None:
        async with during("floor: pods made", lambda: f"{self._workload.pods} in all"):
            await self._until("prepared")

    async def release(self) -> Outcome:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        result = (await self._finished())["result"]
        return Outcome(result["submitted"], result["finished"])

    async def _finished(self) -> Json:
        finished = 0

        def count(told: Json) -> None:
            nonlocal finished
            finished = told["finished"]

        async with during(
            "floor: applications released", lambda: f"{finished} of {self._workload.applications}"
        ):
            return await self._until("result", count)

    async def _until(self, what: str, meanwhile: Any = None) -> Json:
        assert self._process.stdout is not None
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while line := await self._process.stdout.readline():
                told: Json = json.loads(line)
                if what in told:
                    return told
                if meanwhile is not None:
                    meanwhile(told)
        msg = f"the floor's script ended before it told {what!r}: its error is above"
        raise BenchError(msg)
