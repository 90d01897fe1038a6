"""The messages about a DeployFlow that can't be meant."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.deploy_commands import DeployCommand, change, patch
from shared.domain.deployflow import (
    STORED,
    STRATEGY_FIELDS,
    DeployFlowSpec,
    DeployFlowStatus,
    NonUpdateStrategy,
    UpdateStrategy,
    count_of,
    problems,
)

SOUND: dict[str, Any] = {
    "action": "update",
    "application": {
        "appID": 12122,
        "groupID": 10010,
        "appName": "deploy-demo-hello",
        "instanceName": "web",
        "replicas": 3,
        "template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.29"}]}},
    },
    "updateStrategy": {"canary": 1, "batchSize": 1},
}


def spec(path: str, value: Any) -> dict[str, Any]:
    """The sound one, with one field set, or removed with None."""
    made = copy.deepcopy(SOUND)
    *parents, leaf = path.split(".")
    at = made
    for parent in parents:
        at = at.setdefault(parent, {})
    if value is None:
        del at[leaf]
    else:
        at[leaf] = value
    return made


def complaint(body: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        DeployFlowSpec.model_validate(body)
    return problems(caught.value, "spec")


def test_the_sound_one_is_taken() -> None:
    assert DeployFlowSpec.model_validate(SOUND).strategy.batch_size == 1


@pytest.mark.parametrize("size", [-1, "120%", "abc", "0%", "-5%", 1.5, True])
def test_a_batch_size_that_can_not_be_meant_is_refused_with_field_and_value(size: Any) -> None:
    text = complaint(spec("updateStrategy.batchSize", size))
    assert text.startswith("spec.updateStrategy.batchSize: ")
    assert f"received: {size!r}" in text


@pytest.mark.parametrize("size", [1, 500, "1%", "20%", "100%"])
def test_counts_and_percentages_are_batch_sizes(size: Any) -> None:
    assert DeployFlowSpec.model_validate(spec("updateStrategy.batchSize", size)).strategy.batch_size == size


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "updateStrategy.canary",
            -1,
            "spec.updateStrategy.canary: must be at least 0",
        ),
        ("application.replicas", -1, "spec.application.replicas: "),
        ("action", "explode", "spec.action: must be create, update, "),
        ("updateStrategy.mode", "fast", "spec.updateStrategy.mode: must be auto or manual"),
        ("updateStrategy.batchsize", 1, "spec.updateStrategy.batchsize: unknown field"),
        ("application.instanceName", None, "spec.application.instanceName: is missing"),
        (
            "application.instanceName",
            "Web_1",
            "spec.application.instanceName: must be a name of lower-case letters",
        ),
        (
            "application.instanceName",
            "a" * 53,
            "spec.application.instanceName: 53 characters are too long, 52",
        ),
        (
            "application.instanceName",
            "a" * 58,
            "spec.application.instanceName: 58 characters are too long, 52",
        ),
        ("application.template", None, "application.template: action update needs a pod template"),
        ("application.template", {"spec": {}}, "application.template: action update needs a pod template"),
        ("nonUpdateStrategy", {}, "nonUpdateStrategy: action update takes updateStrategy"),
        ("action", "restart", "updateStrategy: action restart takes nonUpdateStrategy"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(path: str, value: Any, said: str) -> None:
    assert said in complaint(spec(path, value))


UNSET = [
    *((str(info.alias), None) for info in STRATEGY_FIELDS.values()),
    *(("batchSize", ""), ("batchSize", 0), ("batchSize", 0.0), ("batches", 0), ("mode", ""), ("stage", "")),
]


@pytest.mark.parametrize(("field", "value"), UNSET)
def test_null_and_what_the_original_wrote_for_unset_is_unset(field: str, value: Any) -> None:
    """By every parser: of what the cluster has, of commands from Kafka, and of REST, which is strict."""
    of_updates = any(field == info.alias for info in UpdateStrategy.model_fields.values())
    model: type[UpdateStrategy | NonUpdateStrategy] = UpdateStrategy if of_updates else NonUpdateStrategy
    fields = {field: value, "paused": True} if field != "paused" else {field: value}
    for made in (
        model.model_validate(fields),
        model.model_validate_json(json.dumps(fields)),
        model.model_validate_json(json.dumps(fields), strict=True),
    ):
        assert made == model.model_validate({name: item for name, item in fields.items() if name != field})
        assert field not in made.model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize(
    ("field", "value"), [("batchSize", False), ("batches", -1), ("batches", ""), ("startupTimeoutSeconds", 0)]
)
def test_another_empty_value_is_refused(field: str, value: Any) -> None:
    assert complaint(spec(f"updateStrategy.{field}", value)).startswith(f"spec.updateStrategy.{field}: ")


def test_the_approval_is_one_batch_where_a_stage_is_set_and_no_batches() -> None:
    strategy = DeployFlowSpec.model_validate(
        spec("updateStrategy", {"stage": "Smoked", "batches": 0})
    ).strategy
    assert isinstance(strategy, UpdateStrategy)
    assert (strategy.batches, strategy.stage) == (1, "Smoked")


def test_a_status_of_triton_0_1_x_is_read() -> None:
    """Null for what is empty or not known yet, and Kubernetes' own phases of pods."""
    pod = {"name": "web-1", "ip": "", "port": 0, "phase": "Unknown", "pullInStatus": ""}
    condition = {"batch": 1, "batchSize": 1, "canary": False, "phase": "Pending", "startedAt": None}
    said = DeployFlowStatus.model_validate(
        {"conditions": [condition | {"pods": [pod]}, condition | {"pods": None}], "pods": None}
    )
    assert [one.phase for one in said.conditions[0].pods] == ["Pending"]
    assert (said.conditions[1].pods, said.pods, said.version) == ([], [], 0)
    assert DeployFlowStatus.model_validate({"conditions": None}).conditions == []


