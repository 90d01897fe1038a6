"""From a batch command and a CloneSet to the change of it: every command in every situation."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from services.executor.cloneset_change import (
    Answer,
    BadTemplate,
    Create,
    Patch,
    Rejection,
    decide_change,
    dry_run_body,
    replacement_patch,
    template_of,
)
from shared.domain import messages as m
from shared.domain.deployflow import READINESS_GATE, Application
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from tests.simulation.cluster import merged
from tests.unit.parts import LABELS, application

FLOW = m.FlowRef(name="web-df", uid="flow-1")
HEAD: Json = {"namespace": "default", "instance": "web", "flow": FLOW}
HOLD = m.Hold(flow="flow-1", batch=2, surge=1, updated=1, others=2)
TEMPLATE: Json = {
    "metadata": {"labels": LABELS},
    "spec": {"containers": [{"name": "main", "image": "demo:0"}]},
}


def pod(name: str, revision: str = "old", gate: m.Gate = m.Gate.OPEN) -> m.PodRef:
    return m.PodRef(
        uid=f"uid-{name}",
        name=name,
        revision=revision,
        gate=gate,
        ready=gate == m.Gate.OPEN,
        containers_ready=True,
        created_at=0,
    )


def cloneset(
    *,
    sequence: int | None = 4,
    replicas: int = 3,
    replicas_set: int | None = 3,
    generation: int = 7,
    observed: int = 7,
    template: Json | None = None,
    strategy: Json | None = None,
    named: list[str] | None = None,
    hold: m.Hold | None = None,
    **annotations: str,
) -> CloneSet:
    written = {
        cs.SEQUENCE: None if sequence is None else str(sequence),
        cs.REPLICAS: None if replicas_set is None else str(replicas_set),
        cs.HOLD: hold.model_dump_json() if hold else None,
        **{f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()},
    }
    return msgspec.convert(
        {
            "metadata": {
                "name": "web",
                "namespace": "default",
                "uid": "cloneset-1",
                "resourceVersion": "77",
                "generation": generation,
                "labels": LABELS,
                "annotations": {name: value for name, value in written.items() if value is not None},
            },
            "spec": {
                "replicas": replicas,
                "template": template or TEMPLATE,
                "updateStrategy": strategy or {"type": "ReCreate", "maxUnavailable": "20%", "partition": 0},
                "scaleStrategy": {"podsToDelete": named} if named else {},
            },
            "status": {"observedGeneration": observed, "updateRevision": "new"},
        },
        CloneSet,
    )


def scribbled(annotation: str, text: str) -> CloneSet:
    """A CloneSet where somebody wrote over one of Triton's annotations."""
    change = {"metadata": {"annotations": {annotation: text}}}
    return msgspec.convert(merged(msgspec.to_builtins(cloneset()), change), CloneSet)


def surge(sequence: int = 5, **more: Any) -> m.Surge:
    fields: Json = {"replicas": 4, "partition": 2, "hold": HOLD, "accept_replicas": 3, **more}
    return m.Surge(**HEAD, sequence=sequence, **fields)


def retire(sequence: int = 5, *uids: str, **more: Any) -> m.Retire:
    fields: Json = {"replicas": 3, "partition": 1, "accept_replicas": 3, **more}
    return m.Retire(**HEAD, sequence=sequence, retire=list(uids), **fields)


def cancel(sequence: int = 5, *drop: str, **more: Any) -> m.Cancel:
    fields: Json = {"keep": 3, "baked": 1, "restore_template": True, **more}
    return m.Cancel(**HEAD, sequence=sequence, drop=list(drop), **fields)


def halt(sequence: int = 5, **more: Any) -> m.Halt:
    return m.Halt(**HEAD, sequence=sequence, **more)


def finish(sequence: int = 5) -> m.Finish:
    return m.Finish(**HEAD, sequence=sequence)


def observe(sequence: int = 5, **more: Any) -> m.Observe:
    return m.Observe(**HEAD, sequence=sequence, **more)


WRITING = (surge, retire, halt, cancel, finish)
THREE = [pod("a"), pod("b"), pod("c")]


def answer(command: Any, live: CloneSet | None, pods: list[m.PodRef] | None = None) -> Any:
    todo = decide_change(command, live, THREE if pods is None else pods)
    assert isinstance(todo, (Answer, Rejection)), todo
    return todo.result


def patch(command: Any, live: CloneSet, pods: list[m.PodRef] | None = None) -> Json:
    todo = decide_change(command, live, THREE if pods is None else pods)
    assert isinstance(todo, Patch), todo
    return todo.body


