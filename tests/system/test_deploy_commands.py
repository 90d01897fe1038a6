"""Other systems ask for releases over Kafka, with nothing of this project: see docs/deploy-commands.md."""

from __future__ import annotations

import asyncio
import json

import pytest
from confluent_kafka import Producer

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.other_system import COMMANDS, OtherSystem, deploy, press
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def accepted(paas: OtherSystem, id: str) -> str:
    """The DeployFlow that a command was taken for."""
    (reply,) = await paas.replies(id)
    assert reply["result"] == "accepted", reply
    name: str = reply["deployFlow"]
    return name


async def accepted_each_time(paas: OtherSystem, id: str, number: int) -> str:
    """Return the DeployFlow for which a command that was delivered `number` times was accepted as often."""
    (name,) = {answer.body["deployFlow"] for answer in await paas.all_messages(id, number, "accepted")}
    return str(name)


async def test_a_deploy_from_kafka_is_released_and_serves(releases: Releases, paas: OtherSystem) -> None:
    await releases.service("bare")
    await paas.ask("bare", deploy("bare-1", "bare", replicas=3, batchSize=2))
    (reply,) = await paas.replies("bare-1")
    name = reply["deployFlow"]
    assert reply == {
        "id": "bare-1", "result": "accepted", "deployFlow": name, "reason": "", "message": ""
    }  # fmt: skip
    status = await releases.finished(name, "Success")
    assert status["requestedBy"] == "paas"
    await releases.serves("bare", 3)
    assert {pod["spec"]["containers"][0]["image"] for pod in await releases.pods("bare")} == {"web:1.0"}


async def test_a_canary_is_led_by_messages_from_its_first_pod_to_its_cancel(
    releases: Releases, paas: OtherSystem
) -> None:
    await releases.service("led")
    await paas.ask("led", deploy("led-1", "led", replicas=4))
    await releases.finished(await accepted(paas, "led-1"), "Success")
    await releases.serves("led", 4)
    update = deploy("led-2", "led", image="web:2.0", replicas=4, mode="manual", canary=1, batchSize=1)
    await paas.ask("led", update)
    name = await accepted(paas, "led-2")
    before = await releases.endpoints("led")
    await releases.batch_is(name, 1, "Smoked")
    assert await releases.endpoints("led") == before

    await paas.ask("led", press("led-3", "next", "led", batch=1, stage="Smoked"))
    assert await accepted(paas, "led-3") == name
    await releases.batch_is(name, 1, "Baking")
    await releases.serves("led", 5)

    await paas.ask("led", press("led-4", "next", "led", batch=1, stage="Baking"))
    await releases.until_status(name, "batch 1 finished", lambda s: s["phase"] == "BatchFinished")

    await paas.ask("led", press("led-5", "pause", "led"))
    await releases.until_status(name, "paused", lambda s: s["paused"] and s["reason"] == "Paused")
    await paas.ask("led", press("led-6", "resume", "led"))
    await releases.until_status(name, "goes on", lambda s: not s["paused"])

    await paas.ask("led", press("led-7", "continue", "led", target={"batches": 3}))
    status = await releases.until_status(
        name, "batch 3 finished", lambda s: s["finishedBatches"] == 3 and s["reason"] == "WaitingForNext"
    )
    assert not status["finished"]

    await paas.ask("led", press("led-8", "cancel", "led"))
    await releases.finished(name, "Canceled")
    await releases.serves("led", 4)
    answers = [await accepted(paas, f"led-{number}") for number in range(4, 9)]
    assert answers == [name] * 5


async def test_a_deploy_that_is_delivered_twice_is_one_release(releases: Releases, paas: OtherSystem) -> None:
    command = deploy("twice-1", "twice")
    await paas.ask("twice", command, command)
    name = await accepted_each_time(paas, "twice-1", 2)
    assert await releases.names("twice") == [name]
    await releases.finished(name, "Success")
    # and long after too
    await paas.ask("twice", command)
    assert await accepted_each_time(paas, "twice-1", 3) == name
    assert await releases.names("twice") == [name]


