"""OpenKruise refuses a change, or its webhook does not answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.faults.disturbed import disturbed, saying
from tests.faults.published_events import each_event_once
from tests.system.history import History, recorded
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

WANTED = 3
UNANSWERED = ("waiting: Kubernetes at ", "failed calling webhook", "connection refused")
WEBHOOK = 'admission webhook "vcloneset.kb.io" denied the request: '


def _restarts_never(spec: Json) -> None:
    spec["restartPolicy"] = "Never"


def _has_no_image(spec: Json) -> None:
    del spec["containers"][0]["image"]


def _names_a_port_in_words(spec: Json) -> None:
    spec["containers"][0]["ports"] = [{"containerPort": "eighty"}]


def _mounts_what_is_not_there(spec: Json) -> None:
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]


REFUSED = {
    "restart policy": (
        _restarts_never,
        WEBHOOK + 'spec.template.spec.restartPolicy: Unsupported value: "Never"',
    ),
    "no image": (_has_no_image, WEBHOOK + "spec.template.spec.containers[0].image: Required value"),
    "volume": (
        _mounts_what_is_not_there,
        WEBHOOK + 'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"',
    ),
    "port": (_names_a_port_in_words, "cannot unmarshal string into Go struct field"),
}


@pytest.mark.parametrize("what", list(REFUSED))
async def test_a_template_that_openkruise_refuses_fails_with_its_words_and_moves_nothing(
    sandbox: Sandbox, releases: Releases, what: str
) -> None:
    spoil, words = REFUSED[what]
    instance = f"refused-{list(REFUSED).index(what)}"
    async with _moves_nothing(releases, instance) as history:
        body = deployflow(f"{instance}-bad", instance, image="nginx:2", replicas=WANTED)
        spoil(body["spec"]["application"]["template"]["spec"])
        await releases.apply(body)
        status = await releases.finished(f"{instance}-bad", "Failed")
    assert words in status["message"]
    assert status["conditions"] == []
    await releases.apply(deployflow(f"{instance}-good", instance, image="nginx:2", replicas=WANTED))
    await releases.finished(f"{instance}-good", "Success")
    await releases.serves(instance, WANTED)
    await each_event_once(sandbox, history)


async def test_a_create_that_openkruise_refuses_makes_nothing(releases: Releases) -> None:
    body = deployflow("unmade-1", "unmade", action="create", replicas=1)
    body["spec"]["application"]["selector"] = {"matchLabels": {"app": "another"}}
    await releases.apply(body)
    status = await releases.finished("unmade-1", "Failed")
    assert "`selector` does not match template `labels`" in status["message"]
    assert not await releases.pods("unmade")


async def test_pods_that_the_api_server_refuses_fail_the_batch_and_a_good_release_takes_over(
    releases: Releases,
) -> None:
    async with _moves_nothing(releases, "unpriced"):
        body = deployflow(
            "unpriced-bad", "unpriced", image="nginx:2", replicas=WANTED, startupTimeoutSeconds=2
        )
        body["spec"]["application"]["template"]["spec"]["priorityClassName"] = "no-such-class"
        await releases.apply(body)
        status = await releases.batch_is("unpriced-bad", 1, "SmokeFailed")
    assert f"{WANTED} of {WANTED} pods were not made within 2 s" in status["message"]
    await releases.apply(deployflow("unpriced-good", "unpriced", image="nginx:3", replicas=WANTED))
    await releases.finished("unpriced-good", "Success")
    await releases.serves("unpriced", WANTED)


async def test_a_release_waits_for_a_webhook_that_does_not_answer(
    sandbox: Sandbox, releases: Releases
) -> None:
    await releases.create("unasked", WANTED)
    says = saying(sandbox, "executor")
    sandbox.kill("kruise")
    try:
        name = await releases.apply(deployflow("unasked-2", "unasked", image="nginx:2", replicas=WANTED))
        await until("the executor says what it waits for", lambda: says(*UNANSWERED))
        status = await releases.until_status(
            name, "it says whose answer it waits for", lambda s: s.get("reason") == "Unanswered"
        )
        assert "check its log" in status["message"]
        assert not status.get("finished")
        assert not status.get("conditions")
        await releases.serves("unasked", WANTED)
    finally:
        await sandbox.start("kruise")
    await releases.finished(name, "Success")


async def test_a_release_goes_on_after_openkruise_was_killed(sandbox: Sandbox, releases: Releases) -> None:
    async with disturbed(sandbox, releases, "kruise-killed", "Baked"):
        says = saying(sandbox, "executor")
        sandbox.kill("kruise")
        await until("the executor says what it waits for", lambda: says(*UNANSWERED))
        await sandbox.start("kruise")


@asynccontextmanager
async def _moves_nothing(releases: Releases, instance: str) -> AsyncIterator[History]:
    """An instance that runs; over the block no pod of it came, went or lost its traffic."""
    await releases.create(instance, WANTED)
    before = {pod["metadata"]["uid"] for pod in await releases.pods(instance)}
    async with recorded(releases, instance) as history:
        yield history
    history.check(WANTED)
    assert history.pods_ready() == before
    assert {pod["metadata"]["uid"] for pod in await releases.pods(instance)} == before
