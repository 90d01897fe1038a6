"""How many pods an instance is meant to have, whatever is going on with it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.deploy_commands import Refusal
from shared.domain.deployflow import Action
from shared.domain.json_types import Json
from shared.releases import specs
from shared.releases.history import identity, replicas_now, rollback
from shared.releases.specs import Known, Wish

APPLICATION = {"appID": 7, "groupID": 8, "appName": "web", "instanceName": "web", "replicas": 6}
HOLD = '{"flow": "f", "batch": 1, "surge": 2, "updated": 3, "others": 1}'


def flow(action: str, **status: Any) -> Json:
    meta = {"name": action, "creationTimestamp": "2026-01-01T10:00:00Z"}
    return {"metadata": meta, "spec": {"action": action, "application": APPLICATION}, "status": status}


def cloneset(replicas: int, **annotations: str) -> Json:
    marks = {f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return {"metadata": {"annotations": marks}, "spec": {"replicas": replicas}}


@pytest.mark.parametrize(
    ("action", "live", "count"),
    [
        ("create", cloneset(8), 6),
        ("update", cloneset(8), 6),
        ("rollback", cloneset(8), 6),
        ("scale_out", cloneset(2), 6),
        ("scale_in", cloneset(8), 6),
        ("stop", cloneset(3), 0),
        ("delete", cloneset(3), 0),
        ("restart", cloneset(6, hold=HOLD), 4),
        ("restart", cloneset(4), 4),
        ("start", cloneset(2, stopped_replicas="5"), 5),
        ("create", None, 6),
        ("restart", None, None),
    ],
)
def test_while_a_release_runs_it_is_the_count_that_this_leads_to(
    action: str, live: Json | None, count: int | None
) -> None:
    assert replicas_now([flow(action, startedAt="x")], live) == count


@pytest.mark.parametrize(("live", "count"), [(cloneset(14), 14), (cloneset(6, hold=HOLD), 4), (None, 6)])
def test_a_running_release_that_keeps_the_count_is_counted_by_the_cloneset(
    live: Json | None, count: int
) -> None:
    running = flow("rollback", startedAt="x")
    running["metadata"]["annotations"] = {"apps.triton.io/keeps-replicas": "true"}
    assert replicas_now([running], live) == count


@pytest.mark.parametrize("status", [{}, {"startedAt": "x", "finished": True}])
def test_else_it_is_that_of_the_cloneset(status: Json) -> None:
    assert replicas_now([flow("update", **status)], cloneset(3)) == 3


def test_an_instance_is_known_by_its_newest_release() -> None:
    newer = flow("update")
    newer["spec"] = {**newer["spec"], "application": {**APPLICATION, "groupID": 9}}
    newer["metadata"] = {**newer["metadata"], "creationTimestamp": "2026-01-02T10:00:00Z"}
    assert identity([newer, flow("create")], "web") == {
        "appID": 7, "groupID": 9, "appName": "web", "instanceName": "web"
    }  # fmt: skip
    with pytest.raises(Refusal, match="web has no release"):
        identity([], "web")


def test_the_way_back_keeps_what_the_strategy_says_of_the_application() -> None:
    base = flow("update")
    template = {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    base["spec"] |= {
        "application": {**APPLICATION, "template": template},
        "updateStrategy": {"startupTimeoutSeconds": 900, "noPullIn": True, "canary": 2, "mode": "manual"},
    }
    made = rollback(base, 3).model_dump(mode="json", exclude_unset=True)
    assert made["updateStrategy"] == {"mode": "auto", "startupTimeoutSeconds": 900, "noPullIn": True}


TEMPLATE = {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}


def created(phase: str, *, finished: bool = True) -> Json:
    made = flow("create", phase=phase, finished=finished, startedAt="x")
    made["spec"] |= {
        "application": {**APPLICATION, "template": TEMPLATE},
        "updateStrategy": {"canary": 1, "stage": "Baking"},
    }
    return made


def test_what_would_make_pods_of_a_template_that_was_never_good_is_refused() -> None:
    known = Known("web", [created("Canceled")], cloneset(0, first_release="canceled", stopped_replicas="2"))
    for action in (Action.SCALE_OUT, Action.START, Action.RESTART):
        with pytest.raises(Refusal, match="Make an update") as refusal:
            specs.keeping(known, action, {}, 5)
        assert refusal.value.reason == "NoGoodTemplate"
    assert specs.stop(known, {}).application.replicas == 0
    assert specs.delete(known, {}).action == "delete"


def test_a_cloneset_without_the_mark_is_good() -> None:
    for marks in ({}, {"first_release": "some-uid"}):
        grown = specs.scale(Known("web", [created("Success")], cloneset(2, **marks)), 5, {})
        assert grown is not None
        assert grown.application.replicas == 5


def test_an_update_after_a_canceled_create_starts_from_it() -> None:
    known = Known("web", [created("Canceled")], cloneset(0, first_release="canceled"))
    spec = specs.update(known, Wish("web:2"))
    assert (spec.action, spec.application.replicas) == ("update", 6)
    assert spec.application.template == {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    assert spec.strategy.model_dump(exclude_unset=True) == {"canary": 1}


def test_an_update_while_the_first_create_runs_is_refused() -> None:
    known = Known("web", [created("BatchStarted", finished=False)], cloneset(1))
    with pytest.raises(Refusal, match="its first one is not finished"):
        specs.update(known, Wish("web:2"))
