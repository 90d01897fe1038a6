"""Follows DeployFlows, CloneSets and pods of all stories by three watches, and lets each story's checks see the changes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from bench.campaigns.observed import INSTANCE, Flow, Snapshot
from bench.campaigns.running_checks import (
    CrashingImages,
    GrowingBatches,
    OpenedGates,
    ReadyFloor,
    Violation,
)
from shared.kube.client import CLONESETS, DEPLOYFLOWS, PODS, Client, Resource
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector

_RESOURCES: Final[dict[Resource, Any]] = {PODS: Pod, CLONESETS: CloneSet, DEPLOYFLOWS: Flow}


class Sight:
    """What is seen of one story's instance, and the checks of it."""

    def __init__(self) -> None:
        self.now = Snapshot()
        self.violations: list[Violation] = []
        self.floor = ReadyFloor()
        self.gates = OpenedGates()
        self.changes = 0
        """How often anything has changed; a release that says again what it waits for has not."""
        self._crashing = CrashingImages()
        self._batches = GrowingBatches()

    def changed(self, kind: type[Any], old: Any, new: Any) -> None:
        self.changes += not (kind is Flow and _stands(old, new))
        name = (new or old).metadata.name
        if kind is Pod:
            self._pod(old, new)
        elif name == INSTANCE and kind is CloneSet:
            self.now.cloneset = new
            self._note(self._batches.cloneset(new))
        elif kind is Flow:
            if new is None:
                self.now.flows.pop(name, None)
            else:
                self.now.flows[name] = new
                if new.phase == "Success":
                    # of no pods, it had none to approve: what is made of its template later may serve
                    self.gates.approve(name)
            self._note(self._batches.flow(old, new, name))

    def _pod(self, old: Pod | None, new: Pod | None) -> None:
        old, new = _of_instance(old), _of_instance(new)
        if old is None and new is None:
            return
        if new is None:
            assert old is not None
            self.now.pods.pop(old.metadata.uid, None)
        else:
            self.now.pods[new.metadata.uid] = new
        self._note(self.floor.pod(old, new))
        self._note(self.gates.pod(old, new))
        self._note(self._crashing.pod(old, new))

    def _note(self, violation: Violation | None) -> None:
        if violation is not None:
            self.violations.append(violation)


def _stands(old: Flow | None, new: Flow | None) -> bool:
    if old is None or new is None:
        return False
    return all(
        getattr(old, field) == getattr(new, field) for field in ("spec", "phase", "reason", "conditions")
    )


def _of_instance(pod: Pod | None) -> Pod | None:
    """Return it; None for one whose label somebody has removed."""
    return pod if pod is not None and pod.key.instance == INSTANCE else None


class Watcher:
    """`sights`: by namespace, those that are followed. `run` until cancelled."""

    def __init__(self, client: Client) -> None:
        self.sights: dict[str, Sight] = {}
        self._reflectors = [
            Reflector(client, resource, kind, partial(self._changed, kind), namespaces=[])
            for resource, kind in _RESOURCES.items()
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    async def synced(self) -> None:
        await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))

    def _changed(self, kind: type[Any], old: Any, new: Any) -> None:
        if sight := self.sights.get((new or old).metadata.namespace):
            sight.changed(kind, old, new)
