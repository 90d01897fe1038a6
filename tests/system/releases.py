"""What a person does with releases, and what can be seen of them from outside: the API server and the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.event_store import open_store
from shared.event_store.interface import Query, Stream
from shared.kube import client as k8s
from shared.kube.client import Client, Resource
from shared.settings import Settings

SERVICES = Resource("/api/v1", "services")
NAMESPACES = Resource("/api/v1", "namespaces")
NAMESPACE = "default"
LONGEST = 60
"""Seconds that a test waits for what takes milliseconds: machines that build and test at once stall."""


def deployflow(
    name: str,
    instance: str,
    *,
    action: str = "update",
    image: str = "nginx:1",
    replicas: int = 6,
    annotations: Json | None = None,
    **strategy: Any,
) -> Json:
    template = {
        "metadata": {"annotations": {"sandbox.triton.io/start-seconds": "0.1-0.4", **(annotations or {})}},
        "spec": {"containers": [{"name": "main", "image": image, "ports": [{"containerPort": 80}]}]},
    }
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": name},
        "spec": {
            "action": action,
            "application": {
                "appID": 7,
                "groupID": 8,
                "appName": "shop",
                "instanceName": instance,
                "replicas": replicas,
                "template": template,
            },
            "updateStrategy": {"mode": "auto", **strategy},
        },
    }


async def until(what: str, condition: Callable[[], Any], seconds: float = LONGEST) -> Any:
    """Wait for a condition (a function, or one that returns an awaitable); fails naming what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)


class Releases:
    """A client of the sandbox's cluster, in one namespace."""

    def __init__(self, sandbox: Sandbox, namespace: str = NAMESPACE) -> None:
        self._sandbox = sandbox
        self.namespace = namespace
        self.client: Client
        settings = Settings(event_store=sandbox.event_store)
        self._store = open_store(settings)

    async def __aenter__(self) -> Self:
        self.client = await Client.connect(self._sandbox.kubeconfig, agent="test")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()
        await self._store.close()

    async def make_namespace(self) -> None:
        await self.client.create(NAMESPACES, None, {"metadata": {"name": self.namespace}})

    async def apply(self, body: Json) -> str:
        name: str = body["metadata"]["name"]
        await self.client.create(k8s.DEPLOYFLOWS, self.namespace, body)
        return name

    async def service(self, instance: str) -> None:
        await self.client.create(
            SERVICES,
            self.namespace,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": instance},
                "spec": {"selector": {"app.kubernetes.io/instance": instance}, "ports": [{"port": 80}]},
            },
        )

    async def create(self, instance: str, replicas: int = 6, **strategy: Any) -> None:
        """An instance that runs, by a first release."""
        await self.service(instance)
        body = deployflow(f"{instance}-first", instance, action="create", replicas=replicas, **strategy)
        await self.apply(body)
        await self.finished(f"{instance}-first", "Success")
        await self.serves(instance, replicas)

    async def flow(self, name: str) -> Json:
        return await self.client.get(k8s.DEPLOYFLOWS, self.namespace, name)

    async def status(self, name: str) -> Json:
        status: Json = (await self.flow(name)).get("status") or {}
        return status

    async def names(self, instance: str | None = None) -> list[str]:
        """Of the DeployFlows of an instance, or of all that there are."""
        return [
            flow["metadata"]["name"]
            for flow in await self.client.list(k8s.DEPLOYFLOWS, self.namespace)
            if instance in {None, flow["spec"]["application"]["instanceName"]}
        ]

    async def strategy(self, name: str, **fields: Any) -> None:
        await self.client.patch(k8s.DEPLOYFLOWS, self.namespace, name, {"spec": {"updateStrategy": fields}})

    async def until_status(
        self, name: str, what: str, condition: Callable[[Json], Any], seconds: float = LONGEST
    ) -> Json:
        last: Json = {}

        async def holds() -> Any:
            nonlocal last
            last = await self.status(name)
            return condition(last)

        try:
            await until(what, holds, seconds)
        except AssertionError as error:
            brief = {
                key: last.get(key)
                for key in ("phase", "reason", "message", "finishedBatches", "sequence", "conditions")
            }
            raise AssertionError(f"{name}: {error}; status: {brief}") from None
        return last

    async def finished(self, name: str, phase: str, seconds: float = 60) -> Json:
        status = await self.until_status(name, "finished", lambda s: s.get("finished"), seconds)
        assert status["phase"] == phase, (status["phase"], status["reason"], status["message"])
        return status

    async def batch_is(self, name: str, number: int, *phases: str, seconds: float = LONGEST) -> Json:
        def reached(status: Json) -> bool:
            conditions = status.get("conditions") or []
            return len(conditions) >= number and conditions[number - 1]["phase"] in phases

        return await self.until_status(name, f"batch {number} {phases}", reached, seconds)

    async def pods(self, instance: str) -> list[Json]:
        pods = await self.client.list(
            k8s.PODS, self.namespace, labels=f"app.kubernetes.io/instance={instance}"
        )
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    async def cloneset(self, instance: str) -> Json:
        return await self.client.get(k8s.CLONESETS, self.namespace, instance)

    async def endpoints(self, instance: str) -> set[str]:
        """The names of the pods that get traffic."""
        labels = f"kubernetes.io/service-name={instance}"
        slices = await self.client.list(k8s.ENDPOINT_SLICES, self.namespace, labels=labels)
        return {
            endpoint["targetRef"]["name"]
            for item in slices
            for endpoint in item.get("endpoints") or []
            if endpoint["conditions"].get("ready")
        }

    async def serves(self, instance: str, number: int) -> None:
        """Wait until so many pods get traffic: a real cluster's endpoints follow its pods a little later."""

        async def serve() -> bool:
            return len(await self.endpoints(instance)) == number

        await until(f"{number} pods of {instance} serve", serve)

    async def logged(self, deployflow: str) -> list[Json]:
        """What the log has of a release so far: itself, its pods and its CloneSet."""
        return await self._store.search(Query(namespace=self.namespace, deployflow=deployflow, limit=5000))

    async def events(self, deployflow: str) -> list[Json]:
        """The story of a release as the log has it, once its end is in it."""

        async def log_entries() -> list[Json]:
            found = await self._store.search(
                Query([Stream.DEPLOYFLOW], namespace=self.namespace, deployflow=deployflow, limit=5000)
            )
            ends = {"Success", "Failed", "Canceled", "Aborted"}
            return found if any(e["event"]["reason"] in ends for e in found) else []

        story: list[Json] = await until(f"the end of {deployflow} in the log", log_entries)
        return story
