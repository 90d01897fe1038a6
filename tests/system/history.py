"""Everything that happened to an instance, as the API server told it, and what must hold over all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from shared import kubernetes as k8s
from shared.errors import Unavailable
from tests.system.releases import Releases, until

Json = dict[str, Any]
GATE = "apps.triton.io/ready"
WATCHED = (k8s.PODS, k8s.DEPLOYFLOWS, k8s.ENDPOINT_SLICES, k8s.CLONESETS)


class Change(NamedTuple):
    kind: str
    type: str
    object: Json

    @property
    def version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


class History:
    """The changes of one instance, in the API server's order."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.changes: list[Change] = []

    def _of(self, kind: str) -> list[Change]:
        return sorted((c for c in self.changes if c.kind == kind), key=lambda change: change.version)

    # --- what must hold ---

    def serving(self) -> list[int]:
        """How many pods had traffic, after each change of the endpoints."""
        counts = []
        slices: dict[str, int] = {}
        for change in self._of("endpointslices"):
            if (change.object["metadata"].get("labels") or {}).get(
                "kubernetes.io/service-name"
            ) != self.instance:
                continue
            endpoints = change.object.get("endpoints") or []
            slices[change.object["metadata"]["name"]] = sum(
                1 for endpoint in endpoints if endpoint["conditions"].get("ready")
            )
            counts.append(sum(slices.values()))
        return counts

    def check(self, wanted: int, *, served_before: bool = True) -> None:
        """The invariants that hold for every release, however it went."""
        if served_before:
            counts = self.serving()
            assert min(counts) >= wanted, f"ready endpoints fell below {wanted}: {counts}"
        self._no_traffic_before_smoked()
        self._batches_only_grow()
        self._one_active_release()

    def _no_traffic_before_smoked(self) -> None:
        """A pod becomes Ready only with its containers ready and its gate open."""
        ready: set[str] = set()
        for change in self._of("pods"):
            name = change.object["metadata"]["name"]
            conditions = _conditions(change.object)
            if conditions.get("Ready") != "True":
                ready.discard(name)
            elif name not in ready:
                assert conditions.get("ContainersReady") == "True", name
                assert conditions.get(GATE) == "True", name
                ready.add(name)

    def _batches_only_grow(self) -> None:
        last: dict[str, tuple[int, int]] = {}
        for change in self._of("deployflows"):
            status = change.object.get("status") or {}
            name = change.object["metadata"]["name"]
            # Triton 0.1.x announces a batch before it begins
            begun = [c for c in status.get("conditions") or [] if c["phase"] != "Pending"]
            now = (len(begun), status.get("finishedBatches", 0))
            before = last.get(name, (0, 0))
            assert now >= before, f"{name}: batches went back from {before} to {now}"
            assert status.get("version", 0) >= 0
            last[name] = now

    def _one_active_release(self) -> None:
        active: dict[str, str] = {}
        for change in self._of("deployflows"):
            name = change.object["metadata"]["name"]
            status = change.object.get("status") or {}
            if status.get("finished") or status.get("phase") in {None, "Pending"} or change.type == "DELETED":
                active.pop(name, None)
            else:
                active[name] = status["phase"]
            assert len(active) <= 1, f"more than one release at once: {active}"

    def pulled_out_first(self) -> None:
        """No pod that had traffic was deleted before its gate was closed."""
        for change in self._of("pods"):
            if "deletionTimestamp" in change.object["metadata"]:
                assert _conditions(change.object).get(GATE) != "True", change.object["metadata"]["name"]


def _conditions(pod: Json) -> dict[str, str]:
    return {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions") or []}


def _instance_of(item: Json) -> str:
    labels = item["metadata"].get("labels") or {}
    application = (item.get("spec") or {}).get("application") or {}
    return str(
        application.get("instanceName")
        or labels.get("kubernetes.io/service-name")
        or labels.get("app.kubernetes.io/instance")
        or item["metadata"]["name"]
    )


@asynccontextmanager
async def recorded(releases: Releases, instance: str) -> AsyncIterator[History]:
    """Record an instance for the time of the block, from the state that it has at its beginning."""
    history = History(instance)
    started = asyncio.Event()
    tasks = [asyncio.create_task(_record(releases, resource, history, started)) for resource in WATCHED]
    await until("the recording runs", lambda: history.changes, 10)
    try:
        yield history
        # what happened last has been told when a later change of the same kind has been
        versions = await _latest(releases, instance)
        await until(
            "the recording has caught up",
            lambda: all(
                any(c.kind == kind and c.version >= version for c in history.changes)
                for kind, version in versions.items()
            ),
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _latest(releases: Releases, instance: str) -> dict[str, int]:
    latest: dict[str, int] = {}
    for resource in WATCHED:
        items = await releases.client.list(resource, releases.namespace)
        versions = [int(i["metadata"]["resourceVersion"]) for i in items if _instance_of(i) == instance]
        if versions:
            latest[resource.plural] = max(versions)
    return latest


async def _record(
    releases: Releases, resource: k8s.Resource, history: History, started: asyncio.Event
) -> None:
    version = "0"
    while True:
        query = {"resourceVersion": version}
        with suppress(Unavailable):
            async for line in releases.client.watch(resource, releases.namespace, query, silence_seconds=600):
                event = json.loads(line)
                assert event["type"] != "ERROR", event
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK" and _instance_of(event["object"]) == history.instance:
                    history.changes.append(Change(resource.plural, event["type"], event["object"]))
        started.set()
