"""A failure as the person sees it who asks `triton describe`: with the log, which only the sandbox's pods have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from cli import rendering
from sandbox.environment import Sandbox
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
LAST_WORDS = {"sandbox.triton.io/log": "reading the settings\nno database at db:5432"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def releases() -> AsyncIterator[Releases]:
    async with Sandbox() as sandbox, Releases(sandbox) as client:
        yield client


async def _described(releases: Releases, name: str) -> str:
    return "\n".join(rendering.describe(await releases.flow(name), datetime.now(UTC)))


async def test_describe_shows_exit_code_last_event_and_last_lines_of_the_log(releases: Releases) -> None:
    await releases.create("shown", 2)
    await releases.apply(
        deployflow("shown-2", "shown", image="nginx:crash", replicas=2, batchSize=1, annotations=LAST_WORDS)
    )
    await releases.batch_is("shown-2", 1, "SmokeFailed")

    async def shown() -> str:
        text = await _described(releases, "shown-2")
        return text if "last lines of its log" in text and "last event" in text else ""

    text = await until("describe shows event and log", shown)
    assert (
        "CrashLoopBackOff: container main: back-off restarting failed container (exit code 1, Error)" in text
    )
    assert "    last event: BackOff: Back-off restarting failed container main in pod shown-" in text
    lines = text.splitlines()
    at = lines.index("    last lines of its log:")
    assert lines[at + 3 : at + 5] == ["      reading the settings", "      no database at db:5432"]
    assert "fatal: exit code 1" in lines[at + 5]


async def test_the_log_has_the_clusters_warnings_and_the_last_lines_of_the_run_that_crashed(
    releases: Releases,
) -> None:
    await releases.create("logged", 2)
    await releases.apply(
        deployflow("logged-2", "logged", image="nginx:crash", replicas=2, batchSize=1, annotations=LAST_WORDS)
    )
    await releases.batch_is("logged-2", 1, "SmokeFailed")

    async def shown() -> list[dict[str, Any]]:
        found = await releases.logged("logged-2")
        actions = {document["event"]["action"] for document in found}
        return found if {"pod-log", "pod-failed", "back-off"} <= actions else []

    found = await until("log and warning are there", shown)
    log = next(document for document in found if document["event"]["action"] == "pod-log")
    assert "no database at db:5432" in log["triton"]["log"]
    assert log["triton"]["log_previous"] is True
    assert log["container"]["name"] == "main"
    warning = next(document for document in found if document["event"]["action"] == "back-off")
    assert warning["kubernetes"]["event"]["type"] == "Warning"
    about = {document["kubernetes"]["pod"]["name"] for document in (log, warning)}
    failed = next(document for document in found if document["event"]["action"] == "pod-failed")
    assert about == {failed["kubernetes"]["pod"]["name"]}
    assert failed["event"]["reason"] == "CrashLoopBackOff"
    assert {document["triton"]["batch"] for document in (log, warning, failed)} == {1}


async def test_pods_that_never_get_ready_are_shown_with_their_probes_warning(releases: Releases) -> None:
    await releases.create("probed", 2)
    await releases.apply(
        deployflow(
            "probed-2",
            "probed",
            image="nginx:unready-in-traffic",
            replicas=2,
            batchSize=1,
            pullInTimeoutSeconds=1,
        )
    )
    await releases.batch_is("probed-2", 1, "BakeFailed")

    async def shown() -> str:
        text = await _described(releases, "probed-2")
        return text if "Unhealthy" in text else ""

    text = await until("describe shows the probe's event", shown, seconds=60)
    assert "PullInFailed" in text
    assert "    last event: Unhealthy: Readiness probe failed" in text
