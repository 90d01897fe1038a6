"""Everything that happened to an instance, as the API server reported it, and what must hold over all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import dropwhile
from typing import NamedTuple

from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube import client as k8s
from shared.kube.client import ApiError
from tests.system.releases import Releases, until

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

    def ready(self) -> list[int]:
        """How many pods were Ready, after each change of a pod; the first ones show what was there before."""
        ready: set[str] = set()
        counts = []
        for change in self._of("pods"):
            uid = change.object["metadata"]["uid"]
            if change.type != "DELETED" and is_ready(change.object):
                ready.add(uid)
            else:
                ready.discard(uid)
            counts.append(len(ready))
        return counts

    def check(self, wanted: int, *, served_before: bool = True, endpoints: bool = True) -> None:
        """The invariants that hold for every release, however it went.

        Not those of the `endpoints` where the API server was away: the cluster's own controller of them looks
        again up to a minute later than others, and writes down pods half of which it has read again.
        """
        if served_before:
            counts = list(dropwhile(lambda count: count < wanted, self.ready()))
            assert counts, f"there were never {wanted} Ready pods"
            assert min(counts) >= wanted, f"Ready pods fell below {wanted}: {counts}"
        if served_before and endpoints:
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

    def pods_ready(self) -> set[str]:
        """The uids of the pods that took traffic, all the time or later."""
        return {c.object["metadata"]["uid"] for c in self._of("pods") if is_ready(c.object)}

    def pods_gone(self) -> set[str]:
        """The uids of the pods that were deleted to the end."""
        return {c.object["metadata"]["uid"] for c in self._of("pods") if c.type == "DELETED"}

    def pulled_out_first(self) -> None:
        """No pod that had traffic was deleted before its gate was closed."""
        for change in self._of("pods"):
            if "deletionTimestamp" in change.object["metadata"]:
                assert _conditions(change.object).get(GATE) != "True", change.object["metadata"]["name"]


def is_ready(pod: Json) -> bool:
    return _conditions(pod).get("Ready") == "True"


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
    tasks = [asyncio.create_task(_record(releases, resource, history)) for resource in WATCHED]
    try:
        await until(f"the recording of {instance} runs", lambda: history.changes)
        yield history
        # the last change has been reported when a later one of the same kind has been
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


async def _record(releases: Releases, resource: k8s.Resource, history: History) -> None:
    version = "0"
    while True:
        query = {"resourceVersion": version}
        try:
            async for line in releases.client.watch(resource, releases.namespace, query, silence_seconds=600):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    # the API server was restarted and knows nothing older: it reports all current objects again
                    version = "0"
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK" and _instance_of(event["object"]) == history.instance:
                    history.changes.append(Change(resource.plural, event["type"], event["object"]))
        except (Unavailable, ApiError):
            await asyncio.sleep(0.05)
