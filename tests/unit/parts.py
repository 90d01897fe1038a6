"""What the suites of executor, readiness and their plumbing share: a waiting with a limit, records, a Kafka that
only remembers, and a proxy that makes trouble in front of the API server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, cast

import aiohttp
from aiohttp import web

from sandbox.kubernetes import Cluster, Options, Timing
from sandbox.kubernetes.behaviours import Span
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.messages import TOPIC_OF, Message
from shared.domain.record import Record
from shared.domain.topics import Key
from shared.errors import Fault, Unavailable, Unpublishable
from shared.kube.client import Client
from shared.messaging.kafka import Kafka
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
QUICK = Timing(start=Span(0.0, 0.01), stop=Span(0.0, 0.01))
LABELS = {
    "app": "1",
    "group": "2",
    "app.kubernetes.io/name": "shop",
    "app.kubernetes.io/instance": "web",
    "managed-by": "triton-io",
}
KEY = Key("default", "web")


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until it is true; fails the test when it is not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def until_it(condition: Callable[[], Awaitable[object]], seconds: float = 10) -> None:
    """Wait like `until` for a condition that has to be awaited."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def application(image: str = "demo:1", **more: Any) -> Json:
    """An application of one container, as it stands in a DeployFlow."""
    return {
        "appID": 1,
        "groupID": 2,
        "appName": "shop",
        "instanceName": "web",
        "replicas": 3,
        "template": {"metadata": {}, "spec": {"containers": [{"name": "main", "image": image}]}},
        **more,
    }


def gated(name: str, uid: str = "", **status: Any) -> Json:
    """A pod of ours as the API server has it, with the readiness gate."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid or f"uid-{name}",
            "labels": dict(LABELS),
        },
        "spec": {
            "containers": [{"name": "main", "image": "demo:1"}],
            "readinessGates": [{"conditionType": df.READINESS_GATE}],
        },
        "status": status,
    }


def record(message: Message, offset: int = 0) -> Record:
    return Record(
        TOPIC_OF[type(message)], str(message.key), message.model_dump_json().encode(), {}, 0, offset, 0
    )


class MemoryKafka:
    """Takes the place of `shared.messaging.kafka.Kafka`: remembers what is published, and can be away."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.replies: list[tuple[str, Json]] = []
        """The topic and the value of each."""
        self.away = False
        self.refuses: Callable[[Message], bool] = lambda _: False
        """Which messages are too large."""
        self.settings = Settings()

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.away:
            msg = "Kafka at nowhere did not take a message"
            raise Unavailable(msg)
        refused = {place for place, message in enumerate(messages) if self.refuses(message)}
        self.published += [message for place, message in enumerate(messages) if place not in refused]
        if refused:
            raise Unpublishable(
                dict.fromkeys(refused, Fault("TooLarge", "its message has 9 bytes; the topic takes 8"))
            )

    def cloud_event(self, *values: str) -> dict[str, str]:
        return dict(zip(("ce_id", "ce_type", "ce_subject", "ce_time"), values, strict=True))

    async def reply(self, topic: str, _key: str, value: bytes, _headers: dict[str, str]) -> None:
        self.replies.append((topic, json.loads(value)))

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.published if type(message) is kind]

    @property
    def kafka(self) -> Kafka:
        return cast("Kafka", self)


class BackgroundPublisher:
    """Takes the place of `shared.messaging.background_publisher.Outgoing`."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def put(self, message: Message) -> None:
        self.messages.append(message)


@asynccontextmanager
async def running_cluster(**options: Any) -> AsyncIterator[Cluster]:
    """The embedded cluster; its pods start and stop at once."""
    async with Cluster(options=Options(**{"timing": QUICK, **options})) as cluster:
        yield cluster


@asynccontextmanager
async def connected(url: str, folder: Path, **more: Any) -> AsyncIterator[Client]:
    client = await Client.connect(kubeconfig(url, folder), agent="test", **more)
    try:
        yield client
    finally:
        await client.close()


def kubeconfig(url: str, folder: Path) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "{url}"}}}}]
users: [{{name: it, user: {{token: a-token}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"""
    )
    return path


Meddle = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Trouble:
    """Stands between a client and the API server; `meddle` may answer in the server's place, or do something
    first and answer nothing.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.meddle: Meddle | None = None
        self.requests: list[str] = []
        self.url = ""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.meddle is not None and (answer := await self.meddle(request)) is not None:
            return answer
        body = await request.read()
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        async with self._session.request(
            request.method, self._upstream + request.path_qs, data=body, headers=headers
        ) as upstream:
            response = web.StreamResponse(status=upstream.status)
            await response.prepare(request)
            try:
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            except ConnectionError:
                return response
            await response.write_eof()
            return response

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()


def refusal(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)
