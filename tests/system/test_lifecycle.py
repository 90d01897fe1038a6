"""Whole releases, as users see them, by one and by two replicas of each service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.history import recorded
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def releases(sandbox: Sandbox, replicas: int) -> AsyncIterator[Releases]:
    """In a namespace for each number of replicas: the instances have the same names."""
    async with Releases(sandbox, f"replicas-{replicas}") as client:
        await client.make_namespace()
        yield client


async def test_a_canary_waits_without_traffic_then_with_and_then_the_rest_goes_by_itself(
    releases: Releases,
) -> None:
    await releases.service("canary")
    await releases.apply(deployflow("canary-1", "canary", action="create", replicas=3, canary=1, batchSize=1))
    status = await releases.batch_is("canary-1", 1, "Smoked")
    assert await releases.endpoints("canary") == set()
    assert (status["phase"], status["paused"], status["reason"]) == ("BatchStarted", False, "WaitingForNext")
    await releases.strategy("canary-1", batches=1, stage="Baking")
    await releases.batch_is("canary-1", 1, "Baking")
    await releases.serves("canary", 1)
    await releases.strategy("canary-1", stage="Baked")
    status = await releases.until_status("canary-1", "BatchFinished", lambda s: s["phase"] == "BatchFinished")
    await releases.serves("canary", 1)
    await releases.strategy("canary-1", batches=2, stage=None)
    status = await releases.finished("canary-1", "Success")
    await releases.serves("canary", 3)
    assert [c["phase"] for c in status["conditions"]] == ["Baked"] * 3
    assert status["finishedReplicas"] == status["updatedReadyReplicas"] == 3


async def test_an_update_replaces_every_pod_while_the_wanted_count_serves(releases: Releases) -> None:
    await releases.create("shop", 6)
    before = {pod["metadata"]["name"] for pod in await releases.pods("shop")}
    async with recorded(releases, "shop") as history:
        await releases.apply(deployflow("shop-2", "shop", image="nginx:2", batchSize=2))
        status = await releases.finished("shop-2", "Success")
    history.check(6)
    after = await releases.pods("shop")
    assert len(after) == 6
    assert not before & {pod["metadata"]["name"] for pod in after}
    assert status["batches"] == status["finishedBatches"] == 3
    cloneset = await releases.cloneset("shop")
    strategy = cloneset["spec"]["updateStrategy"]
    assert not strategy.get("paused")
    assert strategy.get("partition", 0) == 0
    assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]


async def test_old_pods_lose_their_traffic_before_they_are_deleted_where_a_wait_is_set(
    releases: Releases,
) -> None:
    await releases.create("gentle", 4)
    async with recorded(releases, "gentle") as history:
        await releases.apply(
            deployflow("gentle-2", "gentle", image="nginx:2", replicas=4, batchSize=2, pullOutSeconds=1)
        )
        await releases.finished("gentle-2", "Success")
    history.check(4)
    history.pulled_out_first()


async def test_manual_mode_waits_between_batches_and_continue_goes_to_its_target(releases: Releases) -> None:
    await releases.create("manual", 4)
    await releases.apply(
        deployflow("manual-2", "manual", image="nginx:2", replicas=4, mode="manual", batchSize=1)
    )
    status = await releases.until_status("manual-2", "waits", lambda s: s.get("reason") == "WaitingForNext")
    assert (status["phase"], status["finishedBatches"]) == ("BatchFinished", 1)
    await releases.strategy("manual-2", batches=3)
    await releases.until_status(
        "manual-2", "batch 3", lambda s: s["finishedBatches"] == 3 and s["reason"] == "WaitingForNext"
    )
    await releases.strategy("manual-2", batches=4)
    await releases.finished("manual-2", "Success")


async def test_while_paused_no_pod_is_made_and_resume_goes_on(releases: Releases) -> None:
    await releases.create("pausing", 6)
    slow = {"sandbox.triton.io/start-seconds": "1.0-1.5"}
    await releases.apply(deployflow("pausing-2", "pausing", image="nginx:2", batchSize=2, annotations=slow))
    await releases.batch_is("pausing-2", 1, "Smoking")
    await releases.strategy("pausing-2", paused=True)
    status = await releases.until_status(
        "pausing-2", "paused", lambda s: s["paused"] and s["reason"] == "Paused"
    )
    # a surge that was on its way is still written, and then halted
    cloneset = await until(
        "the CloneSet stands still", lambda: _settled(releases, "pausing", status["sequence"])
    )
    made = {pod["metadata"]["name"] for pod in await releases.pods("pausing")}
    assert cloneset["spec"]["replicas"] == len(made)
    # a release of another instance that begins and ends meanwhile shows that nothing is merely slow
    await releases.create("not-pausing", 2)
    assert {pod["metadata"]["name"] for pod in await releases.pods("pausing")} == made
    await releases.strategy("pausing-2", batchSize=4, paused=False)
    status = await releases.finished("pausing-2", "Success")
    assert [c["batchSize"] for c in status["conditions"]] == [2, 4]


async def _settled(releases: Releases, instance: str, sequence: int) -> Json | None:
    """The CloneSet once that command is in it, and its controller has made exactly the pods that are wanted."""
    cloneset = await releases.cloneset(instance)
    status = cloneset["status"]
    written = int(cloneset["metadata"]["annotations"]["apps.triton.io/sequence"])
    seen = written >= sequence and status.get("observedGeneration") == cloneset["metadata"]["generation"]
    return cloneset if seen and status["replicas"] == cloneset["spec"]["replicas"] else None


async def test_a_crashing_image_stops_at_its_first_batch_and_cancel_leaves_nothing_behind(
    releases: Releases,
) -> None:
    await releases.create("crashing", 6)
    before = {pod["metadata"]["name"] for pod in await releases.pods("crashing")}
    async with recorded(releases, "crashing") as history:
        await releases.apply(deployflow("crashing-2", "crashing", image="nginx:crash", batchSize=2))
        status = await releases.batch_is("crashing-2", 1, "SmokeFailed")
        assert status["paused"]
        assert "CrashLoopBackOff" in status["message"]
        await releases.until_status("crashing-2", "both counted", lambda s: s["failedReplicas"] == 2)
        await releases.strategy("crashing-2", canceled=True)
        await releases.finished("crashing-2", "Canceled")
    history.check(6)
    assert {pod["metadata"]["name"] for pod in await releases.pods("crashing")} == before
    cloneset = await releases.cloneset("crashing")
    assert cloneset["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"
    assert not cloneset["spec"]["updateStrategy"].get("paused")


@pytest.mark.parametrize(
    ("behaviour", "strategy", "reason"),
    [
        ("hang", {"startupTimeoutSeconds": 2}, "StartupTimeout"),
        ("imagepull", {}, "ImagePullBackOff"),
        ("unschedulable", {"startupTimeoutSeconds": 2}, "StartupTimeout"),
    ],
)
async def test_pods_that_never_start_fail_the_batch_with_the_reason(
    releases: Releases, behaviour: str, strategy: Json, reason: str
) -> None:
    instance = f"never-{behaviour}"
    await releases.create(instance, 2)
    body = deployflow(
        f"{instance}-2", instance, image=f"nginx:{behaviour}", replicas=2, batchSize=1, **strategy
    )
    if behaviour == "unschedulable":
        # what the tag plays in the embedded cluster a real scheduler needs a reason for
        body["spec"]["application"]["template"]["spec"]["nodeSelector"] = {"pool": "of-nobody"}
    await releases.apply(body)
    status = await releases.batch_is(f"{instance}-2", 1, "SmokeFailed")
    assert status["conditions"][0]["reason"] == reason
    assert len(await releases.endpoints(instance)) == 2
    await releases.strategy(f"{instance}-2", canceled=True)
    await releases.finished(f"{instance}-2", "Canceled")


async def test_a_pod_that_crashes_while_baking_fails_the_bake_and_loses_its_traffic(
    releases: Releases,
) -> None:
    await releases.create("baking", 2)
    await releases.apply(
        deployflow(
            "baking-2",
            "baking",
            image="nginx:crash-after-ready",
            replicas=2,
            batchSize=1,
            bakeSeconds=20,
            annotations={"sandbox.triton.io/fail-after-seconds": "0.5"},
        )
    )
    status = await releases.batch_is("baking-2", 1, "BakeFailed")
    assert status["paused"]
    await releases.serves("baking", 2)
    await releases.strategy("baking-2", canceled=True)
    await releases.finished("baking-2", "Canceled")
    assert len(await releases.pods("baking")) == 2


async def test_on_failure_cancel_gives_the_release_up_by_itself(releases: Releases) -> None:
    await releases.create("giving-up", 2)
    await releases.apply(
        deployflow(
            "giving-up-2", "giving-up", image="nginx:crash", replicas=2, batchSize=1, onFailure="cancel"
        )
    )
    status = await releases.finished("giving-up-2", "Failed")
    assert "CrashLoopBackOff" in status["message"]
    await until("the old pods are all there is", lambda: _pod_count(releases, "giving-up", 2))


async def _pod_count(releases: Releases, instance: str, number: int) -> bool:
    return len(await releases.pods(instance)) == number


async def test_a_second_release_waits_its_turn_and_says_behind_which(releases: Releases) -> None:
    await releases.create("queue", 2)
    await releases.apply(
        deployflow("queue-2", "queue", image="nginx:2", replicas=2, batchSize=1, batchIntervalSeconds=2)
    )
    await releases.batch_is("queue-2", 1, "Smoking", "Smoked", "Baking", "Baked")
    await releases.apply(deployflow("queue-3", "queue", image="nginx:3", replicas=2))
    status = await releases.until_status("queue-3", "a reason", lambda s: s.get("reason"))
    assert (status["phase"], status["reason"]) == ("Pending", "WaitingItsTurn")
    assert "queue-2" in status["message"]
    await releases.finished("queue-2", "Success")
    await releases.finished("queue-3", "Success")


async def test_a_new_release_takes_over_a_failed_one(releases: Releases) -> None:
    await releases.create("healed", 3)
    async with recorded(releases, "healed") as history:
        await releases.apply(deployflow("healed-2", "healed", image="nginx:crash", replicas=3, batchSize=1))
        await releases.batch_is("healed-2", 1, "SmokeFailed")
        await releases.apply(deployflow("healed-3", "healed", image="nginx:3", replicas=3, batchSize=1))
        await releases.finished("healed-2", "Aborted")
        await releases.finished("healed-3", "Success")
    history.check(3)
    assert len(await releases.pods("healed")) == 3


async def test_an_update_may_change_the_replicas_too(releases: Releases) -> None:
    await releases.create("growing", 2)
    await releases.apply(deployflow("growing-2", "growing", image="nginx:2", replicas=5, batchSize=2))
    await releases.finished("growing-2", "Success")
    await releases.serves("growing", 5)
    await releases.apply(deployflow("growing-3", "growing", image="nginx:3", replicas=2, batchSize=1))
    await releases.finished("growing-3", "Success")
    assert len(await releases.pods("growing")) == 2


async def test_an_update_to_what_already_runs_finishes_at_once(releases: Releases) -> None:
    await releases.create("same", 2)
    before = {pod["metadata"]["name"] for pod in await releases.pods("same")}
    await releases.apply(deployflow("same-2", "same", image="nginx:1", replicas=2, batchSize=1))
    status = await releases.finished("same-2", "Success")
    assert (status["replicasToProcess"], status["batches"]) == (0, 0)
    assert {pod["metadata"]["name"] for pod in await releases.pods("same")} == before


async def test_a_pod_that_no_release_claims_gets_its_traffic(releases: Releases) -> None:
    await releases.create("drained", 3)
    victim = (await releases.pods("drained"))[0]["metadata"]["name"]
    from shared.kube import client as k8s

    await releases.client.delete(k8s.PODS, releases.namespace, victim)
    await until("three endpoints without the deleted pod", lambda: _replaced(releases, "drained", victim))


async def _replaced(releases: Releases, instance: str, victim: str) -> bool:
    endpoints = await releases.endpoints(instance)
    return len(endpoints) == 3 and victim not in endpoints


async def test_deleting_a_running_release_cancels_it_first(releases: Releases) -> None:
    from shared.kube import client as k8s

    await releases.create("deleted", 3)
    await releases.apply(
        deployflow("deleted-2", "deleted", image="nginx:2", replicas=3, canary=1, batchSize=1)
    )
    await releases.batch_is("deleted-2", 1, "Smoked")
    await releases.client.delete(k8s.DEPLOYFLOWS, releases.namespace, "deleted-2")

    async def gone() -> bool:
        flows = await releases.client.list(k8s.DEPLOYFLOWS, releases.namespace)
        return all(flow["metadata"]["name"] != "deleted-2" for flow in flows)

    await until("the DeployFlow is gone", gone)
    await until("the canary is gone", lambda: _pod_count(releases, "deleted", 3))
    image = (await releases.cloneset("deleted"))["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "nginx:1"
