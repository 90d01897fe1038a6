"""A DeployFlow that is too large for Triton: it fails alone, with its size and the limit."""

from __future__ import annotations

import base64
import random

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.hostile.innocent import innocent_releases
from tests.system.releases import Releases, deployflow

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]


def large(name: str, size: int) -> Json:
    """Return a release with so many bytes of text that no compression makes smaller."""
    body = deployflow(name, name, action="create", replicas=1)
    text = base64.b85encode(random.Random(name).randbytes(size * 4 // 5)).decode()
    body["spec"]["application"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "TEXT", "value": text}
    ]
    return body


async def test_a_deployflow_beyond_the_limit_fails_alone(sandbox: Sandbox, releases: Releases) -> None:
    async with innocent_releases(sandbox, "beside-large"):
        name = await releases.apply(large("too-large", 1_200_000))
        status = await releases.finished(name, "Failed")
    assert status["reason"] == "InvalidSpec"
    assert "has 1200" in status["message"]
    assert "at most 1000000" in status["message"]
