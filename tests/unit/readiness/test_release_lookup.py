"""Which release and batch the log says that a pod belongs to."""

from __future__ import annotations

import json

from aiohttp import web

from services.readiness.release_lookup import ReleaseLookup, restore_releases
from shared.domain import messages as m
from shared.domain.topics import Key
from shared.kube import clonesets as cs
from shared.kube.client import CLONESETS, Client
from tests.unit.parts import LABELS, Trouble, refusal
from tests.unit.readiness.samples import AT, pod

FLOW = m.FlowRef(name="web-2", uid="flow-2", batch=1, requested_by="deployer")
HEAD = {"namespace": "default", "instance": "web"}
OLD = pod("old", creationTimestamp="2025-12-24T00:00:00Z")


def surge(batch: int, *retire: str, by: str = "deployer") -> m.Surge:
    flow = FLOW.model_copy(update={"batch": batch, "requested_by": by})
    hold = m.Hold(flow=flow.uid, batch=batch, surge=1, updated=0, others=3)
    return m.Surge(**HEAD, sequence=batch, flow=flow, replicas=4, partition=3, retire=list(retire), hold=hold)


def release() -> ReleaseLookup:
    releases = ReleaseLookup()
    releases.on_command(surge(1), AT + 500)
    return releases


def test_a_pod_made_after_the_surge_is_of_its_batch_also_within_the_same_second() -> None:
    assert release().find(pod("new")) == FLOW


def test_a_pod_from_before_belongs_to_the_release_and_to_no_batch() -> None:
    ref = release().find(OLD)
    assert ref is not None
    assert (ref.name, ref.batch) == ("web-2", 0)


def test_a_pod_stays_of_its_batch_when_the_next_one_begins() -> None:
    releases = release()
    releases.find(pod("new"))
    releases.on_command(surge(2), AT + 60_000)
    assert releases.find(pod("new")) == FLOW


def test_who_let_a_pod_into_traffic_is_said_with_it() -> None:
    releases = release()
    let = FLOW.model_copy(update={"requested_by": "on-call"})
    releases.on_command(m.PullIn(**HEAD, sequence=2, flow=let, uids=["uid-new"]), AT + 900)
    assert releases.find(pod("new")) == let


def test_pods_that_leave_are_of_the_batch_that_takes_them_away_also_after_the_end() -> None:
    releases = release()
    releases.on_command(surge(2, "uid-old"), AT + 60_000)
    releases.on_command(m.Finish(**HEAD, sequence=9, flow=FLOW.model_copy(update={"batch": 2})), AT + 70_000)
    ref = releases.find(OLD)
    assert ref is not None
    assert ref.batch == 1
    assert releases.find(pod("new")) is None
    releases.forget_pod(OLD)
    assert releases.find(OLD) is None


def test_after_the_end_a_pod_belongs_to_no_release() -> None:
    releases = release()
    releases.find(pod("new"))
    releases.on_command(m.Finish(**HEAD, sequence=9, flow=FLOW), AT + 70_000)
    assert releases.find(pod("new")) is None


def test_a_surge_repeated_takes_no_pod_out_of_its_batch() -> None:
    releases = release()
    releases.on_command(surge(1), AT + 60_000)
    assert releases.find(pod("new")) == FLOW


def test_a_release_that_has_only_observed_owns_nothing() -> None:
    releases = ReleaseLookup()
    releases.on_command(m.Observe(**HEAD, sequence=1, flow=FLOW), AT)
    assert releases.find(pod("new")) is None


def test_pods_that_were_to_leave_and_stay_belong_to_the_next_release() -> None:
    releases = release()
    releases.on_command(m.PullOut(**HEAD, sequence=2, flow=FLOW, uids=["uid-old"]), AT + 900)
    releases.on_command(m.PullIn(**HEAD, sequence=3, flow=FLOW, uids=["uid-old"]), AT + 1900)
    later = m.FlowRef(name="web-3", uid="flow-3", batch=1)
    releases.on_command(m.Halt(**HEAD, sequence=4, flow=later), AT + 9000)
    ref = releases.find(OLD)
    assert ref is not None
    assert (ref.name, ref.batch) == ("web-3", 0)


def test_a_command_that_names_pods_that_are_gone_keeps_nothing_of_them() -> None:
    releases = ReleaseLookup(lambda _: False)
    releases.on_command(surge(2, "uid-old"), AT)
    releases.on_command(m.Finish(**HEAD, sequence=9, flow=FLOW), AT + 70_000)
    assert releases.find(OLD) is None


def test_what_a_cloneset_remembers_says_the_release_until_a_command_says_more() -> None:
    releases = ReleaseLookup()
    releases.restore(Key("default", "web"), FLOW)
    ref = releases.find(pod("new"))
    assert ref is not None
    assert (ref.name, ref.batch) == ("web-2", 0)
    releases.on_command(surge(2), AT)
    assert releases.find(pod("new")) == FLOW.model_copy(update={"batch": 2})
    releases.restore(Key("default", "web"), FLOW)
    assert releases.find(pod("new")) == FLOW.model_copy(update={"batch": 2})


def cloneset(name: str, release: str = "") -> dict[str, object]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main", "image": "demo:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": template}
    return {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": name, "labels": LABELS, "annotations": {cs.RELEASE: release} if release else {}},
        "spec": spec,
    }


async def test_after_a_start_the_releases_under_way_are_read_from_the_clonesets(
    api: Client, client: Client
) -> None:
    await api.create(CLONESETS, "default", cloneset("web", FLOW.model_dump_json()))
    await api.create(CLONESETS, "default", cloneset("others", FLOW.model_dump_json()))
    await api.create(CLONESETS, "default", cloneset("idle"))
    await api.create(CLONESETS, "default", cloneset("odd", json.dumps({"no": "release"})))
    releases = ReleaseLookup()
    read = await restore_releases(releases, client, [], lambda key: key.instance != "others")
    assert {key.instance for key in read} == {"web", "idle", "odd"}
    found = {name: releases.find(pod("x", instance=name)) for name in ("web", "idle", "odd", "others")}
    assert found["web"] == FLOW.model_copy(update={"batch": 0})
    assert (found["idle"], found["odd"], found["others"]) == (None, None, None)


async def test_what_another_replica_works_on_is_forgotten(client: Client) -> None:
    releases = release()
    await restore_releases(releases, client, [], lambda _: False)
    assert releases.find(pod("new")) is None


async def test_nothing_waits_for_releases_that_cannot_be_read(trouble: Trouble, client: Client) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return refusal(403, "Forbidden", "not for you")

    trouble.meddle = refuse
    await restore_releases(ReleaseLookup(), client, ["default"], lambda _: True)
    assert len(trouble.requests) == 1
