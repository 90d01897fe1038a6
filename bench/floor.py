"""The floor: the least that a gated release in batches can cost, as a bare script in a process of its own.

It moves each CloneSet's partition by one batch at a time (maxSurge = batch size, maxUnavailable 0, the image in
the first patch), opens each pod's gate as soon as its containers are ready, and patches again the moment the
batch's new pods are Ready and the old ones gone. It keeps no state, tells nobody anything, survives nothing and
judges nothing: what Triton takes longer is the price of doing all that.

One watch on pods is all that it reads: they tell sooner than the CloneSet's status does.
Lines on stdout are JSON: `{"prepared": …}`, then, after a line on stdin, `{"finished": n}` and `{"result": …}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import uvloop
import yaml

from shared.domain.json_types import Json

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.workloads import APPLICATION_LABEL, NAMESPACE, SET_LABEL, V1, V2, Workload, template

AGENT: Final = "triton-bench-floor"
GATE: Final = "apps.triton.io/ready"
CLONESETS: Final = f"/apis/apps.kruise.io/v1alpha1/namespaces/{NAMESPACE}/clonesets"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
LINE_LIMIT: Final = 1 << 21


class Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str
    resource_version: str
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}


class Container(msgspec.Struct):
    image: str


class Spec(msgspec.Struct):
    containers: list[Container]


class Condition(msgspec.Struct):
    type: str
    status: str


class Status(msgspec.Struct, frozen=True):
    conditions: list[Condition] = []


class Pod(msgspec.Struct):
    metadata: Meta
    spec: Spec
    status: Status = Status()

    def has(self, kind: str) -> bool:
        return any(c.type == kind and c.status == "True" for c in self.status.conditions)


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Any(msgspec.Struct):
    metadata: _Version


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Application:
    """One CloneSet on its way: which of its pods live, and which of the wanted image are Ready."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.live: set[str] = set()
        self.ready: set[str] = set()
        self.batches_asked = 0
        self.finished_at = 0.0


