"""A strategy with nulls and zeros, as clients of the original write it: what is null, empty or 0 is not set."""

from __future__ import annotations

from typing import Any, Final

import pytest

from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.other_system import OtherSystem, deploy
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

UNSET: Final[Json] = {"stage": None, "batches": 0, "batchSize": 0, "canary": None, "bakeSeconds": None}
EMPTY: Final[Json] = {"stage": "", "batches": None, "batchSize": None, "mode": "", "onFailure": None}


@pytest.mark.parametrize(("instance", "fields"), [("unset-null", UNSET), ("unset-empty", EMPTY)])
async def test_a_release_by_kubectl_runs_as_without_these_fields(
    releases: Releases, instance: str, fields: Json
) -> None:
    await releases.apply(deployflow(instance, instance, action="create", replicas=2, **fields))
    status = await releases.finished(instance, "Success")
    assert (status["batches"], status["finishedReplicas"]) == (1, 2)


async def test_a_stage_without_batches_is_one_of_the_first_batch(releases: Releases) -> None:
    instance = "unset-stage"
    fields: dict[str, Any] = {"mode": "manual", "stage": "Smoked", "batches": 0, "batchSize": 1}
    await releases.apply(deployflow(instance, instance, action="create", replicas=2, **fields))
    await releases.batch_is(instance, 1, "Smoked")
    # a change that takes the stage away approves the first batch, and no more
    await releases.client.patch(
        k8s.DEPLOYFLOWS, releases.namespace, instance, {"spec": {"updateStrategy": {"stage": ""}}}
    )
    status = await releases.until_status(
        instance, "the first batch is finished", lambda s: s.get("finishedBatches") == 1
    )
    assert (status["batches"], status["phase"]) == (2, "BatchFinished")


async def test_a_deploy_command_runs_as_without_these_fields(releases: Releases, paas: OtherSystem) -> None:
    await paas.ask("unset-kafka", deploy("unset-1", "unset-kafka", replicas=2, **UNSET))
    (accepted,) = await paas.replies("unset-1")
    assert accepted["result"] == "accepted", accepted
    status = await releases.finished(accepted["deployFlow"], "Success")
    assert (status["batches"], status["finishedReplicas"]) == (1, 2)
