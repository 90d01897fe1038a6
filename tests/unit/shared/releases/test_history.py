"""Where a rollback goes back to, and how many pods the instance has then."""

from __future__ import annotations

import pytest

from shared.domain.deploy_commands import Refusal
from shared.domain.json_types import Json
from shared.releases.history import last_good, replicas_now, rollback, rollback_to


def release(
    number: int, image: str, phase: str = "Success", action: str = "update", replicas: int = 3
) -> Json:
    application: Json = {
        "appID": 1,
        "groupID": 1,
        "appName": "web",
        "instanceName": "web",
        "replicas": replicas,
        "template": {"spec": {"containers": [{"name": "web", "image": image}]}},
    }
    strategy: Json = {"updateStrategy": {"batchSize": 1, "batches": 3, "stage": "Baked"}}
    if action not in {"create", "update", "rollback"}:
        application.pop("template")
        strategy = {}
    finished = phase in {"Success", "Failed", "Canceled", "Aborted"}
    return {
        "metadata": {"name": f"r{number}", "creationTimestamp": f"2026-01-01T00:00:{number:02}Z"},
        "spec": {"action": action, "application": application, **strategy},
        "status": {"phase": phase, "finished": finished, "startedAt": "2026-01-01T00:00:00Z"},
    }


FIRST = release(1, "web:1", action="create")


@pytest.mark.parametrize(
    ("releases", "goes_to"),
    [
        ([FIRST, release(2, "web:2")], "r1"),
        ([FIRST, release(2, "web:2", "BatchStarted")], "r1"),
        ([FIRST, release(2, "web:2", "Failed"), release(3, "web:3", "Canceled")], "r1"),
        ([FIRST, release(2, "web:2"), release(3, "web:3", "BatchStarted")], "r2"),
        # done once more after it is over, it is the way forth again
        ([FIRST, release(2, "web:2"), release(3, "web:1", action="rollback")], "r2"),
        ([FIRST, release(2, "web:2"), release(3, "", action="scale_out", replicas=9)], "r1"),
        ([FIRST, release(2, "web:2"), release(3, "web:2")], "r1"),
    ],
    ids=[
        "over",
        "under way",
        "failed twice",
        "third under way",
        "after a rollback",
        "after a scale",
        "twice the same",
    ],
)
def test_a_rollback_goes_to_the_last_good_release_with_another_template(
    releases: list[Json], goes_to: str
) -> None:
    assert rollback_to(list(reversed(releases)), "web")["metadata"]["name"] == goes_to


def test_of_two_made_in_the_same_second_the_one_that_began_first_is_older() -> None:
    first, second = release(2, "web:1", action="create"), release(1, "web:2")
    for flow, began in ((first, "00.100Z"), (second, "00.900Z")):
        flow["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        flow["status"]["startedAt"] = f"2026-01-01T00:00:{began}"
    assert rollback_to([second, first], "web") is first


def test_a_rollback_goes_to_the_release_that_is_named() -> None:
    releases = [FIRST, release(2, "web:2"), release(3, "web:3")]
    assert rollback_to(releases, "web", "r1") is releases[0]


@pytest.mark.parametrize(
    ("releases", "name", "reason"),
    [
        ([], None, "NoRelease"),
        ([FIRST], None, "NoRelease"),
        ([FIRST, release(2, "web:2"), release(3, "web:1", "BatchStarted", "rollback")], None, "RollingBack"),
        ([FIRST], "r9", "NotFound"),
        ([FIRST, release(2, "", action="stop")], "r2", "NoTemplate"),
    ],
)
def test_a_rollback_to_nowhere_is_refused(releases: list[Json], name: str | None, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        rollback_to(releases, "web", name)
    assert refused.value.reason == reason


def test_the_last_good_release_is_the_newest_success_with_a_template() -> None:
    assert last_good([FIRST, release(2, "web:2", "Failed"), release(3, "", action="stop")], "web") is FIRST
    with pytest.raises(Refusal):
        last_good([release(1, "web:1", "BatchStarted", "create")], "web")


def test_the_count_is_the_cloneset_s_or_that_of_the_release_that_changes_it() -> None:
    cloneset = {"spec": {"replicas": 8}}
    assert replicas_now([FIRST], cloneset) == 8
    assert replicas_now([FIRST, release(2, "web:2", "BatchStarted", replicas=5)], cloneset) == 5
    assert replicas_now([FIRST], None) is None


def test_the_way_back_has_the_old_template_the_present_count_and_no_gates() -> None:
    spec = rollback(FIRST, 8)
    assert (spec.action, spec.application.replicas) == ("rollback", 8)
    assert spec.application.template == FIRST["spec"]["application"]["template"]
    assert spec.strategy.mode == "auto"
    assert (spec.strategy.batches, spec.strategy.batch_size) == (1, None)
