"""Pods whose kubelet is the test: they start, crash or wait when it says so, in the sandbox and on a real cluster."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube import client as k8s
from shared.kube.client import ApiError
from tests.system.releases import Releases

BY_HAND: Final = {"sandbox.triton.io/start-seconds": "3600"}
"""The annotation of a template whose pods the cluster's own kubelet leaves alone for longer than any test."""
_addresses = itertools.count(1)


class Do(StrEnum):
    START = "start"
    CRASH = "crash"
    WAIT = "wait"


class Hand:
    """What becomes of the pods of a namespace that begin from now on."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._do = Do.START
        self._image = ""
        self._waiting: dict[str, Json] = {}

    async def shall(self, do: Do, *, image: str = "") -> None:
        """From now on, and for those that wait; pods of another image than the one named start."""
        self._do, self._image = do, image
        waiting, self._waiting = self._waiting, {}
        for pod in waiting.values():
            await self._begin(pod)

    async def play(self) -> None:
        version = "0"
        begun: set[str] = set()
        while True:
            query = {"resourceVersion": version}
            try:
                watch = self._releases.client.watch(
                    k8s.PODS, self._releases.namespace, query, silence_seconds=600
                )
                async for line in watch:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        version = "0"
                        break
                    pod = event["object"]
                    version = pod["metadata"]["resourceVersion"]
                    if (
                        event["type"] in {"ADDED", "MODIFIED"}
                        and _is_owned(pod)
                        and pod["metadata"]["uid"] not in begun
                    ):
                        begun.add(pod["metadata"]["uid"])
                        await self._begin(pod)
            except (Unavailable, ApiError):
                await asyncio.sleep(0.05)

    async def _begin(self, pod: Json) -> None:
        other = bool(self._image) and self._image != pod["spec"]["containers"][0]["image"]
        match Do.START if other else self._do:
            case Do.START:
                await report(self._releases, pod, started(pod))
            case Do.CRASH:
                await report(self._releases, pod, crashed(pod))
            case Do.WAIT:
                self._waiting[pod["metadata"]["uid"]] = pod


def _is_owned(pod: Json) -> bool:
    notes = pod["metadata"].get("annotations") or {}
    return (
        BY_HAND.items() <= notes.items()
        and "nodeName" in pod["spec"]
        and not pod["status"].get("containerStatuses")
        and "deletionTimestamp" not in pod["metadata"]
    )


@asynccontextmanager
async def by_hand(releases: Releases) -> AsyncIterator[Hand]:
    hand = Hand(releases)
    task = asyncio.create_task(hand.play())
    try:
        yield hand
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def report(releases: Releases, pod: Json, status: Json) -> None:
    """Write a pod's status as its kubelet does; nothing where the pod is gone meanwhile."""
    try:
        await releases.client.patch(
            k8s.PODS,
            releases.namespace,
            pod["metadata"]["name"],
            {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status},
            subresource="status",
            content_type=k8s.STRATEGIC,
        )
    except ApiError as error:
        if error.code not in {404, 409}:
            raise


def started(pod: Json) -> Json:
    """All containers run and say that they are ready."""
    number = next(_addresses)
    ip = f"10.99.{number // 250}.{number % 250 + 1}"
    running = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": _now()}}}
    return _status(pod, "True", running) | {"startTime": _now(), "podIP": ip, "podIPs": [{"ip": ip}]}


def crashed(pod: Json) -> Json:
    """All containers wait for their next attempt after a crash."""
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
    ended = {"exitCode": 1, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}
    crash = {
        "ready": False,
        "restartCount": 1,
        "state": {"running": None, "waiting": waiting},
        "lastState": {"terminated": ended},
    }
    return _status(pod, "False", crash)


def _status(pod: Json, ready: str, state: Json) -> Json:
    names = {"type": ("Initialized", "ContainersReady", "Ready"), "status": ("True", ready, "False")}
    conditions = [
        {"type": kind, "status": status, "lastTransitionTime": _now()}
        for kind, status in zip(names["type"], names["status"], strict=True)
    ]
    containers = [
        {"name": c["name"], "image": c["image"], "imageID": c["image"], "started": ready == "True", **state}
        for c in pod["spec"]["containers"]
    ]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