def after(command: Any, live: CloneSet, pods: list[m.PodRef] | None = None) -> CloneSet:
    """The CloneSet as the API server makes it of the patch."""
    obj = msgspec.to_builtins(live)
    return msgspec.convert(merged(obj, patch(command, live, pods)), CloneSet)


# --- who may write ---


@pytest.mark.parametrize("command", WRITING)
def test_a_command_for_a_cloneset_that_does_not_exist_is_refused_by_name(command: Any) -> None:
    said = answer(command(), None)
    assert isinstance(said, m.Refused)
    assert (said.reason, said.message) == ("NotFound", "CloneSet default/web does not exist")


@pytest.mark.parametrize("command", WRITING)
def test_a_lower_sequence_is_never_done_and_is_answered_with_the_higher_one(command: Any) -> None:
    said = answer(command(5), cloneset(sequence=6))
    assert isinstance(said, m.Superseded)
    assert (said.sequence, said.current) == (5, 6)


@pytest.mark.parametrize("command", WRITING)
def test_an_equal_sequence_is_answered_again_and_not_written_again(command: Any) -> None:
    said = answer(command(5), cloneset(sequence=5, replicas=9, replicas_set=3))
    assert isinstance(said, m.Done)
    assert (said.sequence, said.cloneset.sequence, said.cloneset.replicas) == (5, 5, 9)
    assert [pod.name for pod in said.pods] == ["a", "b", "c"]


@pytest.mark.parametrize("command", WRITING)
def test_a_higher_sequence_is_written_together_with_the_change(command: Any) -> None:
    assert patch(command(5), cloneset(sequence=4))["metadata"]["annotations"][cs.SEQUENCE] == "5"


@pytest.mark.parametrize("command", WRITING)
def test_a_cloneset_that_triton_has_never_written_takes_the_first_command(command: Any) -> None:
    fits = {"accept_replicas": 3} if command in {surge, retire} else {}
    assert after(command(1, **fits), cloneset(sequence=None, replicas_set=None)).sequence == 1


@pytest.mark.parametrize("command", WRITING)
def test_a_sequence_that_somebody_made_unreadable_does_not_stop_the_releases(command: Any) -> None:
    live = scribbled(cs.SEQUENCE, "abc")
    fits = {"accept_replicas": 3} if command in {surge, retire} else {}
    assert after(command(1, **fits), live).sequence == 1


@pytest.mark.parametrize("command", WRITING)
def test_done_twice_is_done_once(command: Any) -> None:
    once = after(command(5), cloneset(strategy={"paused": True}, owner_strategy="{}", stable_template="{}"))
    said = answer(command(5), once)
    assert isinstance(said, m.Done)


# --- whose it is ---


def with_labels(labels: Json, template_labels: Json, **metadata: Any) -> CloneSet:
    body = msgspec.to_builtins(cloneset(sequence=None, replicas_set=None))
    body["metadata"] |= {"labels": labels, **metadata}
    body["spec"]["template"] = {**TEMPLATE, "metadata": {"labels": template_labels}}
    return msgspec.convert(body, CloneSet)


COMMANDS = [*WRITING, observe, lambda *_: m.Remove(**HEAD, sequence=5)]
OTHERS = {"app": "web"}
LEGACY_OWNER = {"apiVersion": "apps.triton.io/v1alpha1", "kind": "DeployFlow", "name": "old", "uid": "flow-0"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "live",
    [
        with_labels(OTHERS, OTHERS),
        with_labels(LABELS, OTHERS),
        with_labels(OTHERS, LABELS),
        with_labels({}, {}),
    ],
    ids=["somebody else's", "only labeled by hand", "a copy of ours without the label", "without labels"],
)
def test_no_command_touches_a_cloneset_that_triton_did_not_make(command: Any, live: CloneSet) -> None:
    said = answer(command(), live)
    assert isinstance(said, m.Refused)
    assert said.reason == "NotOurs"
    assert said.message.startswith("CloneSet default/web was not made by Triton")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "metadata",
    [{"annotations": {cs.SEQUENCE: "4"}}, {"ownerReferences": [LEGACY_OWNER]}],
    ids=["ours", "0.1.x"],
)
def test_no_command_touches_one_of_ours_that_has_lost_its_label(command: Any, metadata: Json) -> None:
    said = answer(command(), with_labels({"app": "1"}, LABELS, **metadata))
    assert isinstance(said, m.Refused)
    assert said.reason == "LabelsMissing"
    assert said.message.endswith("kubectl -n default label cloneset web managed-by=triton-io")


