"""`triton plan` shows every batch before anything starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.planning import plan_lines, planned
from services.planner.views.plan_preview import assume, make
from shared.domain.deployflow import MANAGED_BY, DeployFlowSpec
from shared.domain.json_types import Json

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_tutorials_plan_has_a_canary_that_waits_twice(triton: Callable[..., Any]) -> None:
    result = triton("plan", "-f", str(EXAMPLES / "nginx-deployflow.yaml"))
    assert result.code == 0
    assert "create of 12122-sample-10010 to 3 replicas: 3 pods in 3 batches, mode auto" in result.out
    assert (
        "1 (canary)   1          0                  next to send it traffic, next to accept it" in result.out
    )
    assert "assuming that there is no CloneSet" in result.err


def test_the_plan_for_programs(triton: Callable[..., Any]) -> None:
    made = json.loads(triton("plan", "-f", str(EXAMPLES / "web-update.yaml"), "-o", "json").out)
    assert [batch["surge"] for batch in made["batches"]] == [2, 2, 2, 2, 2]
    assert made["current"] == {"exists": False, "replicas": 0, "updated": 0, "stopped": 0}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_can_be_planned(example: Path, triton: Callable[..., Any]) -> None:
    assert triton("plan", "-f", str(example)).code == 0


def test_the_plan_shows_which_named_pods_go_with_which_batch(triton: Callable[..., Any]) -> None:
    said = triton("plan", "-f", str(EXAMPLES / "web-scale-in.yaml")).out.splitlines()
    assert said[0] == "scale_in of 20001-web-10010 to 8 replicas: 2 pods in 2 batches, mode auto"
    assert said[3:] == [
        "BATCH   DELETED PODS   WAITS FOR   NAMED",
        "1       1              -           20001-web-10010-zh98f",
        "2       1              -           20001-web-10010-k2x4d",
    ]
    restart = json.loads(triton("plan", "-f", str(EXAMPLES / "web-restart-named.yaml"), "-o", "json").out)
    assert [batch["pods"] for batch in restart["batches"]] == [
        ["20001-web-10010-zh98f"], ["20001-web-10010-k2x4d"]
    ]  # fmt: skip


def test_blue_green_waits_before_its_traffic_and_before_the_old_pods_go(triton: Callable[..., Any]) -> None:
    (batch,) = json.loads(triton("plan", "-f", str(EXAMPLES / "web-blue-green.yaml"), "-o", "json").out)[
        "batches"
    ]
    assert (batch["surge"], batch["gates"]) == (10, ["Smoked", "Baking"])


IDENTITY = {"appID": 7, "groupID": 8, "appName": "web", "instanceName": "7-web"}


def _action(action: str, replicas: int, **strategy: Any) -> DeployFlowSpec:
    return DeployFlowSpec.model_validate(
        {
            "action": action,
            "application": {**IDENTITY, "replicas": replicas},
            "nonUpdateStrategy": {"mode": "auto", **strategy},
        }
    )


def _pods(*names: str, sick: str = "") -> list[Json]:
    return [
        {
            "metadata": {"name": name, "creationTimestamp": f"2026-01-01T10:00:{number:02}Z"},
            "status": {"conditions": [{"type": "Ready", "status": str(name != sick)}]},
        }
        for number, name in enumerate(names)
    ]


def _plan(spec: DeployFlowSpec, replicas: int = 4, *pods: Json, **annotations: str) -> list[str]:
    marks = {f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    cloneset = {"metadata": {"labels": MANAGED_BY, "annotations": marks}, "spec": {"replicas": replicas}}
    assumption = assume(spec, cloneset, pods)
    return plan_lines(spec, planned(spec, assumption))


def test_of_the_named_pods_those_that_do_not_serve_go_first_and_then_the_oldest() -> None:
    pods = _pods("a", "b", "c", "d", sick="c")
    lines = _plan(_action("restart", 4, podsToDelete=["d", "a", "c"], batchSize=2), 4, *pods)
    assert lines[0] == "restart of 7-web, 4 replicas: 3 pods in 2 batches, mode auto"
    assert [line.split()[-2:] for line in lines[-2:]] == [["c,", "a"], ["-", "d"]]


@pytest.mark.parametrize(
    ("spec", "heading", "batches"),
    [
        (
            _action("restart", 4, batchSize=3),
            ["BATCH", "NEW PODS", "DELETED PODS", "WAITS FOR"],
            ["1 3 3 -", "2 1 1 -"],
        ),
        (
            _action("scale_out", 7, batchSize=2, batchIntervalSeconds=9),
            ["BATCH", "NEW PODS", "WAITS FOR"],
            ["1 2 -", "2 1 9 s"],
        ),
        (
            _action("scale_in", 1, batchSize=2, mode="manual"),
            ["BATCH", "DELETED PODS", "WAITS FOR"],
            ["1 2 -", "2 1 next to start it"],
        ),
        (_action("stop", 4), ["BATCH", "DELETED PODS", "WAITS FOR"], ["1 4 -"]),
        (_action("delete", 4), ["BATCH", "DELETED PODS", "WAITS FOR"], ["1 4 -"]),
    ],
    ids=lambda value: str(value.action) if isinstance(value, DeployFlowSpec) else "",
)
def test_each_action_shows_what_comes_and_what_goes(
    spec: DeployFlowSpec, heading: list[str], batches: list[str]
) -> None:
    lines = _plan(spec)
    assert re.split(r"\s{3,}", lines[3]) == heading
    assert [" ".join(line.split()) for line in lines[4 : 4 + len(batches)]] == batches


def test_a_delete_says_that_the_cloneset_goes_and_a_stop_what_comes_back() -> None:
    assert _plan(_action("delete", 4))[-1] == "then the CloneSet 7-web is removed"
    assert _plan(_action("delete", 4), 0)[-2:] == [
        "starts from: CloneSet 7-web: 0 replicas",
        "then the CloneSet 7-web is removed",
    ]
    assert _plan(_action("stop", 4))[-1] == "`triton start` brings 4 back"


def test_a_start_goes_back_to_what_was_stopped() -> None:
    lines = _plan(_action("start", 1), 0, stopped_replicas="6")
    assert lines[0] == "start of 7-web to 6 replicas: 6 pods in 1 batch, mode auto"
    assert lines[1] == "starts from: CloneSet 7-web: 0 replicas, 6 before it was stopped"


def test_a_pod_that_is_not_there_is_warned_of() -> None:
    lines = _plan(_action("scale_in", 3, podsToDelete=["z"]), 4, *_pods("a", "b", "c", "d"))
    assert lines[-1].startswith("warning: podsToDelete: 7-web has no pod z: the release would fail")


def test_what_is_impossible_is_reported_and_all_else_is_planned(
    tmp_path: Path, triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"metadata": {"labels": MANAGED_BY}, "spec": {"replicas": 4}}
    monkeypatch.setattr(
        "cli.release_commands._plans",
        lambda flows, *_: [planned(spec, assume(spec, there)) for _, spec in flows],
    )
    flows = [_flow("scale_in", 6), _flow("scale_out", 5)]
    file = tmp_path / "two.yaml"
    file.write_text("\n---\n".join(json.dumps(flow) for flow in flows))
    result = triton("plan", "-f", str(file))
    assert result.code == 2
    assert result.err == (
        f"error: {file}, document 1 (DeployFlow scale-in): scale_in to 6, but there are 4: use scale_out\n"
    )
    assert result.out.startswith("scale_out of 7-web to 5 replicas: 1 pod in 1 batch")
    result = triton("plan", "-f", str(file), "-o", "json")
    refused, other = json.loads(result.out)
    assert (result.code, other["toProcess"]) == (2, 1)
    assert refused == {
        "instance": "7-web",
        "action": "scale_in",
        "refused": "scale_in to 6, but there are 4: use scale_out",
    }


def _flow(action: str, replicas: int) -> Json:
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": action.replace("_", "-")},
        "spec": _action(action, replicas).model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def test_an_action_on_what_does_not_exist_is_refused_where_the_cluster_says_so(spec: Json) -> None:
    for wanted in (_action("restart", 4), DeployFlowSpec.model_validate(spec)):
        with pytest.raises(ValueError, match="CloneSet 7-web does not exist: create the instance first"):
            make(wanted, assume(wanted, None))


def test_without_a_cluster_a_scale_in_by_count_can_not_be_planned(
    tmp_path: Path, triton: Callable[..., Any]
) -> None:
    file = tmp_path / "scale.yaml"
    file.write_text(json.dumps(_flow("scale_in", 3)))
    result = triton("plan", "-f", str(file))
    assert result.code == 2
    assert "the number of pods to delete is not known without the cluster" in result.err


def _cloneset(template: Json) -> Json:
    return {
        "metadata": {"labels": MANAGED_BY},
        "spec": {"replicas": 4, "template": template},
        "status": {"updatedReplicas": 4},
    }


def test_an_update_replaces_as_many_old_pods_as_it_makes(spec: Json) -> None:
    template = {"spec": {"containers": [{"name": "web", "image": "web:0"}]}}
    wanted = DeployFlowSpec.model_validate(spec)
    assumption = assume(wanted, _cloneset(template))
    lines = plan_lines(wanted, planned(wanted, assumption))
    assert lines[1] == "starts from: CloneSet 7-web: 4 replicas, 0 already on the target"
    assert [line.split()[:3] for line in lines[-2:]] == [["2", "2", "2"], ["3", "1", "1"]]


def test_an_update_to_what_runs_already_has_nothing_to_do(spec: Json) -> None:
    template = spec["application"]["template"] | {"metadata": {"labels": {"added": "by-triton"}}}
    wanted = DeployFlowSpec.model_validate(spec)
    assumption = assume(wanted, _cloneset(template))
    assert plan_lines(wanted, planned(wanted, assumption))[-1] == "nothing to do"


def test_a_file_without_a_deployflow_has_nothing_to_plan(tmp_path: Path, triton: Callable[..., Any]) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n")
    result = triton("plan", "-f", str(file))
    assert (result.code, result.err) == (2, f"error: {file}: there is no DeployFlow to plan\n")


def test_the_plan_of_a_create_says_that_its_instance_exists() -> None:
    template = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    body = {"action": "create", "application": {**IDENTITY, "replicas": 4, "template": template}}
    spec = DeployFlowSpec.model_validate(body)

    def warnings(image: str) -> str:
        there = {"spec": {"containers": [{"name": "web", "image": image}]}}
        return str(planned(spec, assume(spec, _cloneset(there)))["warnings"])

    assert "the create fails with AlreadyExists" in warnings("web:1")
    assert warnings("web:2") == "[]"


def test_a_cloneset_that_triton_did_not_make_has_no_plan() -> None:
    spec = DeployFlowSpec.model_validate(
        {"action": "stop", "application": {**IDENTITY, "replicas": 0}, "nonUpdateStrategy": {}}
    )
    metadata = {"name": "7-web", "namespace": "shop", "labels": {"app": "web"}}
    foreign = {"metadata": metadata, "spec": {"replicas": 4}}
    assert "CloneSet shop/7-web was not made by Triton" in planned(spec, assume(spec, foreign))["refused"]
    adopted = {**foreign, "metadata": {**metadata, "annotations": {"apps.triton.io/adopt": "true"}}}
    assert planned(spec, assume(spec, adopted))["toProcess"] == 4
