"""A small client for the contract cases: plain HTTP on the server that a kubeconfig names, and waiting with a limit."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from shared.domain.json_types import Json

PATIENCE = float(os.environ.get("TRITON_CONTRACT_PATIENCE", "15"))
"""Seconds to wait for something that has to happen; real clusters under load need more than the sandbox."""

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
CLONESETS = "/apis/apps.kruise.io/v1alpha1/namespaces/{}/clonesets"
PODS = "/api/v1/namespaces/{}/pods"
CONFIGS = "/api/v1/namespaces/{}/configmaps"
EVENTS = "/api/v1/namespaces/{}/events"
QUICK = {"sandbox.triton.io/start-seconds": "0.05-0.25", "sandbox.triton.io/stop-seconds": "0.05-0.15"}
"""Annotations of pods that shall not be waited for: whoever plays the kubelet, here or there, knows them."""


class Connection(NamedTuple):
    """What a kubeconfig says about its current cluster."""

    url: str
    headers: dict[str, str]
    tls: ssl.SSLContext | bool


class Answer(NamedTuple):
    code: int
    body: Json
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    def causes(self) -> dict[str, str]:
        return {c["field"]: c["message"] for c in (self.body.get("details") or {}).get("causes") or ()}


def read_kubeconfig(path: Path) -> Connection:
    config = yaml.safe_load(path.read_text())
    context = next(c for c in config["contexts"] if c["name"] == config["current-context"])["context"]
    cluster = next(c for c in config["clusters"] if c["name"] == context["cluster"])["cluster"]
    user = next(u for u in config["users"] if u["name"] == context["user"])["user"] or {}
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return Connection(cluster["server"], headers, _tls(cluster, user))


def _tls(cluster: Json, user: Json) -> ssl.SSLContext | bool:
    if cluster["server"].startswith("http://") or cluster.get("insecure-skip-tls-verify"):
        return False
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
    if data := cluster.get("certificate-authority-data"):
        context.load_verify_locations(cadata=base64.b64decode(data).decode())
    if "client-certificate-data" in user:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("certificate", "key")]
            for file, part in zip(files, ("client-certificate-data", "client-key-data"), strict=True):
                file.write_bytes(base64.b64decode(user[part]))
            context.load_cert_chain(files[0], files[1])
    return context


class Watching:
    """An open watch: its events one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.code = response.status
        self._response = response

    async def event(self, *kinds: str, limit: float = PATIENCE) -> Json:
        """The next event of these kinds (any but a bookmark when none are named)."""
        async with asyncio.timeout(limit):
            while line := await self._response.content.readline():
                found: Json = json.loads(line)
                if found["type"] in kinds or (not kinds and found["type"] != "BOOKMARK"):
                    return found
        raise EOFError("the watch ended")

    async def names(self, number: int) -> list[str]:
        found = [await self.event() for _ in range(number)]
        return [f"{event['type']} {event['object']['metadata']['name']}" for event in found]

    async def is_ended(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            while await self._response.content.readany():
                pass
        return True


class Kube:
    """Requests in one namespace."""

    def __init__(self, session: aiohttp.ClientSession, connection: Connection, namespace: str) -> None:
        self._session = session
        self._connection = connection
        self.namespace = namespace

    def path(self, template: str, *parts: str) -> str:
        return "/".join([template.format(self.namespace), *parts])

    async def ask(
        self, method: str, path: str, body: Any = None, kind: str = "", accept: str = "", **query: str
    ) -> Answer:
        headers = {"Accept": accept or "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = kind or "application/json"
            data = io.BytesIO(json.dumps(body).encode())
        async with self._session.request(
            method,
            self._connection.url + path,
            data=data,
            headers=headers,
            params=query,
            ssl=self._connection.tls,
        ) as response:
            text = await response.text()
            parsed = json.loads(text) if text.startswith("{") else {"text": text}
            return Answer(response.status, parsed, dict(response.headers))

    async def get(self, path: str, **query: str) -> Answer:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: Json, **query: str) -> Answer:
        return await self.ask("POST", path, body, **query)

    async def put(self, path: str, body: Json, **query: str) -> Answer:
        return await self.ask("PUT", path, body, **query)

    async def patch(self, path: str, body: Any, kind: str = MERGE, **query: str) -> Answer:
        return await self.ask("PATCH", path, body, kind, **query)

    async def delete(self, path: str, body: Json | None = None, **query: str) -> Answer:
        return await self.ask("DELETE", path, body, **query)

    async def made(self, path: str, body: Json) -> Json:
        """Creates an object that has to be accepted."""
        answer = await self.post(path, body)
        assert answer.code == 201, answer.body
        return answer.body

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[Watching]:
        async with self._session.get(
            self._connection.url + path,
            params={"watch": "true", **query},
            headers={"Accept": "application/json"},
            ssl=self._connection.tls,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            yield Watching(response)

    async def until(self, path: str, holds: Callable[[Json], Any], **query: str) -> Json:
        """Reads until something holds; fails with what was there at last."""
        last: Json = {}
        end = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < end:
            last = (await self.get(path, **query)).body
            try:
                if holds(last):
                    return last
            except (KeyError, IndexError, TypeError):
                pass
            await asyncio.sleep(0.03)
        raise AssertionError(f"did not happen within {PATIENCE} s; last seen: {json.dumps(last)[:3000]}")

    async def gone(self, path: str) -> None:
        await self.until(path, lambda body: body.get("code") == 404)

    async def pods(self, label: str = "") -> list[Json]:
        body = (await self.get(self.path(PODS), labelSelector=label)).body
        return list(body["items"])

    async def pods_until(self, holds: Callable[[list[Json]], Any], label: str = "") -> list[Json]:
        body = await self.until(self.path(PODS), lambda found: holds(found["items"]), labelSelector=label)
        return list(body["items"])

    async def open_gate(self, *pods: Json, status: str = "True") -> None:
        for pod in pods:
            patch = {
                "metadata": {"uid": pod["metadata"]["uid"]},
                "status": {"conditions": [{"type": GATE, "status": status}]},
            }
            answer = await self.patch(self.path(PODS, pod["metadata"]["name"], "status"), patch, STRATEGIC)
            assert answer.code == 200, answer.body


GATE = "apps.triton.io/ready"


def condition(obj: Json, kind: str) -> str:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((str(entry["status"]) for entry in found if entry["type"] == kind), "")


def name(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def a_pod(called: str, **more: Any) -> Json:
    """Return a pod with these labels and spec fields; `image` may be named."""
    image = more.pop("image", "demo:1")
    metadata = {
        "name": called,
        "labels": more.pop("labels", {}),
        "annotations": {**QUICK, **more.pop("annotations", {})},
        "finalizers": more.pop("finalizers", []),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": image, "ports": [{"containerPort": 80}]}], **more},
    }


def a_config(called: str, **more: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": called, **more}, "data": {"a": "1"}}


def a_cloneset(
    called: str, replicas: int = 3, image: str = "demo:1", gated: bool = False, **strategy: Any
) -> Json:
    """A CloneSet whose updating is limited by nothing unless `strategy` says so."""
    labels = {"app": called}
    spec: Json = {"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 5}
    if gated:
        spec["readinessGates"] = [{"conditionType": GATE}]
    return {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": called},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "updateStrategy": {"maxUnavailable": "100%", **strategy},
            "template": {"metadata": {"labels": dict(labels), "annotations": dict(QUICK)}, "spec": spec},
        },
    }


@asynccontextmanager
async def namespaced(cluster: Connection, prefix: str) -> AsyncIterator[Kube]:
    """A client with a namespace of its own, which goes with it."""
    namespace = f"{prefix}-{secrets.token_hex(4)}"
    async with aiohttp.ClientSession(headers=cluster.headers) as session:
        kube = Kube(session, cluster, namespace)
        await kube.made("/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield kube
        await kube.delete(f"/api/v1/namespaces/{namespace}")
