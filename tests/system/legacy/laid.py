"""Lays out what Triton 0.1.x leaves behind: its CloneSet, pods with gates that it opened, its DeployFlows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

from shared.domain.json_types import Json
from shared.kube import client as k8s
from shared.kube.client import STRATEGIC
from tests.system.releases import NAMESPACE, Releases, until

FOLDER: Final = Path(__file__).parent
WANTED: Final = 6
GATE: Final = "apps.triton.io/ready"
REVISION: Final = "controller-revision-hash"


def _read(file: str, **values: object) -> Json:
    text = Template((FOLDER / file).read_text()).safe_substitute({k: str(v) for k, v in values.items()})
    body: Json = yaml.safe_load(text)
    return body


def owner_of(flow: Json) -> Json:
    """How 0.1.x claims a CloneSet for a release."""
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "name": flow["metadata"]["name"],
        "uid": flow["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


class Laid:
    """One instance; `names` are its new pods in the order in which they were made."""

    def __init__(self, releases: Releases, instance: str, wanted: int = WANTED) -> None:
        self.releases = releases
        self.instance = instance
        self.wanted = wanted
        self.started = datetime.now(UTC) - timedelta(seconds=1)
        self.names: list[str] = []

    # --- what 0.1.x does ---

    async def rest(self) -> Json:
        """An application at rest, made by a release that is over; the release."""
        await self.releases.service(self.instance)
        await self._make(self.wanted)
        pods = await self._containers_ready(self.wanted)
        await self.open(*(pod["metadata"]["name"] for pod in pods))
        await until(f"{self.instance} serves", self.serves)
        flow = await self.flow("first", action="create", image="nginx:1")
        return await self.status(flow, "success")

    async def create(self, flow: Json, *, new: int) -> None:
        """The first pods of an instance, made by a create."""
        await self.releases.service(self.instance)
        self.started = datetime.now(UTC)
        await self._make(new)
        await self.write({"metadata": {"ownerReferences": [owner_of(flow)]}})
        self.names = [pod["metadata"]["name"] for pod in await self._containers_ready(new)]

    async def _make(self, replicas: int) -> None:
        body = _read("cloneset.yaml", instance=self.instance, replicas=replicas)
        await self.releases.client.create(k8s.CLONESETS, NAMESPACE, body)

    async def flow(
        self, suffix: str, *, action: str = "update", image: str = "nginx:2", **strategy: Any
    ) -> Json:
        file = "restart.yaml" if action == "restart" else "deployflow.yaml"
        body = _read(
            file,
            name=f"{self.instance}-{suffix}",
            instance=self.instance,
            action=action,
            image=image,
            replicas=self.wanted,
        )
        if strategy:
            body["spec"]["updateStrategy"] |= strategy
        return await self.releases.client.create(k8s.DEPLOYFLOWS, NAMESPACE, body)

    async def status(self, flow: Json, place: str, *, failed: int = 0, **fields: Any) -> Json:
        """`.status` as 0.1.x writes it: all of it at once."""
        a, b = [*self.names, "", ""][:2]
        values = {
            "a": a,
            "b": b,
            "failed": failed,
            "replicas": self.wanted,
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "revision": (await self.cloneset())["status"]["updateRevision"],
        }
        body = _read("statuses.yaml", **values)[place] | fields
        name = flow["metadata"]["name"]
        return await self.releases.client.patch(
            k8s.DEPLOYFLOWS, NAMESPACE, name, {"status": body}, subresource="status"
        )

    async def begin(self, flow: Json, *, image: str = "nginx:2", new: int, ready: bool = True) -> None:
        """The template with its partition, then so many more replicas: new pods beside all old ones."""
        self.started = datetime.now(UTC)
        containers = (await self.cloneset())["spec"]["template"]["spec"]["containers"]
        containers[0]["image"] = image
        await self.write(
            {
                "metadata": {"ownerReferences": [owner_of(flow)]},
                "spec": {
                    "replicas": self.wanted,
                    "template": {"spec": {"containers": containers}},
                    "updateStrategy": {"paused": False, "partition": self.wanted},
                },
            }
        )
        await until("the CloneSet's controller has caught up", self._settled)
        await self.more(new, ready=ready)

    async def more(self, new: int, *, ready: bool = True) -> None:
        """So many new pods in all."""
        old = len(await self._pods(new=False))
        await self.write({"spec": {"replicas": old + new}})
        made = await self._containers_ready(new, new=True) if ready else await self._made(new)
        made.sort(key=lambda pod: pod["metadata"]["name"])
        known = set(self.names)
        self.names += [name for pod in made if (name := pod["metadata"]["name"]) not in known]

    async def open(self, *names: str) -> None:
        """As 0.1.x patches it: neither message nor time."""
        for name in names:
            body = {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
            await self.releases.client.patch(
                k8s.PODS, NAMESPACE, name, body, subresource="status", content_type=STRATEGIC
            )

    async def remove_old(self, count: int) -> None:
        """What 0.1.x meant to do once a batch is baked: as many old pods go as new ones serve."""
        await until("new pods serve", lambda: self.serves(self.wanted + count))
        await self.write(
            {"spec": {"replicas": self.wanted, "updateStrategy": {"partition": self.wanted - count}}}
        )
        await until("old pods are gone", lambda: self._old_are(self.wanted - count))

    async def write(self, body: Json) -> None:
        await self.releases.client.patch(k8s.CLONESETS, NAMESPACE, self.instance, body)

    # --- what can be seen ---

    async def cloneset(self) -> Json:
        return await self.releases.cloneset(self.instance)

    async def images(self) -> list[str]:
        pods = await self.releases.pods(self.instance)
        return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)

    async def _settled(self) -> bool:
        cloneset = await self.cloneset()
        seen = (cloneset.get("status") or {}).get("observedGeneration", 0)
        return bool(seen >= cloneset["metadata"]["generation"])

    async def _pods(self, *, new: bool | None = None) -> list[Json]:
        target = ((await self.cloneset()).get("status") or {}).get("updateRevision")
        pods = await self.releases.pods(self.instance)
        return [p for p in pods if new is None or (p["metadata"]["labels"].get(REVISION) == target) is new]

    async def _old_are(self, count: int) -> bool:
        return len(await self._pods(new=False)) == count

    async def serves(self, count: int | None = None) -> bool:
        wanted = self.wanted if count is None else count
        return len(await self.releases.endpoints(self.instance)) == wanted

    async def _made(self, count: int) -> list[Json]:
        async def there() -> list[Json] | None:
            pods = await self._pods(new=True)
            return pods if len(pods) == count else None

        made: list[Json] = await until(f"{count} new pods", there)
        return made

    async def _containers_ready(self, count: int, *, new: bool | None = None) -> list[Json]:
        async def ready() -> list[Json] | None:
            pods = [pod for pod in await self._pods(new=new) if _is(pod, "ContainersReady")]
            return pods if len(pods) == count else None

        pods: list[Json] = await until(f"{count} pods of {self.instance} have their containers ready", ready)
        return pods


def _is(pod: Json, kind: str) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
