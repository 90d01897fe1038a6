"""What others request reaches neither namespaces nor topics that are not theirs; releases beside it end in time."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from sandbox.environment import Sandbox, _answers_ready
from sandbox.process import free_port
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from tests.system.hostile.innocent import Innocents
from tests.system.other_system import REPLIES, OtherSystem, deploy, press
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

BORDERED = "bordered"
"""The prefix of a Triton that manages another namespace than the one in which releases run here."""
INTERNAL = "_schemas"
OTHERS_COMMANDS = "other.deploy-commands"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rest(sandbox: Sandbox) -> AsyncIterator[str]:
    """The address of a planner that manages the namespace `elsewhere` alone."""
    health, port = free_port(), free_port()
    environment = sandbox.environment_of("planner") | {
        "TRITON_PREFIX": BORDERED,
        "TRITON_NAMESPACES": "elsewhere",
        "TRITON_HEALTH_PORT": str(health),
        "TRITON_API_PORT": str(port),
        "TRITON_GRPC_PORT": "0",
    }
    command = [sys.executable, "-m", "cli.main", "planner"]
    await sandbox.run("planner-elsewhere", command, _answers_ready(health), environment)
    yield f"http://127.0.0.1:{port}"
    await sandbox.stop("planner-elsewhere")


async def test_a_triton_acts_in_no_namespace_but_its_own(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, rest: str, innocents: Innocents
) -> None:
    async with innocents.releasing():
        await paas.ask("bor-innocent", deploy("bor-innocent-1", "bor-innocent", canary=1, replicas=2))
        (accepted,) = await paas.replies("bor-innocent-1")
        innocent = accepted["deployFlow"]
        await releases.batch_is(innocent, 1, "Smoked")

        commands = [
            deploy("bor-deploy", "bor-new"),
            *(
                press(f"bor-{kind}", kind, "bor-innocent")
                for kind in ("pause", "cancel", "promote", "delete")
            ),
            *(press(f"bor-{kind}", kind, "bor-innocent") for kind in ("rollback", "next", "retry")),
        ]
        async with AIOKafkaProducer(bootstrap_servers=sandbox.kafka_bootstrap) as producer:
            for command in commands:
                value = json.dumps({"namespace": NAMESPACE, **command}).encode()
                await producer.send_and_wait(
                    f"{BORDERED}.deploy-commands", value, key=b"default/bor-innocent"
                )
        for command in commands:
            (reply,) = await paas.replies(command["id"])
            assert (reply["result"], reply["reason"]) == ("refused", "NotLookedAfter"), command["type"]

        async with aiohttp.ClientSession(rest) as session:
            url = f"/api/v2/namespaces/{NAMESPACE}/deployflows/{innocent}"
            async with session.delete(url) as response:
                assert (response.status, (await response.json())["reason"]) == (404, "NotLookedAfter")
            url = f"/api/v1/namespaces/{NAMESPACE}/deployflows/{innocent}"
            async with session.delete(url) as response:
                assert response.status == 404
                assert "this Triton manages elsewhere" in await response.text()

        assert await releases.names("bor-new") == []
        status = await releases.status(innocent)
        assert (status["phase"], status["paused"]) == ("BatchStarted", False)
        await paas.ask("bor-innocent", press("bor-innocent-2", "promote", "bor-innocent"))
        assert (await paas.end("bor-innocent-1"))["phase"] == "Success"


async def test_annotations_of_a_deployflow_have_nothing_written_to_any_topic(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, innocents: Innocents
) -> None:
    async with innocents.releasing():
        await paas.ask("bor-asked", deploy("bor-asked-1", "bor-asked", canary=1, replicas=2))
        (accepted,) = await paas.replies("bor-asked-1")
        await releases.batch_is(accepted["deployFlow"], 1, "Smoked")
        await _make_topics(sandbox.kafka_bootstrap)
        forged = [
            await _forge(releases, f"bor-forged-{number}", topic)
            for number, topic in enumerate((REPLIES, INTERNAL, OTHERS_COMMANDS))
        ]
        for name in forged:
            await releases.finished(name, "Success")
        # the finalizer goes after the answer: whatever would be sent has been sent
        for name in forged:
            await _is_released(releases, name)
        assert await _records(sandbox.kafka_bootstrap, INTERNAL, OTHERS_COMMANDS) == 0
        await paas.ask("bor-asked", press("bor-asked-2", "cancel", "bor-asked"))
        end = await paas.end("bor-asked-1")
        assert (end["deployFlow"], end["phase"]) == (accepted["deployFlow"], "Canceled")
        ends = {answer.body["deployFlow"] for answer in await paas.all_messages("bor-asked-1", 1, "finished")}
        assert ends == {accepted["deployFlow"]}


async def test_a_command_that_wants_its_answer_on_an_internal_topic_is_set_aside(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, innocents: Innocents
) -> None:
    async with innocents.releasing():
        await _make_topics(sandbox.kafka_bootstrap)
        for number, topic in enumerate((INTERNAL, OTHERS_COMMANDS, "triton.batch-commands", "orders")):
            await paas.ask("bor-astray", deploy(f"bor-astray-{number}", "bor-astray") | {"replyTo": topic})
        # of the same partition, behind them
        await paas.ask("bor-astray", deploy("bor-astray-9", "bor-astray"))
        assert (await paas.end("bor-astray-9"))["phase"] == "Success"
        letters = await paas.dead_letters("bor-astray", 4)
        assert {letter.headers["triton_reason"] for letter in letters} == {"ReplyToNotAllowed"}
        assert len(await releases.names("bor-astray")) == 1
        assert await _records(sandbox.kafka_bootstrap, INTERNAL, OTHERS_COMMANDS) == 0


async def _forge(releases: Releases, instance: str, topic: str) -> str:
    """Create a release whose annotations name somebody else's request."""
    body: Json = deployflow(f"{instance}-1", instance, action="create", replicas=1)
    body["metadata"]["annotations"] = {df.REPLY_TO: topic, df.REPLY_ID: "bor-asked-1"}
    # an account that may create DeployFlows does not get further by `.status`
    body["status"] = {"replyTo": topic, "replyId": "bor-asked-1"}
    return await releases.apply(body)


async def _is_released(releases: Releases, name: str) -> None:
    async def released() -> bool:
        return not (await releases.flow(name))["metadata"].get("finalizers")

    await until(f"nothing holds {name}", released)


async def _make_topics(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for name in (INTERNAL, OTHERS_COMMANDS):
            await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()


async def _records(bootstrap: str, *topics: str) -> int:
    partitions = [TopicPartition(topic, 0) for topic in topics]
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        return sum((await consumer.end_offsets(partitions)).values())