class Floor:
    """Drives all applications of one workload."""

    def __init__(self, session: aiohttp.ClientSession, of_set: str, workload: Workload) -> None:
        self._session = session
        self._set = of_set
        self._workload = workload
        self._applications = {name: Application(name) for name in workload.instances(of_set)}
        self._image = V1
        self._asked: set[str] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._event = msgspec.json.Decoder(_Event)
        self._pod = msgspec.json.Decoder(Pod)
        self._any = msgspec.json.Decoder(_Any)
        self._arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> None:
        """Make the CloneSets of the old image, and wait until all their pods are Ready."""
        self._spawn(self._watch())
        for application in self._applications.values():
            await self._request("POST", CLONESETS, self._cloneset(application.name))
        await self._arrived

    async def release(self) -> float:
        """Replace all pods; returns when it was submitted. Times are of the monotonic clock."""
        self._image = V2
        self._arrived = asyncio.get_running_loop().create_future()
        for application in self._applications.values():
            application.ready.clear()
        submitted = time.monotonic()
        for application in self._applications.values():
            self._next_batch(application)
        await self._arrived
        return submitted

    def finished(self) -> dict[str, float]:
        return {a.name: a.finished_at for a in self._applications.values() if a.finished_at}

    def stop(self) -> None:
        for task in self._work:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._arrived.done():
            self._arrived.set_exception(error)

    async def _watch(self) -> None:
        version = ""
        while True:
            query = {"watch": "1", "labelSelector": f"{SET_LABEL}={self._set}", "resourceVersion": version}
            async with self._session.get(PODS, params=query) as response:
                response.raise_for_status()
                async for line in response.content:
                    version = self._take(self._event.decode(line))

    def _take(self, event: _Event) -> str:
        if event.type not in {"ADDED", "MODIFIED", "DELETED"}:
            if event.type == "BOOKMARK":
                return self._any.decode(event.object).metadata.resource_version
            msg = f"the watch on pods ended: {bytes(event.object).decode(errors='replace')}"
            raise RuntimeError(msg)
        pod = self._pod.decode(event.object)
        application = self._applications[pod.metadata.labels[APPLICATION_LABEL]]
        self._note(application, pod, gone=event.type == "DELETED")
        return pod.metadata.resource_version

    def _note(self, application: Application, pod: Pod, *, gone: bool) -> None:
        uid, wanted = pod.metadata.uid, pod.spec.containers[0].image == self._image
        if gone:
            application.live.discard(uid)
        else:
            application.live.add(uid)
        if wanted and not gone and pod.metadata.deletion_timestamp is None and pod.has("Ready"):
            application.ready.add(uid)
        else:
            application.ready.discard(uid)
        if not gone and uid not in self._asked and pod.has("ContainersReady"):
            self._asked.add(uid)
            self._spawn(self._open(pod.metadata.name))
        self._go_on(application)

    def _go_on(self, application: Application) -> None:
        """The next batch, where this one has arrived."""
        workload = self._workload
        if application.finished_at or len(application.live) != workload.replicas:
            return
        if self._image == V1:
            if all(len(a.ready) == workload.replicas for a in self._applications.values()):
                self._arrive()
            return
        if len(application.ready) < min(application.batches_asked * workload.batch_size, workload.replicas):
            return
        if application.batches_asked < workload.batches:
            self._next_batch(application)
            return
        application.finished_at = time.monotonic()
        _tell({"finished": len(self.finished())})
        if len(self.finished()) == workload.applications:
            self._arrive()

    def _arrive(self) -> None:
        if not self._arrived.done():
            self._arrived.set_result(None)

    def _next_batch(self, application: Application) -> None:
        workload = self._workload
        application.batches_asked += 1
        new = min(application.batches_asked * workload.batch_size, workload.replicas)
        strategy = {
            "partition": workload.replicas - new,
            "maxSurge": workload.batch_size,
            "maxUnavailable": 0,
        }
        spec: Json = {"updateStrategy": strategy}
        if application.batches_asked == 1:
            pod_spec = template(self._set, application.name, V2)["spec"]
            spec["template"] = {"spec": {"containers": pod_spec["containers"]}}
        path = f"{CLONESETS}/{application.name}"
        self._spawn(self._request("PATCH", path, {"spec": spec}, MERGE))

    async def _open(self, pod: str) -> None:
        body = {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
        await self._request("PATCH", f"{PODS}/{pod}/status", body, STRATEGIC)

    async def _request(self, verb: str, path: str, body: Json, kind: str = "application/json") -> None:
        data = msgspec.json.encode(body)
        async with self._session.request(verb, path, data=data, headers={"Content-Type": kind}) as response:
            answer = await response.read()
            if response.status >= 400:
                msg = f"{verb} {path}: {response.status} {answer.decode(errors='replace')[:500]}"
                raise RuntimeError(msg)

    def _cloneset(self, name: str) -> Json:
        pods = template(self._set, name, V1)
        pods["spec"]["readinessGates"] = [{"conditionType": GATE}]
        return {
            "apiVersion": "apps.kruise.io/v1alpha1",
            "kind": "CloneSet",
            # not managed-by: triton-io, so that Triton leaves it alone
            "metadata": {"name": name, "labels": {SET_LABEL: self._set}},
            "spec": {
                "replicas": self._workload.replicas,
                "selector": {"matchLabels": {APPLICATION_LABEL: name}},
                "template": pods,
            },
        }


def _tell(what: Json) -> None:
    print(json.dumps(what), flush=True)


async def _lines() -> AsyncIterator[str]:
    """What comes on stdin, without holding the loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


class Place(NamedTuple):
    """Where the API server is, and how to be let in: a kubeconfig's current context, a token at most."""

    server: str
    headers: dict[str, str]
    tls: ssl.SSLContext | bool

    @classmethod
    def read(cls, kubeconfig: Path) -> Place:
        config = yaml.safe_load(kubeconfig.read_text())
        (cluster,), (user,) = config["clusters"], config["users"]
        token = (user["user"] or {}).get("token")
        authority = cluster["cluster"].get("certificate-authority")
        return cls(
            cluster["cluster"]["server"],
            {"User-Agent": AGENT, **({"Authorization": f"Bearer {token}"} if token else {})},
            ssl.create_default_context(cafile=authority) if authority else True,
        )


async def run(place: Place, of_set: str, workload: Workload) -> None:
    connector = aiohttp.TCPConnector(limit=64, ssl=place.tls)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(
        place.server, connector=connector, timeout=timeout, headers=place.headers, read_bufsize=LINE_LIMIT
    ) as session:
        floor = Floor(session, of_set, workload)
        try:
            await floor.prepare()
            _tell({"prepared": workload.pods})
            async for _ in _lines():
                submitted = await floor.release()
                _tell({"result": {"submitted": submitted, "finished": floor.finished()}})
                break
        finally:
            floor.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--set", required=True, help="the name that everything made here carries")
    parser.add_argument("--applications", type=int, required=True)
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    given = parser.parse_args()
    workload = Workload("floor", given.applications, given.replicas, given.batch_size)
    uvloop.run(run(Place.read(given.kubeconfig), given.set, workload))


if __name__ == "__main__":
    main()