@pytest.mark.parametrize(
    "live",
    [with_labels(LABELS, LABELS), with_labels(LABELS, OTHERS, ownerReferences=[LEGACY_OWNER]), cloneset()],
    ids=["0.1.x at rest", "0.1.x in a release", "ours"],
)
def test_those_of_triton_are_observed(live: CloneSet) -> None:
    assert isinstance(answer(observe(), live), m.Done)


# --- observe ---


def test_observe_reports_all_pods_and_the_cloneset_whatever_its_sequence() -> None:
    said = answer(observe(2), cloneset(sequence=6, hold=HOLD))
    assert (said.cloneset.sequence, said.cloneset.hold, len(said.pods)) == (6, HOLD, 3)


def test_observe_of_nothing_says_that_nothing_exists() -> None:
    said = answer(observe(1), None, [])
    assert (said.cloneset.exists, said.pods) == (False, [])


def test_a_percentage_in_the_partition_is_reported_as_a_count_rounded_up() -> None:
    said = answer(observe(), cloneset(replicas=5, strategy={"partition": "50%"}))
    assert said.cloneset.partition == 3


# --- somebody else was at it ---


@pytest.mark.parametrize("command", [surge, retire])
def test_victims_that_are_gone_stop_the_write_and_are_named(command: Any) -> None:
    retiring = ["uid-b", "uid-z", "uid-y"]
    todo = surge(retire=retiring) if command is surge else retire(5, *retiring)
    said = answer(todo, cloneset())
    assert isinstance(said, m.VictimsGone)
    assert said.gone == ["uid-y", "uid-z"]


@pytest.mark.parametrize("command", [surge, retire])
def test_replicas_that_somebody_else_set_stop_the_write_and_are_reported(command: Any) -> None:
    said = answer(command(), cloneset(replicas=8))
    assert isinstance(said, m.ReplicasChanged)
    assert said.replicas == 8


@pytest.mark.parametrize("command", [surge, retire])
def test_a_command_that_was_rejected_for_its_count_stays_rejected_when_it_is_delivered_again(
    command: Any,
) -> None:
    todo = decide_change(command(), cloneset(replicas=8), THREE)
    assert isinstance(todo, Rejection)
    # somebody has scaled back meanwhile
    later = msgspec.convert(merged(msgspec.to_builtins(cloneset(replicas=3)), todo.body), CloneSet)
    said = answer(command(), later)
    assert isinstance(said, m.ReplicasChanged)
    assert said.replicas == 3
    assert isinstance(answer(command(sequence=4), later), m.Superseded)
    # the next one is carried out, and forgets it
    written = after(command(sequence=6), later)
    assert (written.sequence, written.rejected) == (6, 0)


@pytest.mark.parametrize("command", [surge, retire])
def test_replicas_that_the_planner_has_taken_in_are_accepted(command: Any) -> None:
    assert after(command(accept_replicas=8), cloneset(replicas=8)).sequence == 5


@pytest.mark.parametrize("command", [surge, retire])
def test_replicas_that_triton_wrote_last_are_accepted_though_the_planner_saw_others(command: Any) -> None:
    assert after(command(accept_replicas=2), cloneset(replicas=3, replicas_set=3)).sequence == 5


@pytest.mark.parametrize("command", [surge, retire, halt])
def test_a_count_that_triton_wrote_is_somebody_elses_where_the_planner_saw_another_after_it(
    command: Any,
) -> None:
    """Somebody has scaled to 0, and then back to 3."""
    live = cloneset(sequence=4, replicas=3, replicas_set=3)
    said = answer(command(accept_replicas=0, accept_sequence=4), live)
    assert isinstance(said, m.ReplicasChanged)
    assert said.replicas == 3
    assert after(command(accept_replicas=0, accept_sequence=3), live).sequence == 5


@pytest.mark.parametrize("command", [surge, retire, halt])
def test_a_command_behind_a_rejected_one_is_rejected_too(command: Any) -> None:
    live = cloneset(sequence=4, replicas=3, replicas_set=3, rejected="4")
    assert isinstance(answer(command(accept_replicas=0, accept_sequence=3), live), m.ReplicasChanged)
    assert after(command(accept_replicas=3, accept_sequence=3), live).sequence == 5


