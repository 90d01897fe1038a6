"""What a request takes over from the releases of its instance while one of them runs."""

from __future__ import annotations

import copy

import pytest

from shared.domain.deploy_commands import Refusal
from shared.domain.json_types import Json
from shared.releases.specs import Known, Wish, restart, scale, update

CLONESET: Json = {"metadata": {"name": "web"}, "spec": {"replicas": 3}}


def release(
    number: int, phase: str = "Success", *, action: str = "update", paused: bool = False, **strategy: object
) -> Json:
    containers = [{"name": "web", "image": f"web:{number}"}, {"name": "proxy", "image": "proxy:1"}]
    finished = phase in {"Success", "Canceled"}
    return {
        "metadata": {"name": f"r{number}", "creationTimestamp": f"2026-01-01T00:00:{number:02}Z"},
        "spec": {
            "action": action,
            "application": {
                "appID": 1,
                "groupID": 1,
                "appName": "web",
                "instanceName": "web",
                "replicas": 3,
                "template": {"spec": {"containers": containers}},
            },
            "updateStrategy": strategy,
        },
        "status": {"phase": phase, "finished": finished, "paused": paused}
        | ({} if phase == "Pending" else {"startedAt": "2026-01-01T00:00:00Z"}),
    }


def with_env(flow: Json) -> Json:
    made = copy.deepcopy(flow)
    made["spec"]["application"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    return made


def known(*releases: Json) -> Known:
    return Known("web", releases, CLONESET)


WISH = Wish("web:9", "web")


def test_an_update_of_the_image_that_the_running_one_changes_too_has_the_strategy_of_that() -> None:
    spec = update(known(release(1), release(2, "BatchStarted", bakeSeconds=60)), WISH)
    containers = spec.model_dump()["application"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["web:9", "proxy:1"]
    assert spec.strategy.bake_seconds == 60


def test_an_update_does_not_undo_what_the_running_one_changes_beside_the_image() -> None:
    with pytest.raises(
        Refusal, match="r2 is releasing web and changes more of it than this image"
    ) as refused:
        update(known(release(1), with_env(release(2, "BatchStarted"))), WISH)
    assert refused.value.reason == "InProgress"
    with pytest.raises(Refusal):
        update(known(release(1), release(2, "BatchFinished")), Wish("proxy:2", "proxy"))


@pytest.mark.parametrize(
    "running",
    [
        release(2, "BatchStarted", paused=True),
        release(2, "Pending"),
        release(2, "Canceled"),
    ],
    ids=["paused: it ends", "waiting: it is replaced", "canceled"],
)
def test_one_that_does_not_go_on_has_no_say(running: Json) -> None:
    spec = update(known(release(1), with_env(running)), WISH)
    assert "env" not in spec.model_dump()["application"]["template"]["spec"]["containers"][0]


def test_the_other_actions_are_as_patient_as_the_running_update() -> None:
    slow = release(2, "BatchStarted", startupTimeoutSeconds=1800)
    strategy = restart(
        known(release(1, startupTimeoutSeconds=60, pullInTimeoutSeconds=30), slow), {}
    ).strategy
    assert (strategy.startup_timeout_seconds, strategy.pull_in_timeout_seconds) == (1800, 60)
    strategy = restart(known(release(1, startupTimeoutSeconds=60)), {}).strategy
    assert strategy.startup_timeout_seconds == 60


def test_a_scale_to_the_present_count_is_one_where_another_waits() -> None:
    assert scale(known(release(1)), 3, {}) is None
    assert scale(known(release(1), release(2, "BatchStarted")), 3, {}) is None
    waiting = release(3, "Pending", action="scale_out")
    del waiting["spec"]["application"]["template"], waiting["spec"]["updateStrategy"]
    made = scale(known(release(1), release(2, "BatchStarted"), waiting), 3, {})
    assert made is not None
    assert made.application.replicas == 3
