"""The examples in Python and Go publish a deploy and print its answers, with the clients of those languages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from sandbox.environment import Sandbox
from shared.domain.topics import DEPLOY_COMMANDS
from tests.system.examples import KAFKA, answers, go
from tests.system.records import read
from tests.system.releases import Releases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

HEADERS: Final = {"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"}


@pytest.mark.parametrize("language", ["python", "go"])
@pytest.mark.usefixtures("paas")  # who makes the topic of the answers
async def test_an_example_publishes_a_deploy_and_receives_its_end(
    sandbox: Sandbox, releases: Releases, language: str
) -> None:
    program: list[str | Path] = (
        [sys.executable, KAFKA / "deploy.py"] if language == "python" else [await go()]
    )
    instance = f"example-{language}"
    accepted, finished = await answers(sandbox, [*program, instance, "shop:1.0"])
    assert (accepted["result"], finished["result"], finished["phase"]) == ("accepted", "finished", "Success")
    status = await releases.status(finished["deployFlow"])
    assert (status["phase"], status["requestedBy"]) == ("Success", "paas")
    # in the partition where the clients of every language put it
    (record,) = await read(sandbox.kafka_bootstrap, f"default/{instance}", [DEPLOY_COMMANDS])
    assert {name for name, _ in record.headers} == HEADERS
