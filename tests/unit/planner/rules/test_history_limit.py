"""Which finished releases of an instance are deleted, and which never are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.planner.rules.history_limit import find_surplus
from shared.domain import deployflow as df
from shared.domain.deploy_commands import Refusal, deployflow_name
from shared.domain.json_types import Json
from shared.releases.history import identity, last_good, last_requested, rollback_to, update_base
from tests.unit.parts import application

MADE = {df.PRUNE: "true"}


def release(
    number: int,
    *,
    action: str = "update",
    template: int = 1,
    phase: str = "Success",
    annotations: Json | None = None,
    **status: Any,
) -> Json:
    """Return the release number so many; made by Triton, unless `annotations` say otherwise."""
    finished = phase in {"Success", "Failed", "Aborted", "Canceled"}
    app = application(f"web:{template}")
    if action not in df.UPDATING:
        del app["template"]
    at = f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z"
    return {
        "metadata": {
            "name": f"web-{number:03}",
            "uid": f"uid-{number:03}",
            "creationTimestamp": at,
            "annotations": MADE if annotations is None else annotations,
        },
        "spec": {"action": action, "application": app},
        "status": {"phase": phase, "finished": finished, "version": 3, "startedAt": at, **status},
    }


def left(releases: Sequence[Json], limit: int = 20) -> list[str]:
    gone = {flow["metadata"]["uid"] for flow in find_surplus(releases, limit)}
    return [flow["metadata"]["name"] for flow in releases if flow["metadata"]["uid"] not in gone]


def test_of_465_releases_the_last_twenty_are_left() -> None:
    releases = [release(number, template=number) for number in range(465)]
    assert left(releases) == [f"web-{number}" for number in range(445, 465)]


def test_the_last_two_successful_releases_of_different_templates_are_always_left() -> None:
    releases = [
        release(1, template=1, action="create"),
        release(2, template=1),
        release(3, template=2),
        release(4, template=2),
        release(5, template=3, phase="Failed"),
        *[release(number, action="restart") for number in range(6, 12)],
    ]
    # the restart that was last, and the last release that brought a template
    assert left(releases, 0) == ["web-002", "web-004", "web-005", "web-011"]


def test_an_unfinished_release_is_never_deleted_and_what_it_may_go_back_to_stays() -> None:
    releases = [
        release(1, template=1),
        release(2, template=2),
        release(3, template=3, phase="BatchStarted"),
        release(4, template=4, phase="Pending"),
    ]
    assert left(releases, 0) == ["web-001", "web-002", "web-003", "web-004"]


def test_what_was_applied_stays_unless_its_annotation_asks_for_its_end() -> None:
    releases = [
        release(1, annotations={}),
        release(2, annotations={df.PRUNE: "false"}),
        release(3, annotations={df.PRUNE: "true"}),
        release(4, annotations={df.LAST_REQUEST: "a next of somebody"}),
        release(5),
        release(6, template=2),
        release(7, template=3),
    ]
    assert left(releases, 1) == ["web-001", "web-002", "web-004", "web-006", "web-007"]


def test_what_version_0_2_0_made_is_known_by_its_name_unless_it_was_applied_since() -> None:
    def old(number: int, **more: str) -> Json:
        made = release(number, annotations={df.LAST_REQUEST: f"request-{number}", **more})
        made["metadata"]["name"] = deployflow_name("web", f"request-{number}")
        return made

    copied = old(2, **{"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    releases = [old(1), copied, release(3), release(4, template=2)]
    assert left(releases, 0) == [copied["metadata"]["name"], "web-003", "web-004"]


def test_a_release_of_triton_0_1_x_stays_since_it_may_own_the_cloneset() -> None:
    releases = [release(1, version=0), *[release(number, template=number) for number in range(2, 6)]]
    assert left(releases, 0) == ["web-001", "web-004", "web-005"]


def test_an_instance_may_set_its_own_limit_and_the_newest_release_that_does_decides() -> None:
    def limited(number: int, limit: str) -> Json:
        annotations = MADE | {df.REVISION_HISTORY_LIMIT: limit}
        return release(number, template=number, annotations=annotations)

    plain = [release(number, template=number) for number in range(10, 20)]
    assert len(left([limited(1, "15"), *plain], 3)) == 11
    assert len(left([limited(1, "15"), limited(2, "4"), *plain])) == 5
    # the one that says it is left, or the limit would be forgotten
    assert left([limited(1, "15"), limited(2, "4"), *plain])[0] == "web-002"
    assert len(left([limited(1, "4"), limited(2, "a few"), *plain])) == 5


actions = st.sampled_from(["create", "update", "update", "rollback", "restart", "scale_out", "stop"])
phases = st.sampled_from(
    ["Success", "Success", "Success", "Failed", "Canceled", "Aborted", "BatchStarted", "Pending"]
)
origins = st.sampled_from([MADE, MADE, MADE, {}, {df.PRUNE: "false"}])
histories = st.lists(st.tuples(actions, st.integers(1, 4), phases, origins), max_size=40)


def outcome(call: Callable[[], Any]) -> Any:
    with suppress(Refusal):
        return call()
    return "refused"


@given(histories, st.integers(0, 12))
def test_whatever_the_history_all_that_starts_from_it_starts_from_the_same(
    history: list[tuple[str, int, str, Json]], limit: int
) -> None:
    releases = [
        release(number, action=action, template=template, phase=phase, annotations=origin)
        for number, (action, template, phase, origin) in enumerate(history)
    ]
    surplus = find_surplus(releases, limit)
    after = [flow for flow in releases if flow not in surplus]
    for start in (last_good, update_base, rollback_to, identity):
        assert outcome(partial(start, releases, "web")) == outcome(partial(start, after, "web"))
    assert last_requested(releases) == last_requested(after)
    assert all(flow["status"]["finished"] and flow["metadata"]["annotations"] == MADE for flow in surplus)
    assert find_surplus(after, limit) == []
    # what stays beyond the limit is needed: two successful ones, the last one, the last one with a template, and the
    # last create or update
    made = [f for f in after if f["status"]["finished"] and f["metadata"]["annotations"] == MADE]
    assert len(made) <= limit + 5
