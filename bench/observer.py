"""Watches the pods of one side of a run and notes when each takes its steps."""

from __future__ import annotations

import asyncio
import time

import msgspec

from bench.following import follow
from bench.legs import PodTimes
from bench.workloads import APPLICATION_LABEL, V2
from shared.kube.client import PODS, Client
from shared.kube.pods import Pod


class Observer:
    """`pods` by uid, while `watch` runs. Costs both sides the same: one reader more on the pods' watch."""

    def __init__(self, client: Client, of_set: str) -> None:
        self._client = client
        self._set = of_set
        self._pod = msgspec.json.Decoder(Pod)
        self.pods: dict[str, PodTimes] = {}
        self.live: set[str] = set()
        self.none_left = asyncio.Event()

    async def watch(self) -> None:
        """Until cancelled."""
        async for kind, raw in follow(self._client, PODS, self._set):
            self._note(self._pod.decode(raw), time.monotonic(), gone=kind == "DELETED")

    def _note(self, pod: Pod, now: float, *, gone: bool) -> None:
        meta = pod.metadata
        if meta.uid not in self.pods:
            new = pod.spec.containers[0].image == V2
            self.pods[meta.uid] = PodTimes(meta.labels[APPLICATION_LABEL], new, made=now)
            self.live.add(meta.uid)
            self.none_left.clear()
        times = self.pods[meta.uid]
        if not times.started and pod.containers_ready:
            times.started = now
        if not times.ready and pod.ready:
            times.ready = now
        if gone:
            times.gone = now
            self.live.discard(meta.uid)
            if not self.live:
                self.none_left.set()
