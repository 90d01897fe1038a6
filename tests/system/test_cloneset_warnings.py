"""What OpenKruise cannot do is named in `.status`, with the words of its own Event, while the release waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.kube.client import PODS, ApiError, Resource
from tests.system.policies import Policy, in_force
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "guarded"
WORDS = "the budget of guarded allows no deletion"
QUOTAS = Resource("/api/v1", "resourcequotas")


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of its own, for the quota."""
    async with Releases(sandbox, "warnings") as client:
        await client.make_namespace()
        yield client


async def test_a_release_waits_with_the_event_of_what_is_not_made_and_of_what_is_not_deleted(
    releases: Releases,
) -> None:
    await releases.create(INSTANCE, 2)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    await releases.client.create(QUOTAS, releases.namespace, quota)
    await until("the quota is in force", lambda: _is_counted(releases))
    await releases.apply(deployflow("guarded-2", INSTANCE, image="nginx:2", replicas=2, canary=1))
    status = await releases.until_status(
        "guarded-2", "it says what is not made", lambda s: s.get("reason") == "PodsNotMade"
    )
    assert "1 of 1 pods of batch 1 are not made" in status["message"]
    assert "OpenKruise: FailedCreate: failed to create pod" in status["message"]
    assert "exceeded quota: few" in status["message"]
    await releases.client.delete(QUOTAS, releases.namespace, "few")
    await releases.batch_is("guarded-2", 1, "Smoked")

    policy = Policy(PODS, ("DELETE",), "false", WORDS)
    async with in_force(releases, policy, lambda: _is_refused(releases)):
        await releases.strategy("guarded-2", batches=99, stage=None)
        status = await releases.until_status(
            "guarded-2", "it says what is not deleted", lambda s: WORDS in s["message"]
        )
        assert status["reason"] == "OldPodsHeld"
        assert "OpenKruise: FailedDelete: failed to delete pod" in status["message"]
    await releases.finished("guarded-2", "Success")


async def _is_counted(releases: Releases) -> bool:
    quota = await releases.client.get(QUOTAS, releases.namespace, "few")
    return "used" in quota.get("status", {})


async def _is_refused(releases: Releases) -> bool:
    pod = (await releases.pods(INSTANCE))[0]["metadata"]["name"]
    try:
        await releases.client.delete(PODS, releases.namespace, pod, {"dryRun": ["All"]})
    except ApiError as error:
        return WORDS in str(error)
    return False
