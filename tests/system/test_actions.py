"""Every action on an instance, requested with the `triton` command, and what is left of it then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.kube import client as k8s
from shared.kube.client import ApiError
from tests.system.history import recorded
from tests.system.other_system import OtherSystem, press
from tests.system.programs import START_SECONDS, printed, triton
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

Verb = Callable[..., Awaitable[str]]


@pytest.fixture
def verb(sandbox: Sandbox) -> Verb:
    """Runs `triton ARGUMENTS...`; gives its last word, which is the name of a release that it made."""

    async def run(*arguments: str) -> str:
        return (await printed(*arguments, environment=sandbox.environment)).split()[-1]

    return run


async def names(releases: Releases, instance: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in await releases.pods(instance)}


async def test_scale_goes_out_and_in_and_takes_the_pod_that_is_named(releases: Releases, verb: Verb) -> None:
    await releases.create("sized", 2)
    before = await names(releases, "sized")
    await releases.finished(await verb("scale", "sized", "--replicas", "4", "--batch-size", "1"), "Success")
    await releases.serves("sized", 4)
    grown = await names(releases, "sized")
    assert before < grown
    named = min(before)
    made = await verb("scale", "sized", "--replicas", "3", "--pod", named)
    assert (await releases.flow(made))["spec"]["action"] == "scale_in"
    await releases.finished(made, "Success")
    assert await names(releases, "sized") == grown - {named}
    await releases.serves("sized", 3)


async def test_an_update_after_a_scale_keeps_the_count(releases: Releases, verb: Verb) -> None:
    await releases.create("keeping", 1)
    await releases.finished(await verb("scale", "keeping", "--replicas", "3"), "Success")
    await releases.finished(await verb("update", "keeping", "--image", "nginx:2"), "Success")
    await releases.serves("keeping", 3)


async def test_the_scale_call_of_0_1_x_ends_without_a_next_and_takes_exactly_the_named_pod(
    releases: Releases,
) -> None:
    await releases.create("legacy-scale", 3)
    before = await names(releases, "legacy-scale")
    named = sorted(before)[1]
    body = deployflow("legacy-scale-in", "legacy-scale", action="scale_in", replicas=2)
    del body["spec"]["updateStrategy"], body["spec"]["application"]["template"]
    body["spec"]["nonUpdateStrategy"] = {
        "podsToDelete": [named], "batchSize": 1, "batches": 1, "batchIntervalSeconds": 10
    }  # fmt: skip
    status = await releases.finished(await releases.apply(body), "Success")
    assert (status["batches"], status["replicasToProcess"], status["finishedReplicas"]) == (1, 1, 1)
    assert await names(releases, "legacy-scale") == before - {named}
    await releases.serves("legacy-scale", 2)


async def test_restart_of_a_named_pod_brings_a_fresh_one_first(releases: Releases, verb: Verb) -> None:
    await releases.create("fresh", 3)
    before = await names(releases, "fresh")
    named = min(before)
    async with recorded(releases, "fresh") as history:
        await releases.finished(await verb("restart", "fresh", "--pod", named), "Success")
    history.check(3)
    after = await names(releases, "fresh")
    assert before - after == {named}
    assert len(after) == 3


async def test_restart_replaces_every_pod_while_the_wanted_count_serves(
    releases: Releases, verb: Verb
) -> None:
    await releases.create("restarted", 4)
    before = await releases.pods("restarted")
    async with recorded(releases, "restarted") as history:
        await releases.finished(await verb("restart", "restarted", "--batch-size", "2"), "Success")
    history.check(4)
    after = await releases.pods("restarted")
    assert not {pod["metadata"]["name"] for pod in before} & {pod["metadata"]["name"] for pod in after}
    revisions = {pod["metadata"]["labels"]["controller-revision-hash"] for pod in (*before, *after)}
    assert (len(after), len(revisions)) == (4, 1)


async def test_stop_takes_every_pod_and_start_brings_as_many_back(releases: Releases, verb: Verb) -> None:
    await releases.create("resting", 3)
    await releases.finished(await verb("stop", "resting", "--batch-size", "2"), "Success")
    assert await names(releases, "resting") == set()
    await releases.serves("resting", 0)
    await releases.finished(await verb("start", "resting"), "Success")
    await releases.serves("resting", 3)


async def test_delete_takes_the_pods_and_then_the_cloneset(releases: Releases, verb: Verb) -> None:
    await releases.create("leaving", 3)
    made = await verb("delete", "leaving", "--yes", "--batch-size", "2")
    status = await releases.finished(made, "Success")
    assert status["finishedReplicas"] == 3

    async def gone() -> bool:
        try:
            await releases.cloneset("leaving")
        except ApiError as error:
            return error.code == 404
        return False

    await until("the CloneSet is gone", gone)
    assert await names(releases, "leaving") == set()


async def test_a_delete_without_a_terminal_needs_a_yes(releases: Releases, sandbox: Sandbox) -> None:
    await releases.create("staying", 1)
    async with triton("delete", "staying", environment=sandbox.environment) as program:
        assert await program.ends(START_SECONDS) == 2
    assert await releases.names("staying") == ["staying-first"]


async def test_retry_makes_the_failed_batch_again_and_continues(releases: Releases, verb: Verb) -> None:
    await releases.create("patient", 2)
    slow = {"sandbox.triton.io/start-seconds": "3"}
    await releases.apply(
        deployflow(
            "patient-2", "patient", image="nginx:2", replicas=2, annotations=slow, startupTimeoutSeconds=1
        )
    )
    status = await releases.batch_is("patient-2", 1, "SmokeFailed")
    failed = {pod["name"] for pod in status["conditions"][0]["pods"]}
    await releases.strategy("patient-2", startupTimeoutSeconds=60)
    await verb("retry", "patient")
    await releases.finished("patient-2", "Success")
    assert len(failed) == 2
    assert not failed & await names(releases, "patient")
    await releases.serves("patient", 2)


async def test_retry_works_again_after_the_manifest_was_applied_again(releases: Releases, verb: Verb) -> None:
    await releases.create("gitops", 2)
    await releases.apply(deployflow("gitops-2", "gitops", image="nginx:crash", replicas=2))
    tried: set[str] = set()

    def fails_again(status: Json) -> bool:
        batch = (status.get("conditions") or [{}])[0]
        pods = {pod["name"] for pod in batch.get("pods", ())}
        return batch.get("phase") == "SmokeFailed" and len(pods) == 2 and not pods & tried

    for _ in range(3):
        status = await releases.until_status("gitops-2", "other pods fail", fails_again)
        tried |= {pod["name"] for pod in status["conditions"][0]["pods"]}
        await releases.strategy("gitops-2", retries=None)
        await verb("retry", "gitops-2")
    await verb("cancel", "gitops-2")
    await releases.finished("gitops-2", "Canceled")


async def test_after_a_retry_that_fails_again_a_rollback_brings_success(
    releases: Releases, verb: Verb
) -> None:
    await releases.create("sorry", 4)
    before = await names(releases, "sorry")
    async with recorded(releases, "sorry") as history:
        broken = await verb("update", "sorry", "--image", "nginx:crash", "--batch-size", "2")
        status = await releases.batch_is(broken, 1, "SmokeFailed")
        first = {pod["name"] for pod in status["conditions"][0]["pods"]}
        await verb("retry", "sorry")

        def failed_again(status: Json) -> bool:
            batch = status["conditions"][0]
            pods = {pod["name"] for pod in batch["pods"]}
            return batch["phase"] == "SmokeFailed" and len(pods) == 2 and not pods & first

        await releases.until_status(broken, "the second attempt fails", failed_again)
        back = await verb("rollback", "sorry")
        await releases.finished(broken, "Aborted")
        await releases.finished(back, "Success")
    history.check(4)
    assert await names(releases, "sorry") == before
    cloneset = await releases.cloneset("sorry")
    assert cloneset["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:1"


async def test_a_rollback_in_the_middle_of_a_release_goes_to_the_one_that_is_named(
    releases: Releases, verb: Verb
) -> None:
    await releases.create("back", 2)
    await releases.finished(await verb("update", "back", "--image", "nginx:2"), "Success")
    third = await verb("update", "back", "--image", "nginx:3", "--batch-size", "1", "--mode", "manual")
    await releases.until_status(third, "half of it", lambda s: s.get("reason") == "WaitingForNext")
    await releases.finished(await verb("rollback", "back", "--to", "back-first"), "Success")
    await releases.finished(third, "Aborted")
    assert {pod["spec"]["containers"][0]["image"] for pod in await releases.pods("back")} == {"nginx:1"}
    await releases.serves("back", 2)


async def test_promote_lets_a_canary_go_to_its_end(releases: Releases, verb: Verb) -> None:
    await releases.create("trusted", 3)
    made = await verb("update", "trusted", "--image", "nginx:2", "--canary", "1", "--batch-size", "1")
    await releases.batch_is(made, 1, "Smoked")
    await verb("promote", "trusted")
    status = await releases.finished(made, "Success")
    assert status["finishedBatches"] == 3


async def test_a_release_whose_cloneset_is_deleted_while_it_waits_ends_at_once(releases: Releases) -> None:
    await releases.create("torn", 2)
    await releases.apply(deployflow("torn-2", "torn", image="nginx:2", replicas=2, canary=1))
    await releases.batch_is("torn-2", 1, "Smoked")
    await releases.client.delete(k8s.CLONESETS, releases.namespace, "torn")
    status = await releases.finished("torn-2", "Failed")
    assert (status["reason"], status["message"]) == ("NotFound", "CloneSet default/torn does not exist")


# --- volume claims and the application's type ---


def claims(size: str) -> list[Json]:
    return [
        {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}},
            },
        }
    ]


async def test_volume_claims_and_the_type_of_the_application_reach_the_cloneset(releases: Releases) -> None:
    async def release(name: str, action: str, image: str, size: str) -> str:
        # without pods: no volume has to be there
        body = deployflow(name, "volumes", action=action, image=image, replicas=0)
        body["spec"]["application"] |= {"volumeClaimTemplates": claims(size), "applicationType": f"of-{size}"}
        return await releases.apply(body)

    async def seen() -> tuple[str, str]:
        cloneset = await releases.cloneset("volumes")
        (claim,) = cloneset["spec"]["volumeClaimTemplates"]
        marks = cloneset["metadata"]["annotations"]
        return claim["spec"]["resources"]["requests"]["storage"], marks["apps.triton.io/application-type"]

    await releases.finished(await release("volumes-1", "create", "nginx:1", "1Gi"), "Success")
    assert await seen() == ("1Gi", "of-1Gi")
    await releases.finished(await release("volumes-2", "update", "nginx:2", "2Gi"), "Success")
    assert await seen() == ("2Gi", "of-2Gi")
    status = await releases.finished(await release("volumes-3", "update", "nginx:2", "3Gi"), "Failed")
    assert status["reason"] == "InvalidTemplate"
    assert "application.volumeClaimTemplates: they can only change together" in status["message"]
    assert await seen() == ("2Gi", "of-2Gi")
    assert await releases.client.list(k8s.PODS, "default", labels="app.kubernetes.io/instance=volumes") == []


# --- requested over Kafka ---


async def test_a_rollback_and_a_promotion_can_be_requested_over_kafka(
    releases: Releases, paas: OtherSystem
) -> None:
    async def send(id: str, kind: str, **more: Any) -> str:
        await paas.ask("bus", press(id, kind, "bus", requestedBy="paas", **more))
        (reply,) = await paas.replies(id)
        assert reply["result"] == "accepted", reply
        return str(reply["deployFlow"])

    await releases.create("bus", 2)
    await releases.apply(
        deployflow("bus-2", "bus", image="nginx:2", replicas=2, canary=1, batchSize=1, mode="manual")
    )
    await releases.batch_is("bus-2", 1, "Smoked")
    assert await send("bus-3", "promote") == "bus-2"
    await releases.finished("bus-2", "Success")
    back = await send("bus-4", "rollback", deployFlow="bus-first")
    status = await releases.finished(back, "Success")
    assert status["requestedBy"] == "paas"
    assert {pod["spec"]["containers"][0]["image"] for pod in await releases.pods("bus")} == {"nginx:1"}
    await paas.ask("bus", press("bus-5", "retry", "bus"))
    (reply,) = await paas.replies("bus-5")
    assert (reply["result"], reply["reason"]) == ("refused", "Finished")


async def test_a_template_that_was_never_good_makes_no_pods(
    releases: Releases, verb: Verb, sandbox: Sandbox
) -> None:
    await releases.service("refused")
    await releases.apply(deployflow("refused-1", "refused", action="create", replicas=3, canary=1))
    await releases.batch_is("refused-1", 1, "Smoked")
    queued = await verb("scale", "refused", "--replicas", "5")
    await verb("cancel", "refused-1")
    await releases.finished("refused-1", "Canceled")
    status = await releases.finished(queued, "Failed")
    assert status["reason"] == "NoGoodTemplate"
    for arguments in (["scale", "refused", "--replicas", "5"], ["restart", "refused"], ["start", "refused"]):
        async with triton(*arguments, environment=sandbox.environment) as program:
            assert await program.ends(START_SECONDS) != 0
    assert await names(releases, "refused") == set()
    second = await verb("update", "refused", "--image", "nginx:2")
    await releases.batch_is(second, 1, "Smoked")
    await verb("promote", second)
    await releases.finished(second, "Success")
    await releases.finished(await verb("scale", "refused", "--replicas", "4"), "Success")
    await releases.serves("refused", 4)


async def test_a_scale_and_a_rollback_that_wait_behind_an_update_are_both_carried_out(
    releases: Releases, verb: Verb
) -> None:
    await releases.create("both", 4)
    await releases.finished(await verb("update", "both", "--image", "nginx:2"), "Success")
    await releases.apply(deployflow("both-3", "both", image="nginx:3", replicas=4, canary=1))
    await releases.batch_is("both-3", 1, "Smoked")
    scale = await verb("scale", "both", "--replicas", "6")
    back = await verb("rollback", "both")
    await releases.finished("both-3", "Aborted")
    await releases.finished(scale, "Success")
    await releases.finished(back, "Success")
    await releases.serves("both", 6)
    cloneset = await releases.cloneset("both")
    assert cloneset["spec"]["replicas"] == 6
    assert cloneset["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"


async def test_scales_that_wait_behind_an_update_are_carried_out_one_after_the_other(
    releases: Releases, verb: Verb
) -> None:
    await releases.create("rescaled", 2)
    await releases.apply(deployflow("rescaled-2", "rescaled", image="nginx:2", replicas=2, canary=1))
    await releases.batch_is("rescaled-2", 1, "Smoked")
    out = await verb("scale", "rescaled", "--replicas", "5")
    made = datetime.fromisoformat((await releases.flow(out))["metadata"]["creationTimestamp"])
    # within one second the order is that of the names
    await until("the next second", lambda: datetime.now(UTC) >= made + timedelta(seconds=1))
    back = await verb("scale", "rescaled", "--replicas", "3")
    await verb("promote", "rescaled-2")
    for name in ("rescaled-2", out, back):
        await releases.finished(name, "Success")
    await releases.serves("rescaled", 3)
    assert (await releases.cloneset("rescaled"))["spec"]["replicas"] == 3


@pytest.mark.parametrize("ends", ["promote", "cancel"])
async def test_an_update_that_waits_takes_over_what_is_good_when_it_begins(
    releases: Releases, verb: Verb, ends: str
) -> None:
    instance = f"heir-{ends}"
    await releases.create(instance, 2)
    running = deployflow(f"{instance}-2", instance, image="nginx:2", replicas=2, canary=1, bakeSeconds=1)
    container = running["spec"]["application"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "COLOUR", "value": "green"}]
    await releases.apply(running)
    await releases.batch_is(f"{instance}-2", 1, "Smoked")
    queued = await verb("update", instance, "--image", "nginx:3", "--canary", "0", "--mode", "auto")
    await verb(ends, f"{instance}-2")
    await releases.finished(f"{instance}-2", "Success" if ends == "promote" else "Canceled")
    await releases.finished(queued, "Success")
    await releases.serves(instance, 2)
    live = (await releases.cloneset(instance))["spec"]["template"]["spec"]["containers"][0]
    spec = (await releases.flow(queued))["spec"]
    assert live["image"] == "nginx:3"
    assert ("env" in live) is (ends == "promote")
    assert spec["application"]["template"]["spec"]["containers"][0].get("env") == live.get("env")
    # the strategy is the one that was requested last, however that release ended
    assert spec["updateStrategy"] == {"mode": "auto", "canary": 0, "bakeSeconds": 1}
    assert "inherits" not in spec
