"""Who requests a release over Kafka receives its end, without a second request: see docs/deploy-commands.md."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox
from tests.system.other_system import OtherSystem, deploy, press
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def test_a_deploy_is_answered_again_when_its_release_is_finished(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("fin-ended", deploy("fin-ended-1", "fin-ended"))
    accepted, finished = await paas.messages("fin-ended-1", 2)
    name = accepted.body["deployFlow"]
    assert finished.body == {
        "id": "fin-ended-1",
        "result": "finished",
        "deployFlow": name,
        "phase": "Success",
        "reason": "",
        "message": "",
    }
    status = await releases.status(name)
    assert finished.headers == {
        "content-type": "application/json",
        "correlation_id": "fin-ended-1",
        "ce_specversion": "1.0",
        "ce_id": "fin-ended-1:finished",
        "ce_type": "io.triton.reply",
        "ce_source": "/triton/planner",
        "ce_subject": "fin-ended-1",
        "ce_time": status["finishedAt"],
    }
    assert accepted.headers.keys() == finished.headers.keys()
    assert accepted.headers["ce_id"] == "fin-ended-1:accepted"


async def test_a_canceled_release_is_answered_to_its_requester_not_to_who_canceled_it(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("fin-halfway", deploy("fin-halfway-1", "fin-halfway", canary=1, replicas=2))
    (accepted,) = await paas.replies("fin-halfway-1")
    await releases.batch_is(accepted["deployFlow"], 1, "Smoked")
    await paas.ask("fin-halfway", press("fin-halfway-2", "cancel", "fin-halfway"))
    _, finished = await paas.replies("fin-halfway-1", 2)
    assert (finished["phase"], finished["reason"]) == ("Canceled", "Canceled")
    assert finished["message"]
    # the next one of the same instance is answered later than all that could still come
    await paas.ask("fin-halfway", deploy("fin-halfway-3", "fin-halfway"))
    await paas.replies("fin-halfway-3", 2)
    assert {answer.body["result"] for answer in await paas.all_messages("fin-halfway-2", 1)} == {"accepted"}


async def test_a_rollback_is_answered_when_it_is_finished(releases: Releases, paas: OtherSystem) -> None:
    await paas.ask("fin-wayback", deploy("fin-wayback-1", "fin-wayback"))
    await paas.replies("fin-wayback-1", 2)
    await paas.ask("fin-wayback", deploy("fin-wayback-2", "fin-wayback", image="web:2.0"))
    await paas.replies("fin-wayback-2", 2)
    await paas.ask("fin-wayback", press("fin-wayback-3", "rollback", "fin-wayback"))
    accepted, finished = await paas.replies("fin-wayback-3", 2)
    assert (finished["result"], finished["phase"]) == ("finished", "Success")
    assert finished["deployFlow"] == accepted["deployFlow"]


async def test_a_release_that_is_deleted_does_not_go_before_its_end_is_reported(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("fin-taken", deploy("fin-taken-1", "fin-taken", canary=1, replicas=2))
    (accepted,) = await paas.replies("fin-taken-1")
    await releases.batch_is(accepted["deployFlow"], 1, "Smoked")
    await paas.ask("fin-taken", press("fin-taken-2", "delete", "fin-taken"))
    _, finished = await paas.replies("fin-taken-1", 2)
    assert finished["phase"] == "Canceled"

    async def gone() -> bool:
        return await releases.names("fin-taken") == []

    await until("its DeployFlow is gone", gone)


async def test_a_release_that_finishes_as_soon_as_it_is_seen_is_answered(paas: OtherSystem) -> None:
    await paas.ask("fin-hollow", deploy("fin-hollow-1", "fin-hollow", canceled=True))
    assert (await paas.end("fin-hollow-1"))["phase"] == "Canceled"


async def test_an_end_while_no_planner_runs_is_reported_by_the_next_one(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("fin-orphan", deploy("fin-orphan-1", "fin-orphan", canary=1, replicas=2))
    (accepted,) = await paas.replies("fin-orphan-1")
    await releases.batch_is(accepted["deployFlow"], 1, "Smoked")
    await sandbox.stop("planner")
    await releases.strategy(accepted["deployFlow"], canceled=True)
    await sandbox.start("planner")
    _, finished = await paas.replies("fin-orphan-1", 2)
    assert finished["phase"] == "Canceled"
