"""The tutorial, command for command, with curl, kubectl and grpcurl: what it shows is what is seen."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.docs.blocks import ROOT, blocks
from tests.docs.terminal import Terminal
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

TUTORIAL = ROOT / "docs" / "tutorial" / "README.md"
SERVICE = "sample-12122-svc"
WORD, TIME, ADDRESS = r"^[a-z0-9-]+$", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", r"^\d+\.\d+\.\d+\.\d+$"
NEVER = "^0001-01-01T00:00:00Z$"
CANARY_BY_GRPC: Json = {
    "namespace": "default",
    "name": WORD,
    "appID": 12122,
    "groupID": 10010,
    "appName": "deploy-demo-hello",
    "instanceName": "12122-sample-10010",
    "replicas": 3,
    "action": "create",
    "updatedReplicas": 1,
    "updateRevision": r"^[a-z0-9]{6,10}$",
    "conditions": [
        {
            "batch": 1,
            "batchSize": 1,
            "canary": True,
            "phase": "Smoked",
            "pods": [
                {"name": r"^12122-sample-10010-\w{5}$", "ip": ADDRESS, "port": 80, "phase": "ContainersReady"}
            ],
            "startedAt": TIME,
            "finishedAt": NEVER,
        }
    ],
    "phase": "BatchStarted",
    "batches": 3,
    "batchSize": 1,
    "startedAt": TIME,
    "finishedAt": NEVER,
    "mode": "auto",
    "canary": 1,
    "updatedAt": TIME,
}
"""The answer of Triton 0.1.x, field by field, at the canary's gate; texts are patterns where they differ."""
ADDED: Json = {"requestedVia": "rest"}
"""Fields of later versions, which clients that do not know them skip."""
CANARY_BY_REST: Json = {
    **{name: CANARY_BY_GRPC[name] for name in CANARY_BY_GRPC if name not in {"batchSize", "canary"}},
    "availableReplicas": 0,
    "updatedReadyReplicas": 0,
    "paused": False,
    "finished": False,
    "finishedBatches": 0,
    "finishedReplicas": 0,
    "failedReplicas": 0,
    "finishedAt": None,
    "conditions": [
        {
            **CANARY_BY_GRPC["conditions"][0],
            "failedReplicas": 0,
            "pulledInAt": None,
            "finishedAt": None,
            "pods": [{**CANARY_BY_GRPC["conditions"][0]["pods"][0], "pullInStatus": "^$"}],
        }
    ],
}
"""The same by REST, where zero values are there too, and a time that is not known is null."""


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Where an answer is not as wanted: keys missing, keys too many, other values."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [f"{where}: {key} is missing" for key in wanted.keys() - found.keys()]
        keys += [f"{where}: {key} is not the original's" for key in found.keys() - wanted.keys()]
        both = wanted.keys() & found.keys()
        return keys + [
            text for key in both for text in differences(found[key], wanted[key], f"{where}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [text for number, (f, w) in pairs for text in differences(f, w, f"{where}.{number}")]
    if isinstance(wanted, str) and isinstance(found, str):
        fits = re.search(wanted, found) if wanted.startswith("^") else found == wanted
        return [] if fits else [f"{where}: {found!r}, not {wanted!r}"]
    return [] if found == wanted and type(found) is type(wanted) else [f"{where}: {found!r}, not {wanted!r}"]


async def test_every_command_of_the_tutorial(sandbox: Sandbox, releases: Releases, tmp_path: Path) -> None:
    (planner,) = sandbox.rest_urls
    terminal = Terminal(tmp_path, {"triton ": f"{ROOT}/.venv/bin/triton "})
    terminal.environment |= {
        **sandbox.environment,
        "TRITON_SERVER": sandbox.rest_urls[planner],
        "TRITON_GRPC_SERVER": sandbox.grpc_addresses[planner],
    }
    endpoints = []
    for block in blocks(TUTORIAL):
        assert block.mark, f"a block that no test runs:\n{block.text}"
        if block.mark == "sandbox":
            continue
        outputs = await asyncio.to_thread(terminal.follow, block)
        endpoints.append(len(await releases.endpoints(SERVICE)))
        if block.mark == "smoked":
            by_grpc, by_rest = (
                next(out for c, out in outputs.items() if word in c) for word in ("/Get", "curl -sS")
            )
            assert differences(json.loads(by_grpc)["deploy"], CANARY_BY_GRPC | ADDED) == []
            answer = json.loads(by_rest)
            assert (answer["code"], answer["msg"]) == (0, "success")
            assert differences(answer["data"], CANARY_BY_REST) == []
    # without traffic until the first Next
    assert endpoints[:4] == [0, 0, 0, 1]
    assert endpoints[5] == 3
    left = await until("two pods serve", lambda: _two(releases))
    assert len(left) == 2


async def _two(releases: Releases) -> set[str]:
    there = await releases.endpoints(SERVICE)
    return there if len(there) == 2 else set()
