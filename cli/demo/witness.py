"""Record what users of the Service see: which pods are ready endpoints at every moment.

It watches the API server, not Triton, so that the checks of the demo are independent of Triton.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from shared.domain.deployflow import INSTANCE_LABEL
from shared.kube.client import ENDPOINT_SLICES, PODS, Client
from shared.kube.reflector import Meta, Reflector

_POLL_SECONDS: Final = 0.02


class _Conditions(msgspec.Struct):
    ready: bool | None = None


class _Target(msgspec.Struct):
    name: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    target_ref: _Target = msgspec.field(default_factory=_Target)


class Slice(msgspec.Struct):
    metadata: Meta
    endpoints: list[_Endpoint] | None = None


class _Container(msgspec.Struct):
    image: str = ""


class _PodSpec(msgspec.Struct):
    containers: list[_Container]


class Pod(msgspec.Struct):
    metadata: Meta
    spec: _PodSpec


class Seen(NamedTuple):
    """The ready endpoints from a moment on (monotonic seconds)."""

    at: float
    pods: frozenset[str]


class Witness:
    """Records one Service and the instance behind it, for the length of an `async with` block."""

    def __init__(self, client: Client, namespace: str, service: str, instance: str) -> None:
        self.history: list[Seen] = []
        self.images: dict[str, str] = {}
        """The image of every pod that was observed, by the pod's name."""
        self._slices = Reflector(
            client,
            ENDPOINT_SLICES,
            Slice,
            self._slice_changed,
            namespaces=[namespace],
            labels=f"kubernetes.io/service-name={service}",
        )
        self._pods = Reflector(
            client,
            PODS,
            Pod,
            self._pod_changed,
            namespaces=[namespace],
            labels=f"{INSTANCE_LABEL}={instance}",
        )
        self._ready: dict[str, frozenset[str]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each.run()) for each in (self._slices, self._pods)]
        await self._slices.synced.wait()
        await self._pods.synced.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def now(self) -> frozenset[str]:
        return self.history[-1].pods if self.history else frozenset()

    @property
    def living(self) -> set[str]:
        """Return the images of the existing pods."""
        return {_image(pod) for pod in self._pods.items.values()}

    def since(self, moment: float) -> list[Seen]:
        """Return the history from that moment on, starting with the state at it."""
        before = [seen for seen in self.history if seen.at <= moment]
        return before[-1:] + [seen for seen in self.history if seen.at > moment]

    async def wait_for(self, count: int, within: float) -> bool:
        """Wait for `count` ready endpoints; return False after `within` seconds."""
        return await self._wait(lambda: len(self.now) == count, within)

    async def wait_for_end_of(self, image: str, within: float) -> bool:
        """Wait until no pod of the image is left; return False after `within` seconds."""
        return await self._wait(lambda: image not in self.living, within)

    async def _wait(self, done: Callable[[], bool], within: float) -> bool:
        deadline = time.monotonic() + within
        while not done():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _slice_changed(self, old: Slice | None, new: Slice | None) -> None:
        seen = new or old
        if seen is None:
            return
        endpoints = (new.endpoints or []) if new else []
        self._ready[seen.metadata.uid] = frozenset(
            endpoint.target_ref.name for endpoint in endpoints if endpoint.conditions.ready
        )
        pods = frozenset[str]().union(*self._ready.values())
        if not self.history or pods != self.now:
            self.history.append(Seen(time.monotonic(), pods))

    def _pod_changed(self, _: Pod | None, new: Pod | None) -> None:
        if new is not None:
            self.images[new.metadata.name] = _image(new)


def _image(pod: Pod) -> str:
    return pod.spec.containers[0].image