async def test_a_command_right_behind_its_deploy_finds_the_release(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("quick", deploy("quick-1", "quick"), press("quick-2", "cancel", "quick"))
    name = await accepted(paas, "quick-1")
    assert await accepted(paas, "quick-2") == name
    await releases.finished(name, "Canceled")


async def test_a_next_that_is_delivered_again_later_goes_no_further(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("again", deploy("again-1", "again", replicas=2, canary=1, batchSize=1))
    name = await accepted(paas, "again-1")
    await releases.batch_is(name, 1, "Smoked")
    following = press("again-2", "next", "again")
    await paas.ask("again", following)
    await releases.until_status(
        name, "waits with traffic", lambda s: s["conditions"][0]["phase"] == "Baking" and _waits(s)
    )
    # what Kafka delivers again after a crash are the last commands, in their order
    await paas.ask("again", press("again-3", "pause", "again"), press("again-4", "resume", "again"))
    await paas.ask("again", following, press("again-5", "pause", "again"))
    assert await accepted_each_time(paas, "again-2", 2) == name
    await paas.replies("again-5")
    status = await releases.until_status(name, "paused", lambda s: s["reason"] == "Paused")
    assert status["conditions"][0]["phase"] == "Baking"
    flow = await releases.flow(name)
    assert flow["spec"]["updateStrategy"]["stage"] == "Baking"


def _waits(status: Json) -> bool:
    return bool(status["reason"] == "WaitingForNext")


async def test_a_cancel_that_is_delivered_again_spares_the_release_after_it(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("spared", deploy("spared-1", "spared", canary=1, replicas=2))
    first = await accepted(paas, "spared-1")
    cancel = press("spared-2", "cancel", "spared")
    await paas.ask("spared", cancel)
    await releases.finished(first, "Canceled")
    await paas.ask("spared", deploy("spared-3", "spared", replicas=2), cancel)
    second = await accepted(paas, "spared-3")
    assert await accepted_each_time(paas, "spared-2", 2) == first
    await releases.finished(second, "Success")


async def test_an_id_in_the_cloudevents_header_is_the_commands(releases: Releases, paas: OtherSystem) -> None:
    command = deploy("", "headed")
    del command["id"]
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": b"headed-1",
        "ce_type": b"com.paas.deploy",
        "ce_source": b"/paas",
    }
    await paas.ask("headed", command, command, headers=headers)
    name = await accepted_each_time(paas, "headed-1", 2)
    (reply,) = await paas.replies("headed-1")
    assert reply["id"] == "headed-1"
    assert await releases.names("headed") == [name]
    await releases.finished(name, "Success")


async def test_an_id_in_the_body_goes_before_the_header(paas: OtherSystem) -> None:
    command = press("body-1", "next", "nobody")
    await paas.ask("nobody", command, headers={"ce_id": b"header-1"})
    (reply,) = await paas.replies("body-1")
    assert reply["id"] == "body-1"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_command_may_be_compressed(sandbox: Sandbox, paas: OtherSystem, codec: str) -> None:
    instance = f"packed-{codec}"
    value = json.dumps({"namespace": "default", **deploy(instance, instance, replicas=0)}).encode()
    producer = Producer(
        {"bootstrap.servers": sandbox.kafka_bootstrap, "compression.type": codec, "log_level": 0}
    )
    producer.produce(COMMANDS, value, key=f"default/{instance}")
    assert await asyncio.to_thread(producer.flush, 10) == 0
    await accepted(paas, instance)


async def test_a_delete_cancels_the_release_and_takes_its_deployflow_away(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("removed", deploy("removed-1", "removed", replicas=2))
    first = await accepted(paas, "removed-1")
    await releases.finished(first, "Success")
    await paas.ask("removed", deploy("removed-2", "removed", image="web:2.0", replicas=2, canary=1))
    second = await accepted(paas, "removed-2")
    await releases.batch_is(second, 1, "Smoked")
    await paas.ask("removed", press("removed-3", "delete", "removed"))
    assert await accepted(paas, "removed-3") == second

    async def gone() -> bool:
        return await releases.names("removed") == [first]

    await until("its DeployFlow is gone", gone)
    await until("the canary is gone", lambda: _images(releases, "removed", ["web:1.0"] * 2))


async def _images(releases: Releases, instance: str, images: list[str]) -> bool:
    return [pod["spec"]["containers"][0]["image"] for pod in await releases.pods(instance)] == images