@pytest.mark.parametrize(
    ("rejected", "saw", "kept"), [(0, (0, 4), 3), (4, (0, 3), 3), (0, (0, 3), 2), (0, (3, 4), 2)]
)
def test_a_cancel_keeps_the_count_of_somebody_else_also_where_triton_wrote_it_last(
    rejected: int, saw: tuple[int, int], kept: int
) -> None:
    live = cloneset(sequence=4, replicas=3, replicas_set=3, rejected=str(rejected))
    command = cancel(keep=2, accept_replicas=saw[0], accept_sequence=saw[1])
    assert after(command, live).spec.replicas == kept


@pytest.mark.parametrize("command", [halt, cancel, finish])
def test_ending_and_halting_never_fail_because_somebody_scaled(command: Any) -> None:
    assert after(command(), cloneset(replicas=8)).sequence == 5


# --- surge ---


def test_a_surge_writes_count_partition_and_hold_and_lets_the_cloneset_update_nothing_by_itself() -> None:
    new = after(surge(), cloneset())
    assert new.spec.replicas == new.replicas_set == 4
    assert new.hold == HOLD
    wanted = {"paused": True, "maxSurge": 0, "maxUnavailable": "100%", "partition": 2}
    assert {name: new.spec.update_strategy[name] for name in wanted} == wanted
    assert new.spec.template == cloneset().spec.template


def test_a_surge_that_retires_the_last_batch_too_is_one_write() -> None:
    assert after(surge(retire=["uid-b"]), cloneset()).spec.scale_strategy == {"podsToDelete": ["b"]}


def test_names_passed_before_stay_named_while_their_pods_live() -> None:
    live = cloneset(named=["a", "long-gone"])
    assert after(surge(retire=["uid-c"]), live).spec.scale_strategy == {"podsToDelete": ["a", "c"]}
    assert after(retire(5, "uid-c"), live).spec.scale_strategy == {"podsToDelete": ["a", "c"]}


def test_the_wish_to_leave_the_gates_to_somebody_else_is_written_and_taken_back() -> None:
    held = after(surge(no_pull_in=True), cloneset())
    assert held.metadata.annotations[cs.NO_PULL_IN] == "true"
    assert cs.NO_PULL_IN not in after(surge(6, accept_replicas=4), held).metadata.annotations


def test_the_template_is_replaced_not_merged() -> None:
    old = {
        "metadata": {"labels": {"gone": "yes"}},
        "spec": {"hostNetwork": True, "containers": [{"name": "x"}]},
    }
    new = after(surge(application=application("demo:2")), cloneset(template=old))
    assert new.spec.template == template_of(Application.model_validate(application("demo:2")))


def test_the_owners_strategy_is_saved_by_the_first_write_only_and_comes_back_at_the_finish() -> None:
    owner = {
        "type": "InPlaceIfPossible",
        "maxUnavailable": "10%",
        "partition": 0,
        "inPlaceUpdateStrategy": {},
    }
    first = after(surge(5), cloneset(strategy=owner))
    second = after(retire(6), first)
    over = after(finish(7), second)
    assert over.spec.update_strategy == {**owner, "paused": False}
    assert cs.OWNER_STRATEGY not in over.metadata.annotations
    assert over.hold is None


def test_an_owner_who_had_paused_or_held_back_updates_finds_them_running_after_the_release() -> None:
    owner = {"type": "ReCreate", "paused": True, "partition": 3, "maxSurge": 1}
    over = after(finish(6), after(surge(5), cloneset(strategy=owner)))
    assert over.spec.update_strategy == {"type": "ReCreate", "paused": False, "partition": 0, "maxSurge": 1}


def test_a_finish_takes_back_what_triton_set_where_the_owner_had_nothing() -> None:
    live = cloneset(strategy={"paused": True, "maxSurge": 0, "maxUnavailable": "100%"}, owner_strategy="{}")
    assert after(finish(), live).spec.update_strategy == {"paused": False, "partition": 0}


def test_nothing_stays_named_for_deletion_after_the_finish() -> None:
    assert after(finish(), cloneset(named=["a"])).spec.scale_strategy == {"podsToDelete": []}


# --- a batch that was written before ---


SETTLED = {"generation": 7, "observed": 7}
BEHIND = {"generation": 8, "observed": 7}
OWN = pod("mine", "new", m.Gate.CLOSED)


