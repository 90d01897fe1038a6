"""How many pods an instance is meant to have, whatever is going on with it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.deploy_commands import Refusal
from shared.domain.json_types import Json
from shared.releases.history import identity, replicas_now, rollback

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