def test_a_restart_with_both_strategies_is_refused() -> None:
    both = spec("action", "restart") | {"nonUpdateStrategy": {"batchSize": 1}}
    assert "updateStrategy: action restart takes nonUpdateStrategy" in complaint(both)


def test_all_that_is_wrong_is_said_at_once() -> None:
    body = spec("updateStrategy.batchSize", -1)
    body["action"] = "explode"
    del body["application"]["appID"]
    text = complaint(body)
    for field in ("spec.action", "spec.application.appID", "spec.updateStrategy.batchSize"):
        assert field in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"type": "next", "namespace": "shop", "instanceName": "web"}', "id: is missing"),
        ('{"id": "1", "type": "next", "namespace": "shop"}', "deployFlow: a next names its deployFlow"),
        ('{"id": "1", "type": "deploy", "namespace": "shop"}', "spec: a deploy needs"),
        (
            '{"id": "1", "type": "continue", "namespace": "shop", "deployFlow": "f"}',
            "target: continue needs a target",
        ),
        (
            '{"id": "1", "type": "explode", "namespace": "shop", "deployFlow": "f"}',
            "type: must be deploy",
        ),
        (
            '{"id": "1", "type": "continue", "namespace": "shop", "deployFlow": "f", "target": {"stage": "Smoking"}}',
            "target.stage: Smoking is no stage to continue to",
        ),
        (
            '{"id": "1", "type": "deploy", "namespace": "shop", "spec": {"action": "update"}}',
            "spec.application: ",
        ),
        ("{not json", "Invalid JSON"),
    ],
)
def test_a_command_that_can_not_be_meant_is_refused_by_its_field(body: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DeployCommand.model_validate_json(body)
    assert said in problems(caught.value)


@pytest.mark.parametrize(
    ("size", "replicas", "count"),
    [(2, 10, 2), ("20%", 10, 2), ("1%", 10, 1), ("33%", 10, 4), ("100%", 7, 7), (None, 7, 7), (None, 0, 1)],
)
def test_percentages_round_up_and_nothing_means_all(size: Any, replicas: int, count: int) -> None:
    assert count_of(size, replicas) == count


def test_a_name_that_was_accepted_before_is_read_where_the_cluster_has_it() -> None:
    for length in (52, 53, 57):
        stored = spec("application.instanceName", "a" * length)
        assert DeployFlowSpec.model_validate(stored, context=STORED).application.instance_name == "a" * length
    with pytest.raises(ValidationError):
        DeployFlowSpec.model_validate(spec("application.instanceName", "a" * 58), context=STORED)


def test_a_release_with_such_a_name_is_steered_as_any_other() -> None:
    flow = {
        "metadata": {"name": "old", "resourceVersion": "1"},
        "spec": spec("application.instanceName", "a" * 57),
        "status": {"phase": "BatchStarted"},
    }
    command = DeployCommand(id="1", type="cancel", namespace="shop", deploy_flow="old")
    assert change(flow, command) == {"canceled": True}
    assert patch(flow, {"canceled": True}, request_id="1", requested_by="me")["spec"]


def test_a_deploy_command_with_such_a_name_is_refused() -> None:
    body = {
        "id": "1",
        "type": "deploy",
        "namespace": "shop",
        "spec": spec("application.instanceName", "a" * 53),
    }
    with pytest.raises(ValidationError) as caught:
        DeployCommand.model_validate(body)
    assert problems(caught.value).startswith("spec.application.instanceName: 53 characters are too long")