@pytest.mark.parametrize(
    ("sequence", "batch", "state", "pods", "before"),
    [
        pytest.param(
            5, 2, SETTLED, [*THREE, OWN], ["a", "b", "c"], id="answered again: its own pods are new"
        ),
        pytest.param(4, 2, SETTLED, [*THREE, OWN], ["a", "b", "c"], id="sent again for the same batch"),
        pytest.param(
            4, 1, SETTLED, [*THREE, OWN], ["a", "b", "c", "mine"], id="another batch's pods were there"
        ),
        pytest.param(
            5,
            2,
            SETTLED,
            [pod("a", "new"), OWN],
            ["a"],
            id="pods of the revision with traffic are earlier ones",
        ),
        pytest.param(
            5,
            2,
            SETTLED,
            [pod("a", "old", m.Gate.CLOSED), OWN],
            ["a"],
            id="a fresh replacement of an old pod is no pod of the batch",
        ),
        pytest.param(
            5,
            2,
            BEHIND,
            [*THREE, pod("mine", "newest", m.Gate.CLOSED)],
            ["a", "b", "c"],
            id="the controller made the pods but has not said of which revision",
        ),
    ],
)
def test_a_surge_repeated_after_a_crash_distinguishes_its_own_pods(
    sequence: int, batch: int, state: Json, pods: list[m.PodRef], before: list[str]
) -> None:
    hold = HOLD.model_copy(update={"batch": batch})
    todo = decide_change(surge(5), cloneset(sequence=sequence, hold=hold, **state), pods)
    reported = todo.before if isinstance(todo, Patch) else cast("Any", todo).result.pods
    assert [ref.name for ref in reported] == before


def test_a_repeated_surge_of_a_template_without_a_gate_knows_its_own_by_count_and_age() -> None:
    ages = {"a": 1, "b": 2, "c": 3, "fresh": 9}
    pods = [pod(n, "new", m.Gate.NONE).model_copy(update={"created_at": at}) for n, at in ages.items()]
    said = answer(surge(5), cloneset(sequence=5, hold=HOLD), pods)
    assert [ref.name for ref in said.pods] == ["a", "b", "c"]
    said = answer(surge(5), cloneset(sequence=5, hold=HOLD), pods[:3])
    assert [ref.name for ref in said.pods] == ["a", "b", "c"], "none is made yet"


def test_another_releases_hold_is_no_hold_of_this_batch() -> None:
    hold = HOLD.model_copy(update={"flow": "flow-0"})
    todo = decide_change(surge(5), cloneset(hold=hold), [*THREE, OWN])
    assert isinstance(todo, Patch)
    assert OWN in todo.before


# --- retire ---


def test_a_retire_names_its_pods_and_gives_up_the_hold() -> None:
    new = after(retire(5, "uid-b"), cloneset(hold=HOLD))
    assert new.spec.scale_strategy == {"podsToDelete": ["b"]}
    assert (new.hold, new.spec.replicas, new.replicas_set) == (None, 3, 3)
    assert new.spec.update_strategy["partition"] == 1


# --- halt ---


@pytest.mark.parametrize(
    ("pods", "replicas", "hold", "left"),
    [
        pytest.param(3, 5, HOLD, 3, id="the surge has made nothing yet: what served stays"),
        pytest.param(4, 5, HOLD, 4, id="one of two new pods is there"),
        pytest.param(1, 5, HOLD, 3, id="pods are dying: never below what served before the batch"),
        pytest.param(5, 3, HOLD, 5, id="pods to retire are still there: none of them goes"),
        pytest.param(1, 2, HOLD, 2, id="never above the request just to reach what served"),
        pytest.param(2, 5, None, 5, id="without a hold the wanted count stays"),
    ],
)
def test_halt_makes_and_deletes_nothing_more(
    pods: int, replicas: int, hold: m.Hold | None, left: int
) -> None:
    live = cloneset(replicas=replicas, replicas_set=replicas, hold=hold, named=["p0"])
    new = after(halt(), live, [pod(f"p{n}") for n in range(pods)])
    assert new.spec.replicas == new.replicas_set == left
    assert new.spec.scale_strategy == {"podsToDelete": []}
    assert new.hold == hold


def test_a_hold_that_somebody_scribbled_over_still_holds() -> None:
    live = scribbled(cs.HOLD, "{nonsense")
    assert live.hold is not None
    assert after(surge(), live).hold == HOLD


def test_a_count_that_somebody_scribbled_over_is_somebody_elses_count() -> None:
    live = scribbled(cs.REPLICAS, "many")
    assert isinstance(answer(surge(accept_replicas=None), live), m.ReplicasChanged)
    assert after(surge(accept_replicas=3), live).replicas_set == 4


