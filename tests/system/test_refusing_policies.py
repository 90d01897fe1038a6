"""A policy of the cluster's operators refuses what a release writes, in the middle of it: it fails once, and ends well."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.kube.client import CLONESETS, DEPLOYFLOWS, ApiError
from shared.kube.clonesets import HOLD, OWNER_STRATEGY, RELEASE
from shared.releases import history as past
from tests.system.policies import Policy, in_force
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "strict"
IMAGE = "nginx:2"
WORDS = "image nginx:2 is not admitted"
AT_ONCE_SECONDS = 5
"""A person's command takes well under a second; machines that build and test at once stall."""
MOST_COMMANDS = 12
"""What a release that is refused once, and ended, needs; without a wait it would be hundreds."""
_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="session")
async def releases(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """In a namespace of each test's own."""
    async with Releases(sandbox, f"strict-{next(_numbers)}") as client:
        await client.make_namespace()
        yield client


NOT_THE_IMAGE = f"object.spec.template.spec.containers.all(c, c.image != '{IMAGE}')"


@asynccontextmanager
async def refused(releases: Releases, expression: str = NOT_THE_IMAGE) -> AsyncIterator[None]:
    """No CloneSet of the namespace may be written that is not as the expression says, as long as the block runs."""
    policy = Policy(CLONESETS, ("CREATE", "UPDATE"), expression, WORDS)
    async with in_force(releases, policy, lambda: _is_refused(releases)):
        yield


async def _is_refused(releases: Releases) -> bool:
    body = {"metadata": {"labels": {"tried": "once"}}}
    try:
        await releases.client.patch(CLONESETS, releases.namespace, INSTANCE, body, dry_run=True)
    except ApiError as error:
        return WORDS in str(error)
    return False


async def _cancel(releases: Releases) -> None:
    await releases.strategy("new", canceled=True)


async def _delete(releases: Releases) -> None:
    await releases.client.delete(DEPLOYFLOWS, releases.namespace, "new")


async def _roll_back(releases: Releases) -> None:
    back = deployflow("back", INSTANCE)
    base = await releases.flow(f"{INSTANCE}-first")
    back["spec"] = past.rollback(base, 3).model_dump(mode="json", exclude_none=True)
    await releases.apply(back)


ENDINGS: dict[str, Callable[[Releases], Awaitable[None]]] = {
    "cancel": _cancel,
    "delete": _delete,
    "rollback": _roll_back,
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_batch_fails_once_with_the_words_of_the_policy_and_a_person_gets_through_at_once(
    sandbox: Sandbox, releases: Releases, ending: str
) -> None:
    await releases.create(INSTANCE, 3)
    await releases.apply(deployflow("new", INSTANCE, image=IMAGE, replicas=3, canary=1))
    await releases.batch_is("new", 1, "Smoked")
    body = {"spec": {"replicas": 5}}
    await releases.client.patch(CLONESETS, releases.namespace, INSTANCE, body)
    async with refused(releases):
        before = (await releases.status("new"))["sequence"]
        await releases.strategy("new", batches=99, stage=None)
        status = await releases.until_status("new", "it has failed", lambda s: WORDS in s["message"])
        assert not status["finished"]
        await ENDINGS[ending](releases)
        begun = time.monotonic()
        if ending == "delete":
            await until("the DeployFlow is gone", lambda: _is_gone(releases))
        else:
            ended = await releases.finished("new", "Aborted" if ending == "rollback" else "Canceled")
            assert ended["sequence"] - before <= MOST_COMMANDS
        assert time.monotonic() - begun < AT_ONCE_SECONDS
        if ending == "rollback":
            await releases.finished("back", "Success")
        (container,) = (await releases.cloneset(INSTANCE))["spec"]["template"]["spec"]["containers"]
        assert container["image"] != IMAGE


async def test_a_cancel_that_the_policy_refuses_is_written_again_and_leaves_nothing(
    sandbox: Sandbox, releases: Releases
) -> None:
    await releases.create(INSTANCE, 3)
    await releases.apply(deployflow("new", INSTANCE, image=IMAGE, replicas=3, canary=1))
    await releases.batch_is("new", 1, "Smoked")
    async with refused(releases, "false"):
        await _cancel(releases)
        status = await releases.until_status("new", "it names the refusal", lambda s: WORDS in s["message"])
        assert not status["finished"]
    ended = await releases.finished("new", "Canceled")
    assert (ended["reason"], ended["message"]) == ("Canceled", "canceled")
    cloneset = await releases.cloneset(INSTANCE)
    assert not {HOLD, RELEASE, OWNER_STRATEGY} & set(cloneset["metadata"]["annotations"])
    assert (cloneset["spec"]["replicas"], cloneset["spec"]["updateStrategy"].get("paused", False)) == (
        3,
        False,
    )


async def _is_gone(releases: Releases) -> bool:
    return "new" not in await releases.names()
