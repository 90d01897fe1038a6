"""What a request takes over from the releases of its instance while one of them runs."""

from __future__ import annotations

import copy

import pytest

from shared.domain.deployflow import UpdateStrategy
from shared.domain.json_types import Json
from shared.releases.specs import Known, Wish, inherit, restart, scale, update

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


def test_an_update_of_the_image_that_the_running_one_changes_too_depends_on_nothing() -> None:
    spec = update(known(release(1), release(2, "BatchStarted")), WISH)
    containers = spec.model_dump()["application"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["web:9", "proxy:1"]
    assert spec.inherits is None


def test_an_update_that_depends_on_the_end_of_the_running_one_inherits_when_it_begins() -> None:
    spec = update(known(release(1), with_env(release(2, "BatchStarted", bakeSeconds=60))), WISH)
    assert spec.inherits is not None
    assert spec.inherits.images == {"web": "web:9"}
    assert spec.strategy.bake_seconds == 60
    containers = spec.model_dump()["application"]["template"]["spec"]["containers"]
    assert (containers[0]["image"], containers[0]["env"]) == ("web:9", [{"name": "A", "value": "1"}])
    assert update(known(release(1), release(2, "BatchFinished")), Wish("proxy:2", "proxy")).inherits


def test_the_strategy_does_not_depend_on_the_end_of_the_running_one() -> None:
    spec = update(known(release(1), release(2, "BatchFinished", bakeSeconds=60)), WISH)
    assert (spec.strategy.bake_seconds, spec.inherits) == (60, None)


def test_it_takes_over_all_but_its_images_and_its_strategy_from_the_last_successful_one_once() -> None:
    waiting = release(3, "Pending", batchSize=1, bakeSeconds=5, canary=1)
    waiting["spec"]["inherits"] = {"images": {"web": "web:9"}}
    earlier = [release(1, bakeSeconds=60, batches=3), with_env(release(2, "Canceled"))]
    spec = inherit(waiting, earlier, CLONESET)
    assert spec.inherits is None
    assert spec.update_strategy == UpdateStrategy(batch_size=1, bake_seconds=5, canary=1)
    containers = spec.model_dump()["application"]["template"]["spec"]["containers"]
    assert containers == [{"name": "web", "image": "web:9"}, {"name": "proxy", "image": "proxy:1"}]


def test_where_nothing_is_left_to_inherit_it_has_what_was_last_known() -> None:
    waiting = with_env(release(3, "Pending"))
    waiting["spec"]["inherits"] = {"images": {"web": "web:9"}}
    spec = inherit(waiting, [], None)
    assert spec.inherits is None
    assert spec.application.template == waiting["spec"]["application"]["template"]


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
