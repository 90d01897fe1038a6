"""Answers to deploy commands on a broker that makes no topic by itself, and the example in Java, which such a one takes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sandbox.environment import Sandbox
from sandbox.real.java import KAFKA_JAVA, java, kafka
from shared.domain.deploy_commands import deployflow_name
from tests.system.examples import KAFKA, answers
from tests.system.other_system import COMMANDS, OtherSystem, deploy
from tests.system.programs import printed
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


async def test_a_topic_of_answers_that_is_missing_holds_up_nothing_and_its_answers_are_put_aside(
    sandbox: Sandbox, releases: Releases
) -> None:
    command = deploy("unheard-1", "unheard") | {"namespace": "default", "replyTo": "nobody.replies"}
    producer = Producer({"bootstrap.servers": sandbox.kafka_bootstrap, "log_level": 0})
    producer.produce(COMMANDS, json.dumps(command), "default/unheard")
    assert await asyncio.to_thread(producer.flush, 10) == 0
    name = deployflow_name("unheard", "unheard-1")

    async def made() -> bool:
        return name in await releases.names("unheard")

    await until(f"{name} is made", made)
    await releases.finished(name, "Success")
    update = {"spec": deploy("", "unheard", image="web:2.0")["spec"]}
    await releases.apply(deployflow("unheard-2", "unheard") | update)
    await releases.finished("unheard-2", "Success")

    async def is_released() -> bool:
        return not (await releases.flow(name))["metadata"].get("finalizers")

    await until("nothing holds its DeployFlow", is_released)
    arguments = ("dead-letters", "list", "-o", "json")
    letters = json.loads(await printed(*arguments, environment=sandbox.environment))
    found = [letter for letter in letters if letter["key"] == "unheard-1"]
    assert {(letter["topic"], letter["reason"]) for letter in found} == {
        ("nobody.replies", "ReplyNotDelivered")
    }
    assert len(found) == 2, "one that it is accepted, one that it has finished"


async def test_the_example_in_java_publishes_a_deploy_and_receives_its_end(
    sandbox: Sandbox, releases: Releases
) -> None:
    await OtherSystem.makes_topic(sandbox.kafka_bootstrap)
    jars = await kafka(print)
    program: list[str | Path] = [
        await java(KAFKA_JAVA, print),
        "-cp",
        f"{jars}/*",
        KAFKA / "java" / "Deploy.java",
    ]
    accepted, finished = await answers(sandbox, [*program, "example-java", "shop:1.0"])
    assert (accepted["result"], finished["result"], finished["phase"]) == ("accepted", "finished", "Success")
    assert (await releases.status(finished["deployFlow"]))["requestedBy"] == "paas"
