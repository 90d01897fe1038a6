"""From a release as it is and what somebody wants of it, to one absolute change of its spec."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.deploy_commands import (
    DeployCommand,
    Refusal,
    change,
    cursor,
    deployflow_name,
    patch,
    requests_of,
    waiting_at,
)
from shared.domain.deployflow import BatchPhase

Cursor = tuple[int, BatchPhase | None]


def flow(
    *batches: tuple[str, bool],
    approved: Cursor = (1, None),
    phase: str = "BatchStarted",
    finished_batches: int = 0,
    canary: int = 1,
    action: str = "update",
    **status: Any,
) -> dict[str, Any]:
    """A DeployFlow with these batches (phase, whether it is the canary)."""
    strategy: dict[str, Any] = {"batches": approved[0], "mode": "auto"}
    if action == "update":
        strategy |= {"canary": canary} | ({"stage": str(approved[1])} if approved[1] else {})
    return {
        "metadata": {"name": "web-kvn6b", "namespace": "shop", "resourceVersion": "41"},
        "spec": {
            "action": action,
            "application": {
                "appID": 1,
                "groupID": 1,
                "appName": "web",
                "instanceName": "web",
                "template": {"spec": {"containers": [{"name": "web"}]}},
            },
            "updateStrategy" if action == "update" else "nonUpdateStrategy": strategy,
        },
        "status": {
            "phase": phase,
            "finished": phase in {"Success", "Failed", "Aborted", "Canceled"},
            "finishedBatches": finished_batches,
            "conditions": [
                {"batch": number, "batchSize": 1, "phase": name, "canary": is_canary}
                for number, (name, is_canary) in enumerate(batches, 1)
            ],
            **status,
        },
    }


def command(kind: str, **fields: Any) -> DeployCommand:
    return DeployCommand.model_validate(
        {"id": "r1", "type": kind, "namespace": "shop", "deployFlow": "web-kvn6b"} | fields
    )


SMOKED = flow(("Smoked", True))
BAKING = flow(("Baking", True), approved=(1, BatchPhase.BAKING))
BAKED = flow(("Baked", True), approved=(1, BatchPhase.BAKED), phase="BatchFinished", finished_batches=1)
SECOND_SMOKING = flow(("Baked", True), ("Smoking", False), approved=(2, None), finished_batches=1)
MANUAL = flow(("Baked", False), canary=0, phase="BatchFinished", finished_batches=1)
FAILED = flow(("SmokeFailed", True))
OVER = flow(("Baked", True), phase="Success", finished_batches=1)


@pytest.mark.parametrize(
    ("state", "leads_to"),
    [
        (SMOKED, (1, BatchPhase.BAKING)),
        (BAKING, (1, BatchPhase.BAKED)),
        (BAKED, (2, None)),
        (MANUAL, (2, None)),
    ],
    ids=["smoked canary", "baking canary", "baked canary", "manual between batches"],
)
def test_next_goes_one_step_from_where_the_release_waits(state: dict[str, Any], leads_to: Cursor) -> None:
    assert waiting_at(state) == leads_to
    fields = change(state, command("next"))
    assert fields == {"batches": leads_to[0], "stage": leads_to[1]}


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (OVER, "Finished", "has finished"),
        (FAILED, "BatchFailed", "SmokeFailed"),
        (SECOND_SMOKING, "NotWaiting", "batch 2 of web-kvn6b is Smoking and continues without approval"),
        (flow(phase="Initializing"), "NotWaiting", "has not started its first batch"),
        (
            flow(phase="Pending", reason="Waiting", message="behind web-older"),
            "NotWaiting",
            "behind web-older",
        ),
    ],
    ids=["over", "failed", "going on by itself", "not begun", "behind another"],
)
def test_next_where_there_is_nothing_to_go_on_from_is_refused(
    state: dict[str, Any], reason: str, said: str
) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        change(state, command("next"))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("state", "meant"),
    [
        (flow(("Smoked", True), approved=(1, BatchPhase.BAKING)), {}),
        (flow(("Baking", True), approved=(1, BatchPhase.BAKED)), {}),
        (flow(("Baked", True), approved=(2, None), phase="BatchFinished", finished_batches=1), {}),
        (BAKING, {"batch": 1, "stage": "Smoked"}),
        (flow(("Baked", True), ("Smoked", False), approved=(1, None), finished_batches=1), {"batch": 1}),
        (
            flow(("Baked", True), ("Smoked", False), approved=(1, None), finished_batches=1),
            {"batch": 1, "stage": "Baking"},
        ),
    ],
    ids=[
        "let into the traffic already",
        "let be done already",
        "let go on already",
        "meant for an earlier stage",
        "meant for an earlier batch",
        "meant for a stage of an earlier batch",
    ],
)
def test_a_next_that_somebody_else_pressed_already_has_no_effect(
    state: dict[str, Any], meant: dict[str, Any]
) -> None:
    assert change(state, command("next", **meant)) is None


def test_a_next_that_names_where_the_release_waits_goes_on() -> None:
    assert change(SMOKED, command("next", batch=1, stage="Smoked")) == {
        "batches": 1,
        "stage": BatchPhase.BAKING,
    }


@pytest.mark.parametrize(
    ("state", "target", "fields"),
    [
        (SMOKED, {"batches": 3}, {"batches": 3, "stage": None}),
        (SMOKED, {"batches": 2, "stage": "Smoked"}, {"batches": 2, "stage": BatchPhase.SMOKED}),
        (SMOKED, {"stage": "Baked"}, {"batches": 1, "stage": BatchPhase.BAKED}),
        (SECOND_SMOKING, {"batches": 1}, None),
        (SECOND_SMOKING, {"batches": 2, "stage": "Baking"}, None),
        (flow(("Baked", False), action="restart", phase="BatchFinished"), {"batches": 2}, {"batches": 2}),
    ],
    ids=["batches", "a stage of a batch", "a stage of this batch", "behind", "stage behind", "a restart"],
)
def test_continue_goes_to_its_target_and_never_back(
    state: dict[str, Any], target: dict[str, Any], fields: dict[str, Any] | None
) -> None:
    assert change(state, command("continue", target=target)) == fields


def test_a_restart_has_no_stages_to_continue_to() -> None:
    state = flow(("Smoking", False), action="restart")
    with pytest.raises(Refusal, match="has no stages"):
        change(state, command("continue", target={"batches": 2, "stage": "Smoked"}))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("pause", {"paused": True}), ("resume", {"paused": False}), ("cancel", {"canceled": True})],
)
def test_pause_resume_and_cancel_are_absolute(kind: str, fields: dict[str, Any]) -> None:
    assert change(SECOND_SMOKING, command(kind)) == fields


@pytest.mark.parametrize("kind", ["pause", "resume", "cancel", "next"])
def test_a_release_that_is_finished_takes_no_commands(kind: str) -> None:
    with pytest.raises(Refusal) as refused:
        change(OVER, command(kind))
    assert refused.value.reason == "Finished"


@pytest.mark.parametrize(
    ("approved", "canary", "reaches"),
    [
        ((1, None), True, (1, BatchPhase.SMOKED)),
        ((1, None), False, (1, None)),
        ((1, BatchPhase.BAKING), True, (1, BatchPhase.BAKING)),
        ((2, None), True, (2, None)),
    ],
    ids=["a canary nobody let go", "no canary", "a canary let into the traffic", "past the canary"],
)
def test_how_far_the_spec_lets_a_release_go(approved: Cursor, canary: bool, reaches: Cursor) -> None:
    assert cursor(*approved, canary=canary) == reaches


def test_a_patch_is_guarded_and_says_which_request_it_was() -> None:
    body = patch(SMOKED, {"paused": True}, request_id="r1", requested_by="deployer")
    assert body["metadata"]["resourceVersion"] == "41"
    assert body["metadata"]["annotations"] == {
        "apps.triton.io/last-request": "r1",
        "apps.triton.io/requests": '["r1"]',
        "apps.triton.io/last-step": '{"request": "r1", "command": "change"}',
        "apps.triton.io/last-step-by": "deployer",
    }
    assert body["spec"] == {"updateStrategy": {"paused": True}}


def test_a_deployflow_remembers_its_last_requests() -> None:
    annotations = {"apps.triton.io/last-request": "r0"}
    for number in range(1, 31):
        flow = {**SMOKED, "metadata": {**SMOKED["metadata"], "annotations": annotations}}
        body = patch(flow, {"paused": True}, request_id=f"r{number}", requested_by="")
        annotations = body["metadata"]["annotations"]
    assert requests_of(annotations) == [f"r{number}" for number in range(11, 31)]


@pytest.mark.parametrize(
    "annotation", ["", "r1,r2", "7", "{}"], ids=["empty", "no JSON", "a number", "an object"]
)
def test_a_memory_of_requests_that_somebody_broke_starts_again(annotation: str) -> None:
    assert requests_of({"apps.triton.io/requests": annotation, "apps.triton.io/last-request": "r3"}) == ["r3"]


def test_the_same_request_always_makes_a_deployflow_of_the_same_name() -> None:
    # written out: after an upgrade a redelivered request must still find the DeployFlow that it made before
    assert deployflow_name("web", "request-1") == "web-twtgg"
    assert deployflow_name("web", "request-2") != "web-twtgg"
