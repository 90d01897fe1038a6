"""The `.status` that the planner writes has the fields of the model, all of them and under the same names."""

from __future__ import annotations

from services.planner.views.status import status_of
from shared.domain.deployflow import Condition, DeployFlowStatus, PodStatus, Wire
from tests.unit.planner.releases import NEW, starting


def names(model: type[Wire]) -> set[str]:
    return {str(info.alias) for info in model.model_fields.values()}


def test_the_keys_of_the_status_are_those_of_the_model() -> None:
    world = starting(4)
    world.fail()
    status = status_of(world.instance, world.flow(NEW))
    # to where the end is reported is written once, by the intake, and the planner's merge patches leave it
    assert status.keys() == names(DeployFlowStatus) - {"replyTo", "replyId"}
    (condition,) = status["conditions"]
    assert condition.keys() == names(Condition)
    # details are there of pods that failed the batch
    assert max(condition["pods"], key=len).keys() == names(PodStatus)
    assert all(pod.keys() <= names(PodStatus) for pod in condition["pods"])
    DeployFlowStatus.model_validate(status)
