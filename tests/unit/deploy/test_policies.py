"""The policies of deploy/policies, as far as they can be held to the code without an API server."""

from __future__ import annotations

from typing import Final

from services.planner.api.command_calls import _APPROVING_FIELDS
from shared.domain import deployflow as df
from shared.kube.clonesets import ADOPTED_BY
from tests.unit.deploy.test_manifests import NAMESPACE, POLICIES, of, rendered

PLANNER: Final = f"system:serviceaccount:{NAMESPACE}:triton-planner"
POLICY, BINDING = POLICIES


def test_each_is_in_force_for_everybody_but_the_planner() -> None:
    shipped = rendered("deploy/policies")
    names = [item["metadata"]["name"] for item in of(shipped, POLICY)]
    assert names == ["triton-adopters", "triton-requesters", "triton-rights"]
    for item in of(shipped, POLICY):
        assert item["spec"]["failurePolicy"] == "Fail"
        (exempt,) = (
            condition["expression"]
            for condition in item["spec"]["matchConditions"]
            if condition["name"] == "not-the-planner"
        )
        assert exempt == f"request.userInfo.username != '{PLANNER}'"
        assert all(validation["reason"] == "Forbidden" for validation in item["spec"]["validations"])
    bound = {item["spec"]["policyName"]: item["spec"] for item in of(shipped, BINDING)}
    assert bound == {name: {"policyName": name, "validationActions": ["Deny"]} for name in names}


def test_the_fields_that_approve_are_those_of_rest() -> None:
    (policy,) = (
        item
        for item in of(rendered("deploy/policies"), POLICY)
        if item["metadata"]["name"] == "triton-rights"
    )
    (changes,) = (v["expression"] for v in policy["spec"]["variables"] if v["name"] == "approvalChanges")
    for strategy, model in (
        ("updateStrategy", df.UpdateStrategy),
        ("nonUpdateStrategy", df.NonUpdateStrategy),
    ):
        for field in model.model_fields.values():
            compared = f"object.spec.?{strategy}.?{field.alias} != oldObject.spec.?{strategy}.?{field.alias}"
            assert (compared in changes) == (field.alias in _APPROVING_FIELDS), field.alias


def test_the_annotations_of_names_are_those_of_the_code() -> None:
    texts = {item["metadata"]["name"]: str(item) for item in of(rendered("deploy/policies"), POLICY)}
    for annotation in (df.REQUESTED_BY, df.REQUESTED_BY_CLAIMED, df.LAST_REQUEST):
        assert f"[?'{annotation}']" in texts["triton-requesters"]
    assert f"[?'{ADOPTED_BY}']" in texts["triton-adopters"]


def test_the_samples_are_no_part_of_what_is_shipped() -> None:
    shipped = {(item["kind"], item["metadata"]["name"]) for item in rendered("deploy")}
    for item in rendered("deploy/policies/samples"):
        assert (item["kind"], item["metadata"]["name"]) not in shipped