# --- what Triton 0.1.x claimed ---

CLAIM = {
    "apiVersion": "apps.triton.io/v1alpha1",
    "kind": "DeployFlow",
    "name": "f",
    "uid": "u",
    "controller": True,
}
PROJECT = {"apiVersion": "acme.io/v1", "kind": "Project", "name": "p", "uid": "p"}


@pytest.mark.parametrize(
    "command",
    [
        surge(),
        m.Retire(**HEAD, sequence=5, replicas=3, partition=0, accept_replicas=3),
        m.Halt(**HEAD, sequence=5),
        m.Cancel(**HEAD, sequence=5, keep=3, baked=0, restore_template=True),
        m.Finish(**HEAD, sequence=5),
    ],
    ids=lambda command: command.type,
)
def test_every_write_takes_the_claim_of_0_1_x_away_and_no_other_owner(command: Any) -> None:
    live = cloneset()
    owners = [CLAIM, PROJECT]
    live = msgspec.structs.replace(
        live, metadata=msgspec.structs.replace(live.metadata, owner_references=owners)
    )
    assert live.owner == "u"
    over = after(command, live)
    assert over.owner == ""
    assert over.metadata.owner_references == [PROJECT]


def test_a_cancel_that_knows_no_template_to_go_back_to_lets_old_pods_come_back_as_old() -> None:
    live = cloneset(sequence=None, replicas=4, replicas_set=None)
    over = after(m.Cancel(**HEAD, sequence=5, keep=4, baked=1, restore_template=True), live)
    assert over.spec.template == live.spec.template
    assert (over.spec.update_strategy["partition"], over.spec.update_strategy["paused"]) == (3, True)


# --- cancel ---


def test_a_cancel_brings_the_stable_template_back_keeps_the_count_and_drops_what_was_never_baked() -> None:
    stable = {"spec": {"containers": [{"name": "main", "image": "demo:0"}]}}
    began = after(surge(5, application=application("demo:2")), cloneset(template=stable))
    over = after(cancel(6, "uid-mine"), began, [*THREE, OWN])
    assert over.spec.template == stable
    assert over.spec.replicas == over.replicas_set == 3
    assert over.spec.scale_strategy == {"podsToDelete": ["mine"]}
    assert over.spec.update_strategy["partition"] == 1
    assert (over.hold, over.metadata.annotations.get(cs.STABLE_TEMPLATE)) == (None, None)


def test_the_stable_template_is_saved_once_so_that_a_second_release_on_top_still_knows_it() -> None:
    stable = cloneset().spec.template
    first = after(surge(5, application=application("demo:2")), cloneset())
    second = after(surge(6, application=application("demo:3"), accept_replicas=4), first)
    assert after(cancel(7), second).spec.template == stable


def test_a_cancel_with_all_pods_on_the_target_keeps_the_template() -> None:
    began = after(surge(5, application=application("demo:2")), cloneset())
    over = after(cancel(6, restore_template=False), began)
    assert over.spec.template == began.spec.template
    assert over.spec.update_strategy["partition"] == 0
    assert cs.STABLE_TEMPLATE not in over.metadata.annotations


def test_a_canceled_first_create_has_no_template_to_go_back_to_and_keeps_its_own() -> None:
    over = after(cancel(keep=1), cloneset())
    assert over.spec.template == cloneset().spec.template
    assert (over.spec.replicas, over.spec.update_strategy["partition"]) == (1, 0)


def test_a_cancel_forgets_the_names_that_were_passed_before() -> None:
    assert after(cancel(), cloneset(named=["a"])).spec.scale_strategy == {"podsToDelete": []}


def test_a_cancel_removes_pods_of_its_template_that_were_made_for_a_count_of_somebody_else() -> None:
    """Nobody has accepted them, and the planner does not know them yet."""
    made = [pod(f"new-{number}", "new", gate=m.Gate.CLOSED) for number in (1, 2)]
    baked = pod("baked", "new")
    live = cloneset(replicas=6, replicas_set=4, stable_template=json.dumps(TEMPLATE))
    over = after(cancel(6, keep=4, baked=1, revision="new"), live, [*THREE, baked, *made])
    assert over.spec.replicas == 6
    assert over.spec.scale_strategy == {"podsToDelete": ["new-1", "new-2"]}
    # somebody else opens the gates of these: they were accepted without traffic of ours
    over = after(cancel(6, keep=5, baked=2, revision="new"), live, [*THREE, *made])
    assert over.spec.scale_strategy == {"podsToDelete": []}


