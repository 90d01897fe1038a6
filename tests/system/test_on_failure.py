"""What a failed batch leads to by itself, and how much may fail: `onFailure`, `failureThreshold`, `retries`."""

from __future__ import annotations

import pytest

from tests.system.by_hand import BY_HAND, Do, by_hand, crashed, report
from tests.system.history import History, recorded
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

REPLICAS = 4


async def _images(releases: Releases, instance: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in await releases.pods(instance)}


def _fewest(history: History) -> int:
    """Return how many pods were Ready at any moment; those at the start of the recording come one by one."""
    return min(history.ready()[REPLICAS - 1 :])


async def test_on_failure_rollback_takes_back_what_was_baked_and_every_wanted_pod_serves_throughout(
    releases: Releases,
) -> None:
    instance = "undone"
    async with by_hand(releases) as hand:
        await releases.create(instance, REPLICAS, annotations=BY_HAND)
        async with recorded(releases, instance) as history:
            body = deployflow(
                "undone-2",
                instance,
                image="nginx:2",
                replicas=REPLICAS,
                annotations=BY_HAND,
                batchSize=2,
                mode="manual",
                onFailure="rollback",
            )
            await releases.apply(body)
            await releases.until_status("undone-2", "waits", lambda s: s.get("finishedBatches") == 1)
            # the rollback follows at once: its pods start
            await hand.shall(Do.CRASH, image="nginx:2")
            await releases.strategy("undone-2", batches=2)
            failed = await releases.finished("undone-2", "Failed")
            assert failed["failedReplicas"] >= 1

            async def requested() -> list[str]:
                return [n for n in await releases.names(instance) if n not in {"undone-first", "undone-2"}]

            (back,) = await until("a rollback is requested", requested)
            status = await releases.finished(back, "Success")
        assert status["requestedBy"] == "onFailure of undone-2"
        assert (await releases.flow(back))["spec"]["action"] == "rollback"
        assert await _images(releases, instance) == {"nginx:1"}
        await releases.serves(instance, REPLICAS)
        assert _fewest(history) >= REPLICAS


async def test_a_batch_goes_on_without_a_pod_within_the_threshold_and_the_count_is_whole_in_the_end(
    releases: Releases,
) -> None:
    instance = "mostly"
    async with by_hand(releases):
        await releases.create(instance, REPLICAS, annotations=BY_HAND)
        async with recorded(releases, instance) as history:
            body = deployflow(
                "mostly-2",
                instance,
                image="nginx:2",
                replicas=REPLICAS,
                annotations=BY_HAND,
                failureThreshold="50%",
                bakeSeconds=2,
            )
            await releases.apply(body)
            await releases.batch_is("mostly-2", 1, "Baking")

            async def serve() -> bool:
                return len(await releases.endpoints(instance)) == 2 * REPLICAS

            await until("old and new pods serve", serve)
            bad = next(
                pod
                for pod in await releases.pods(instance)
                if pod["spec"]["containers"][0]["image"] == "nginx:2"
            )
            await report(releases, bad, crashed(bad))
            status = await releases.finished("mostly-2", "Success")
        assert status["failedReplicas"] == 1
        assert [condition["batchSize"] for condition in status["conditions"]] == [REPLICAS - 1, 1]
        assert "within failureThreshold" in status["message"]
        assert bad["metadata"]["name"] not in status["pods"]
        assert await _images(releases, instance) == {"nginx:2"}
        await releases.serves(instance, REPLICAS)
        assert _fewest(history) >= REPLICAS
