"""The answers of Triton 0.1.x, step by step, beside ours: `original/answers.yaml` has them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any, Final

import grpc
import httpx
import pytest
import pytest_asyncio
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from sandbox.environment import Sandbox
from services.planner.api.protos import application_pb2, deployflow_pb2, pod_pb2
from shared.domain.json_types import Json
from shared.kube.client import DEPLOYFLOWS, EVENTS, ApiError
from tests.system.releases import Releases, until
from tests.system.whole_releases import SOON

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

ANSWERS: Final = Path(__file__).parent / "original" / "answers.yaml"
SCENARIOS: Final[list[Json]] = yaml.safe_load(ANSWERS.read_text())
STREAM_SECONDS: Final = 60
_FILES: Final = {
    "deployflow": deployflow_pb2.DESCRIPTOR,
    "application": application_pb2.DESCRIPTOR,
    "pod": pod_pb2.DESCRIPTOR,
}
_numbers = itertools.count(1)


def _template(image: str) -> Json:
    container = {"name": "main", "image": image, "ports": [{"containerPort": 80}]}
    return {"metadata": {"annotations": SOON}, "spec": {"containers": [container]}}


class Player:
    """Plays the steps of one scenario. `names` are the values that the table names with a `$`."""

    def __init__(
        self, releases: Releases, http: httpx.AsyncClient, channel: grpc.aio.Channel, names: Json
    ) -> None:
        self._releases = releases
        self._http = http
        self._channel = channel
        self._names = names

    def filled(self, value: Any) -> Any:
        """Return a value of the table with the names in it replaced."""
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        if not isinstance(value, str) or "$" not in value:
            return value
        if (whole := value.removeprefix("$")) in self._names:
            return self._names[whole]
        # a $ at the end of a pattern is its end
        return Template(value).safe_substitute({k: v for k, v in self._names.items() if isinstance(v, str)})

    async def play(self, step: Json) -> list[str]:
        """Return what is not as the table has it."""
        wanted = self.filled(step.get("until") or step.get("status"))
        if "until" in step:
            await until(f"{wanted}", lambda: self._shows(wanted))
            return []
        if "events" in step:
            await until(f"Events {step['events']}", lambda: self._has_events(step["events"]))
            return []
        answer = await self._answer(step, wanted)
        for name, path in step.get("save", {}).items():
            self._names[name] = self._names[path] if path in self._names else _at(answer, path)
        if "original" not in step:
            return []
        original, ours = self.filled(step["original"]), self.filled(step.get("ours"))
        if step.get("call") == "pod.Pod/Gets":
            # the pods that a release has removed end a moment after it
            async def settled() -> bool:
                nonlocal answer
                answer = await self._answer(step, ours or original)
                return not differences(answer, ours or original)

            with suppress(AssertionError):
                await until("the pods are as wanted", settled)
        problems = differences(answer, ours or original)
        problems += [
            f"{path}: {sorted(keys)} are not the keys of {_at(answer, path)}"
            for path, keys in step.get("keys", {}).items()
            if set(keys) != set(_at(answer, path))
        ]
        if ours and not differences(answer, original):
            problems.append("it answers as the original does: remove `ours`")
        return problems

    async def _answer(self, step: Json, wanted: Json | None) -> Any:
        if "apply" in step:
            name = f"{self._names['instance']}-{step['apply']}"
            body = {"apiVersion": "apps.triton.io/v1alpha1", "kind": "DeployFlow", "metadata": {"name": name}}
            await self._releases.apply({**body, "spec": self.filled(step["spec"])})
            self._names["applied"] = name
            return None
        if "patch" in step:
            try:
                body = self.filled(step["patch"])
                await self._releases.client.patch(DEPLOYFLOWS, "default", self._names["flow"], body)
            except ApiError as error:
                return {"status": error.code}
            return {"status": 200}
        if wanted is not None:
            return await self._releases.until_status(
                self._names["flow"], f"{wanted}", lambda status: not differences(status, wanted)
            )
        if "call" not in step:
            return None
        call = self.filled(step["call"])
        if " " in call:
            method, path = call.split(" ")
            return await self._rest(method, path, step)
        service, name = call.split("/")
        return await self._grpc(service, name, self.filled(step["send"]))

    async def _shows(self, wanted: Json) -> bool:
        answer = await self._http.get(f"/api/v1/namespaces/default/deployflows/{self._names['flow']}")
        return not differences(answer.json()["data"], wanted)

    async def _has_events(self, reasons: list[str]) -> bool:
        query = {"fieldSelector": f"involvedObject.name={self._names['flow']}"}
        page = json.loads(await self._releases.client.list_page(EVENTS, "default", query))
        return set(reasons) <= {event.get("reason") for event in page["items"]}

    async def _rest(self, method: str, path: str, step: Json) -> Json:
        url = path if path.startswith("/") else f"/api/v1/namespaces/default/{path}"
        content = step.get("text") or (json.dumps(self.filled(step["body"])) if "body" in step else None)
        headers = {"Content-Type": step.get("type", "application/json")} if content else {}
        answer = await self._http.request(method, url, content=content, headers=headers)
        body = answer.json() if "json" in answer.headers.get("Content-Type", "") else None
        location = answer.headers.get("Location")
        return {"status": answer.status_code, "body": body, "text": answer.text, "location": location}

    async def _grpc(self, service: str, name: str, send: Json) -> Json:
        package, _, short = service.partition(".")
        method = _FILES[package].services_by_name[short].methods_by_name[name]
        kind = GetMessageClass(method.output_type)
        coding = {
            "request_serializer": lambda message: message.SerializeToString(),
            "response_deserializer": kind.FromString,
        }
        request = ParseDict(send, GetMessageClass(method.input_type)())
        path = f"/{service}/{name}"
        try:
            if not method.server_streaming:
                reply = await self._channel.unary_unary(path, **coding)(request)
                return {"code": "OK", "reply": _shown(reply)}
            last = None
            async with asyncio.timeout(STREAM_SECONDS):
                async for message in self._channel.unary_stream(path, **coding)(request):
                    last = message
            return {"code": "OK", "last": None if last is None else _shown(last)}
        except grpc.aio.AioRpcError as error:
            return {"code": error.code().name, "words": error.details()}


def _shown(message: Any) -> Json:
    found: Json = MessageToDict(message, always_print_fields_with_no_presence=True)
    return found


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part) if part.isdecimal() else part]
    return value


def differences(found: Any, wanted: Any, where: str = "answer") -> list[str]:
    """Return where an answer is not as wanted; it may have more keys. Missing is null, as in a custom resource."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            text
            for key, value in wanted.items()
            for text in (
                differences(found.get(key), value, f"{where}.{key}")
                if key in found or value is None
                else [f"{where}.{key} is missing"]
            )
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [text for number, (f, w) in pairs for text in differences(f, w, f"{where}.{number}")]
    if isinstance(wanted, str) and wanted.startswith("^") and isinstance(found, str):
        fits = re.search(wanted, found) is not None
    else:
        fits = found == wanted and type(found) is type(wanted)
    return [] if fits else [f"{where}: {found!r}, not {wanted!r}"]