def test_a_cancel_takes_no_pod_from_traffic_for_one_that_it_did_not_know() -> None:
    """Somebody has deleted the canary, and OpenKruise has made an old pod in its place."""
    replacement = pod("new-old", gate=m.Gate.CLOSED)
    over = after(cancel(6, "uid-canary"), cloneset(replicas=4, replicas_set=4), [*THREE, replacement])
    assert over.spec.scale_strategy == {"podsToDelete": ["new-old"]}
    # one that takes the place of an old pod stays
    over = after(cancel(6, "uid-canary"), cloneset(replicas=4, replicas_set=4), [*THREE[1:], replacement])
    assert over.spec.scale_strategy == {"podsToDelete": []}


def test_the_owners_strategy_survives_a_cancel_and_comes_back_at_the_finish() -> None:
    owner = {"type": "ReCreate", "maxUnavailable": "20%", "partition": 0}
    canceled = after(cancel(6), after(surge(5), cloneset(strategy=owner)))
    assert after(finish(7), canceled).spec.update_strategy == {**owner, "paused": False}


# --- create ---


def created(**more: Any) -> Json:
    fields: Json = {"create": True, "application": application(), "replicas": 1, "partition": 0, **more}
    todo = decide_change(surge(1, **fields), None, [])
    assert isinstance(todo, Create)
    return todo.body


def test_a_create_makes_a_complete_cloneset() -> None:
    body = created()
    new = msgspec.convert(body, CloneSet)
    assert (body["kind"], body["apiVersion"]) == ("CloneSet", "apps.kruise.io/v1alpha1")
    assert (new.metadata.name, new.metadata.namespace) == ("web", "default")
    assert body["metadata"]["labels"] == LABELS
    assert (new.sequence, new.replicas_set, new.spec.replicas, new.hold) == (1, 1, 1, HOLD)
    assert body["spec"]["selector"] == {"matchLabels": LABELS}
    assert new.spec.template["metadata"]["labels"] == LABELS
    assert new.spec.template["spec"]["readinessGates"] == [{"conditionType": READINESS_GATE}]
    assert new.spec.update_strategy["paused"] is True
    assert after(finish(2), new).spec.update_strategy == {"paused": False, "partition": 0}


def test_a_create_takes_the_owners_selector_volumes_labels_and_gate_wish() -> None:
    claims = [{"metadata": {"name": "data"}, "spec": {}}]
    extras = application(
        selector={"matchLabels": {"app": "1"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
        volumeClaimTemplates=claims,
        applicationLabel={"team": "blue"},
    )
    body = created(application=extras, no_pull_in=True)
    assert body["spec"]["selector"] == {
        "matchLabels": {"app": "1"},
        "matchExpressions": [{"key": "x", "operator": "Exists"}],
    }
    assert body["spec"]["volumeClaimTemplates"] == claims
    assert body["metadata"]["labels"] == {"team": "blue", **LABELS}
    assert body["spec"]["template"]["metadata"]["labels"] == {"team": "blue", **LABELS}
    assert body["metadata"]["annotations"][cs.NO_PULL_IN] == "true"


def test_a_surge_that_may_not_create_makes_no_cloneset() -> None:
    assert isinstance(answer(surge(create=False, application=application()), None, []), m.Refused)


# --- the template ---


def templated(template: Json, **more: Any) -> Json:
    return template_of(Application.model_validate(application(template=template, **more)))


CONTAINERS = [{"name": "main", "image": "demo:1"}]


def test_the_owners_labels_annotations_and_gates_stay_and_ours_are_added_once() -> None:
    owner = {
        "metadata": {"labels": {"tier": "front", "managed-by": "me"}, "annotations": {"scrape": "yes"}},
        "spec": {
            "containers": CONTAINERS,
            "readinessGates": [{"conditionType": "theirs"}, {"conditionType": READINESS_GATE}],
        },
    }
    once = templated(owner)
    assert once["metadata"] == {"labels": {"tier": "front", **LABELS}, "annotations": {"scrape": "yes"}}
    gates = [{"conditionType": "theirs"}, {"conditionType": READINESS_GATE}]
    assert once["spec"] == {"containers": CONTAINERS, "readinessGates": gates}
    assert templated(once) == once


def test_a_readiness_gate_misplaced_inside_a_container_is_passed_on_as_it_is() -> None:
    odd = [{"name": "main", "image": "demo:1", "readinessGates": [{"conditionType": READINESS_GATE}]}]
    made = templated({"metadata": {}, "spec": {"containers": odd}})
    assert made["spec"]["containers"] == odd
    assert made["spec"]["readinessGates"] == [{"conditionType": READINESS_GATE}]


@pytest.mark.parametrize("nothing", [{}, {"metadata": None}, {"metadata": {"labels": None}}])
def test_a_template_without_metadata_gets_what_it_needs(nothing: Json) -> None:
    made = templated({**nothing, "spec": {"containers": CONTAINERS, "readinessGates": None}})
    assert made["metadata"]["labels"] == LABELS


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ({"metadata": "x"}, "application.template.metadata must be a map"),
        ({"metadata": {"labels": ["x"]}}, "application.template.metadata.labels must be a map"),
        ({"spec": {"containers": CONTAINERS, "readinessGates": {"a": 1}}}, "readinessGates must be a list"),
    ],
)
def test_a_template_of_the_wrong_shape_is_refused_by_the_field(template: Json, where: str) -> None:
    with pytest.raises(BadTemplate, match=where):
        templated({"spec": {"containers": CONTAINERS}, **template})


