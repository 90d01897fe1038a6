"""To where the end of a release is reported is in its `.status`, which the planner alone writes."""

from __future__ import annotations

import pytest

from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.flow_cache import FlowCache
from shared.domain import deployflow as df
from shared.domain.deploy_commands import DeployCommand, Refusal, deployflow_name
from shared.domain.json_types import Json
from shared.kube.client import CRDS, DEPLOYFLOWS, ApiError, Client
from shared.kube.crd import crd
from shared.settings import Settings
from tests.system.other_system import REPLIES, deploy, press
from tests.unit.parts import MemoryKafka

NAME = deployflow_name("web", "paas-1")


@pytest.fixture
async def changes(api: Client) -> FlowMutations:
    await api.create(CRDS, None, crd())
    return FlowMutations(api, FlowCache(api, MemoryKafka().kafka, Settings()))


def read(command: Json) -> DeployCommand:
    return DeployCommand.model_validate({"namespace": "default", **command})


DEPLOY = read(deploy("paas-1", "web"))


async def live(api: Client) -> Json:
    return await api.get(DEPLOYFLOWS, "default", NAME)


async def test_a_deploy_is_recorded_in_the_status(api: Client, changes: FlowMutations) -> None:
    await changes.carry_out(DEPLOY)
    flow = await live(api)
    assert (flow["status"]["replyTo"], flow["status"]["replyId"]) == (REPLIES, "paas-1")
    assert flow["metadata"]["finalizers"] == [df.FINALIZER]


async def test_a_deploy_without_an_answer_records_nothing(api: Client, changes: FlowMutations) -> None:
    await changes.carry_out(DEPLOY.model_copy(update={"reply_to": None}))
    flow = await live(api)
    assert "replyId" not in (flow.get("status") or {})
    assert "finalizers" not in flow["metadata"]


async def test_a_rollback_is_recorded_too(api: Client, changes: FlowMutations) -> None:
    for number, image in enumerate(("web:1.0", "web:2.0")):
        made = await changes.carry_out(read(deploy(f"before-{number}", "web", image=image)))
        about = {"phase": "Success", "finished": True, "startedAt": f"2026-01-01T00:00:0{number}.000Z"}
        await api.patch(
            DEPLOYFLOWS, "default", made["metadata"]["name"], {"status": about}, subresource="status"
        )
    await changes.carry_out(read(press("paas-1", "rollback", "web")))
    assert (await live(api))["status"]["replyId"] == "paas-1"


async def test_a_deploy_that_comes_again_records_what_the_first_time_did_not(
    api: Client, changes: FlowMutations
) -> None:
    await changes.carry_out(DEPLOY.model_copy(update={"reply_to": None}))
    # nobody knew of the answer when it finished
    ended = {"status": {"finished": True, "phase": "Success"}}
    await api.patch(DEPLOYFLOWS, "default", NAME, ended, subresource="status")
    await changes.carry_out(DEPLOY)
    flow = await live(api)
    assert flow["status"]["replyId"] == "paas-1"
    assert flow["metadata"]["finalizers"] == [df.FINALIZER]


async def test_a_repeated_deploy_is_recorded_once(api: Client, changes: FlowMutations) -> None:
    await changes.carry_out(DEPLOY)
    before = await live(api)
    await changes.carry_out(DEPLOY)
    assert await live(api) == before


async def test_a_deploy_of_somebody_else_changes_no_record(api: Client, changes: FlowMutations) -> None:
    await changes.carry_out(DEPLOY)
    with pytest.raises(Refusal, match="exists already"):
        await changes.carry_out(
            read(deploy("others-1", "web") | {"deployFlow": NAME, "replyTo": "x.replies"})
        )
    assert (await live(api))["status"]["replyTo"] == REPLIES


async def test_who_creates_a_deployflow_writes_no_record(api: Client, changes: FlowMutations) -> None:
    body = {
        "apiVersion": df.API_VERSION,
        "kind": df.KIND,
        "metadata": {"name": NAME},
        "spec": deploy("", "web")["spec"],
        "status": {"replyTo": "x.replies", "replyId": "somebody-else"},
    }
    made = await api.create(DEPLOYFLOWS, "default", body)
    assert "replyId" not in (made.get("status") or {})
    changed = await api.patch(DEPLOYFLOWS, "default", NAME, {"status": body["status"]})
    assert "replyId" not in (changed.get("status") or {})


async def test_a_record_that_is_refused_does_not_refuse_the_release(
    api: Client, changes: FlowMutations, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> Json:
        raise ApiError(403, "Forbidden", "admission webhook denied the request: no status today")

    monkeypatch.setattr(api, "patch", refuse)
    assert (await changes.carry_out(DEPLOY))["metadata"]["name"] == NAME
    assert (
        f"the end of {NAME} will not be reported to paas.replies (paas-1): its status was refused"
        in caplog.text
    )