@pytest_asyncio.fixture(loop_scope="session")
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=next(iter(sandbox.rest_urls.values())), timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def channel(sandbox: Sandbox) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(next(iter(sandbox.grpc_addresses.values()))) as opened:
        yield opened


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each["scenario"] for each in SCENARIOS])
async def test_our_answers_are_the_original_s_or_differ_as_the_table_says(
    releases: Releases, http: httpx.AsyncClient, channel: grpc.aio.Channel, scenario: Json
) -> None:
    names = {
        "instance": f"12122-orig-{next(_numbers)}",
        "replicas": scenario["replicas"],
        "template": _template("nginx:1"),
        "template2": _template("nginx:2"),
        "template3": _template("nginx:3"),
    }
    if scenario.get("created"):
        application = {"appID": 12122, "groupID": 10010, "appName": "deploy-demo-hello"}
        application |= {"instanceName": names["instance"], "replicas": names["replicas"]}
        body = {
            "applicationSpec": {**application, "template": names["template"]},
            "updateStrategy": {"mode": "auto"},
        }
        answer = await http.post("/api/v1/namespaces/default/deployflows", json=body)
        names["first"] = answer.json()["data"]["name"]
        await releases.finished(str(names["first"]), "Success")
    player = Player(releases, http, channel, names)
    for number, step in enumerate(scenario["steps"], 1):
        problems = await player.play(step)
        title = step.get("about") or step.get("call") or next(iter(step))
        assert not problems, f"step {number} ({title}): {problems}"