def test_the_template_of_an_update_can_be_tried_without_anything_else_of_the_cloneset() -> None:
    live = cloneset()
    body = dry_run_body(observe(application=application("demo:2")), live)
    tried = merged(live.spec.template, body["spec"]["template"])
    assert list(body) == ["spec"]
    assert list(body["spec"]) == ["template"]
    assert tried == templated(application("demo:2")["template"])


def test_the_template_of_a_create_is_tried_as_a_whole_cloneset_without_pods() -> None:
    body = dry_run_body(observe(application=application()), None)
    assert (body["kind"], body["spec"]["replicas"]) == ("CloneSet", 0)
    assert body["spec"]["template"]["metadata"]["labels"] == LABELS


def test_what_the_owner_saved_is_readable_json() -> None:
    body = patch(surge(application=application("demo:2")), cloneset())
    saved = body["metadata"]["annotations"]
    assert json.loads(saved[cs.STABLE_TEMPLATE]) == cloneset().spec.template
    assert json.loads(saved[cs.OWNER_STRATEGY]) == cloneset().spec.update_strategy
    assert replacement_patch({"a": 1}, {"a": 1}) == {"a": 1}


# --- the guard of a batch that waits ---

OWNERS = {
    "preDelete": {"labelsHandler": {"mine": "yes"}, "markPodNotReady": True},
    "inPlaceUpdate": {"finalizersHandler": ["a/b"]},
}


def _with_lifecycle(lifecycle: Json) -> CloneSet:
    live = cloneset(hold=HOLD)
    return msgspec.structs.replace(live, spec=msgspec.structs.replace(live.spec, lifecycle=lifecycle))


def test_a_guard_sets_a_hook_beside_the_owners_own_and_keeps_old_pods_at_every_count() -> None:
    new = after(surge(guard=True), _with_lifecycle(OWNERS))
    assert new.spec.lifecycle == {
        "preDelete": {
            "labelsHandler": {"mine": "yes", "app.kubernetes.io/instance": "web"},
            "markPodNotReady": False,
        },
        "inPlaceUpdate": {"finalizersHandler": ["a/b"]},
    }
    assert new.spec.update_strategy["partition"] == "100%"


@pytest.mark.parametrize("lifecycle", [{}, OWNERS], ids=["none", "the owner's"])
@pytest.mark.parametrize("command", [surge, retire, cancel, finish])
def test_every_other_write_takes_the_hook_off(command: Any, lifecycle: Json) -> None:
    guarded = after(surge(guard=True), _with_lifecycle(lifecycle))
    again = after(surge(6, guard=True), guarded)
    new = after(command(7), again)
    assert new.spec.lifecycle == lifecycle
    assert cs.OWNER_LIFECYCLE not in new.metadata.annotations


# --- a count of somebody else ---


def test_a_halt_leaves_the_count_of_somebody_else() -> None:
    assert after(halt(), cloneset(replicas=8, hold=HOLD)).spec.replicas == 8


def test_a_cancel_keeps_the_count_of_somebody_else() -> None:
    new = after(cancel(), cloneset(replicas=8, hold=HOLD))
    assert new.spec.replicas == new.replicas_set == 8


def test_the_count_of_somebody_else_is_remembered_until_the_release_ends() -> None:
    new = after(surge(scaled_to=7), cloneset(hold=HOLD))
    assert new.scaled_to == 7
    assert after(finish(6), new).scaled_to is None
