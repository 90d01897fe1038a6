"""Where a rollback goes back to, and how many pods the instance has then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.domain.deploy_commands import Refusal
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.releases.history import last_good, replicas_now, rollback, rollback_to, update_base
from shared.releases.specs import Known, Wish, delete, restart, start, stop, update


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


CLONESET: Json = {
    "metadata": {
        "name": "web",
        "labels": {"app": "7", "group": "8", "app.kubernetes.io/name": "shop", "managed-by": "triton-io"},
    },
    "spec": {
        "replicas": 5,
        "template": {
            "metadata": {
                "creationTimestamp": None,
                "labels": {"app": "7", "tier": "front", "app.kubernetes.io/instance": "web"},
                "annotations": {"a": "b"},
            },
            "spec": {
                "containers": [{"name": "web", "image": "web:3"}],
                "readinessGates": [{"conditionType": "theirs"}, {"conditionType": "apps.triton.io/ready"}],
            },
        },
    },
}


def test_an_update_of_an_instance_without_releases_starts_from_its_cloneset() -> None:
    spec = update(Known("web", [], CLONESET), Wish("web:4"))
    assert spec.model_dump(mode="json", exclude_unset=True, exclude_none=True) == {
        "action": "update",
        "application": {
            "appID": 7,
            "groupID": 8,
            "appName": "shop",
            "instanceName": "web",
            "replicas": 5,
            "template": {
                "metadata": {"labels": {"tier": "front"}, "annotations": {"a": "b"}},
                "spec": {
                    "containers": [{"name": "web", "image": "web:4"}],
                    "readinessGates": [{"conditionType": "theirs"}],
                },
            },
        },
        "updateStrategy": {},
    }
    # releases without a template say nothing about it
    scaled = release(1, "", action="scale_out")
    assert update(Known("web", [scaled], CLONESET), Wish("web:4")).application.replicas == 5


@pytest.mark.parametrize("build", [restart, stop, start, delete], ids=lambda build: build.__name__)
def test_the_other_actions_know_the_application_by_its_cloneset_too(
    build: Callable[[Known, Json], DeployFlowSpec],
) -> None:
    application = build(Known("web", [], CLONESET), {}).application
    assert (application.app_id, application.group_id, application.app_name) == (7, 8, "shop")


def test_a_cloneset_without_the_labels_is_no_base() -> None:
    bare = {**CLONESET, "metadata": {"name": "web", "labels": {"app": "shop", "managed-by": "triton-io"}}}
    with pytest.raises(Refusal, match="its CloneSet lacks Triton's labels"):
        update(Known("web", [], bare), Wish("web:4"))
    with pytest.raises(Refusal, match="its CloneSet lacks Triton's labels"):
        restart(Known("web", [], bare), {})


def test_a_cloneset_that_triton_did_not_make_is_no_base_before_it_is_adopted() -> None:
    labels = {name: value for name, value in CLONESET["metadata"]["labels"].items() if name != "managed-by"}
    metadata = {"name": "web", "namespace": "shop", "labels": labels}
    with pytest.raises(Refusal, match="CloneSet shop/web was not made by Triton") as refused:
        restart(Known("web", [], {**CLONESET, "metadata": metadata}), {})
    assert refused.value.reason == "NotOurs"
    adopted = {**metadata, "annotations": {"apps.triton.io/adopt": "true"}}
    assert restart(Known("web", [], {**CLONESET, "metadata": adopted}), {}).application.app_id == 7


def test_a_label_that_services_of_the_owner_may_select_stays() -> None:
    template = {**CLONESET["spec"]["template"], "metadata": {"labels": {"app": "web", "group": "8"}}}
    cloneset = {**CLONESET, "spec": {**CLONESET["spec"], "template": template}}
    made = update(Known("web", [], cloneset), Wish("web:4")).application.template
    assert made is not None
    assert made["metadata"]["labels"] == {"app": "web"}


def test_without_a_cloneset_it_is_to_be_created() -> None:
    with pytest.raises(Refusal, match="create it first"):
        update(Known("web", [], None), Wish("web:4"))


def test_what_failed_after_the_good_releases_were_deleted_is_no_base() -> None:
    failed = release(9, "web:9", "Canceled")
    assert update_base([failed], "web", CLONESET)["metadata"]["name"] == "web"
    # with the first release known, none was ever good
    first = release(1, "web:1", "Canceled", action="create")
    assert update_base([first, failed], "web", CLONESET) is failed
    never_good = {"annotations": {"apps.triton.io/first-release": "canceled"}, **CLONESET["metadata"]}
    assert update_base([failed], "web", {**CLONESET, "metadata": never_good}) is failed
