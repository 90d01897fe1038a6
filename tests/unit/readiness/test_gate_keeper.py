"""The gate keeper on a real API server: pods that a command names, and pods that no release claims."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest
from aiohttp import web

from services.readiness import gate_keeper as module
from services.readiness.gate_decisions import gate_patch
from services.readiness.gate_keeper import GateKeeper
from shared.domain import messages as m
from shared.domain.deployflow import READINESS_GATE
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube import clonesets as cs
from shared.kube import pods as kube_pods
from shared.kube.client import CLONESETS, PODS, STRATEGIC, Client
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from tests.unit.parts import KEY, LABELS, Trouble, gated, record, refusal, until, until_it

FLOW = m.FlowRef(name="web-df", uid="flow-1")
HOLD = m.Hold(flow="flow-1", batch=1, surge=1, updated=0, others=2).model_dump_json()


class Readiness:
    """The keeper with its pod watch, wired as the service does it."""

    def __init__(self, client: Client) -> None:
        self.is_owner = True
        self.owns_every_key = False
        self.pods = Reflector(
            client, PODS, Pod, self._changed, namespaces=["default"], labels="managed-by=triton-io"
        )
        self.keeper = GateKeeper(client, self.pods, self._owns)

    def _owns(self, key: Key) -> bool:
        return self.is_owner and (key == KEY or self.owns_every_key)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        self.keeper.changed(old, new)

    async def handle(self, *commands: m.Command) -> None:
        await self.keeper.handle(str(KEY), [record(command) for command in commands])


@pytest.fixture
async def readiness(client: Client) -> AsyncIterator[Readiness]:
    readiness = Readiness(client)
    task = asyncio.create_task(readiness.pods.run())
    async with asyncio.timeout(10):
        await readiness.pods.synced.wait()
    yield readiness
    await readiness.keeper._checks.drain(5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def pull(kind: type[m.PullIn | m.PullOut], sequence: int, *uids: str) -> m.Command:
    return kind(namespace="default", instance="web", sequence=sequence, flow=FLOW, uids=list(uids))


def retire(sequence: int) -> m.Retire:
    return m.Retire(
        namespace="default", instance="web", sequence=sequence, flow=FLOW, replicas=1, partition=0
    )


def surge(sequence: int) -> m.Surge:
    hold = m.Hold.model_validate_json(HOLD)
    return m.Surge(
        namespace="default", instance="web", sequence=sequence, flow=FLOW, replicas=1, partition=0, hold=hold
    )


async def bare(api: Client, *names: str) -> list[str]:
    """Pods of no CloneSet; their uids."""
    made = [await api.create(PODS, "default", gated(name)) for name in names]
    return [pod["metadata"]["uid"] for pod in made]


async def clone(api: Client, replicas: int = 1, image: str = "demo:1", **annotations: str) -> None:
    template = gated("x")
    body = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": "web", "labels": LABELS, "annotations": annotations},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "updateStrategy": {"paused": True, "maxUnavailable": "100%"},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {**template["spec"], "containers": [{"name": "main", "image": image}]},
            },
        },
    }
    await api.create(CLONESETS, "default", body)


def condition(pod: Json, kind: str = READINESS_GATE) -> Json:
    found = [one for one in pod["status"].get("conditions", []) if one["type"] == kind]
    return found[0] if found else {}


def gate(pod: Json) -> str:
    return str(condition(pod).get("status", ""))


async def gates(api: Client) -> list[str]:
    return [gate(pod) for pod in await api.list(PODS, "default")]


async def opened(api: Client, count: int) -> None:
    async def there() -> bool:
        return (await gates(api)).count("True") == count

    await until_it(there)


async def contained(readiness: Readiness, count: int) -> None:
    """All pods have their containers ready, and the watch has reported it."""
    await until(lambda: sum(pod.containers_ready for pod in readiness.pods.items.values()) == count)


# --- by command ---


async def test_named_pods_are_pulled_in_and_become_ready_and_no_others(
    readiness: Readiness, api: Client
) -> None:
    one, two, three = await bare(api, "one", "two", "three")
    await contained(readiness, 3)
    await readiness.handle(pull(m.PullIn, 5, one, three))
    assert await gates(api) == ["True", "True", ""]  # by name: one, three, two
    pod = await api.get(PODS, "default", "one")
    assert condition(pod)["message"] == "sequence 5"
    await until(lambda: readiness.pods.items[one].ready and readiness.pods.items[three].ready)
    assert not readiness.pods.items[two].ready


async def test_pulled_out_pods_lose_ready_and_stay_out(readiness: Readiness, api: Client) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)
    await readiness.handle(pull(m.PullIn, 5, uid), pull(m.PullOut, 6, uid))
    await until(lambda: not readiness.pods.items[uid].ready)
    assert condition(await api.get(PODS, "default", "one"))["reason"] == "PulledOut"


async def test_a_command_that_comes_twice_writes_once(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)
    await readiness.handle(pull(m.PullIn, 5, uid), pull(m.PullIn, 5, uid))
    assert len([one for one in trouble.requests if one.startswith("PATCH")]) == 1
    assert await gates(api) == ["True"]


async def test_a_lower_sequence_never_overwrites_a_higher_one(readiness: Readiness, api: Client) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)
    await readiness.handle(pull(m.PullIn, 5, uid), pull(m.PullOut, 7, uid), pull(m.PullIn, 6, uid))
    assert condition(await api.get(PODS, "default", "one"))["message"] == "sequence 7"
    assert await gates(api) == ["False"]


async def test_a_lower_sequence_loses_also_when_another_replica_wrote_the_higher_one_just_now(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def close_first(request: web.Request) -> None:
        if request.method == "PATCH":
            trouble.meddle = None
            await write(api, "one", opened=False, sequence=9)

    trouble.meddle = close_first
    await readiness.handle(pull(m.PullIn, 8, uid))
    assert condition(await api.get(PODS, "default", "one"))["message"] == "sequence 9"
    assert await gates(api) == ["False"]


async def write(api: Client, name: str, *, opened: bool, sequence: int) -> None:
    """What another replica would do."""
    pod = msgspec.convert(await api.get(PODS, "default", name), Pod)
    body = gate_patch(pod, opened=opened, sequence=sequence, now=datetime.now(UTC))
    await api.patch(PODS, "default", name, body, subresource="status", content_type=STRATEGIC)


async def test_a_pod_that_changes_under_the_write_is_read_again_and_opened(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def label_first(request: web.Request) -> None:
        if request.method == "PATCH":
            trouble.meddle = None
            await api.patch(PODS, "default", "one", {"metadata": {"labels": {"by": "somebody"}}})

    trouble.meddle = label_first
    await readiness.handle(pull(m.PullIn, 5, uid))
    assert await gates(api) == ["True"]
    assert [one.split()[0] for one in trouble.requests if "/pods/one" in one] == ["PATCH", "GET", "PATCH"]


async def test_pods_that_are_gone_are_skipped_and_the_others_opened(
    readiness: Readiness, api: Client
) -> None:
    gone, here = await bare(api, "gone", "here")
    await contained(readiness, 2)
    await api.delete(PODS, "default", "gone")
    await until(lambda: gone not in readiness.pods.items)
    await readiness.handle(pull(m.PullIn, 5, gone, "uid-of-nobody", here))
    assert await gates(api) == ["True"]


async def test_a_pod_of_the_same_name_made_again_is_not_opened_in_its_place(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def make_again(request: web.Request) -> None:
        if request.method == "PATCH":
            trouble.meddle = None
            await api.delete(PODS, "default", "one")
            await until(lambda: uid not in readiness.pods.items)
            await bare(api, "one")

    trouble.meddle = make_again
    await readiness.handle(pull(m.PullIn, 5, uid))
    assert await gates(api) == [""]


async def test_a_pod_that_went_while_its_gate_was_written_does_not_haunt_the_picture(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def answer_late(request: web.Request) -> web.Response | None:
        if request.method != "PATCH":
            return None
        body = json.loads(await request.read())
        written = await api.patch(PODS, "default", "one", body, subresource="status", content_type=STRATEGIC)
        await api.delete(PODS, "default", "one")
        await until(lambda: uid not in readiness.pods.items)
        return web.json_response(written)

    trouble.meddle = answer_late
    await readiness.handle(pull(m.PullIn, 5, uid))
    assert uid not in readiness.pods.items


async def test_every_pod_is_tried_before_a_failure_counts(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    uids = await bare(api, "bad", "good")
    await contained(readiness, 2)

    async def fail_one(request: web.Request) -> web.Response | None:
        if request.method == "PATCH" and "/pods/bad/" in request.path:
            return refusal(500, "InternalError", "etcd has a bad day")
        return None

    trouble.meddle = fail_one
    with pytest.raises(Unavailable, match="bad day"):
        await readiness.handle(pull(m.PullIn, 5, *uids))
    assert await gates(api) == ["", "True"]
    trouble.meddle = None
    await readiness.handle(pull(m.PullIn, 5, *uids))
    assert await gates(api) == ["True", "True"]


async def test_a_refused_gate_is_tried_again_later_and_names_the_pod(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def forbid(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", "no rights") if request.method == "PATCH" else None

    trouble.meddle = forbid
    with pytest.raises(Unavailable, match="gate of pod default/one: no rights"):
        await readiness.handle(pull(m.PullIn, 5, uid))


async def test_a_pod_that_never_stops_changing_is_tried_again_later(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    (uid,) = await bare(api, "one")
    await contained(readiness, 1)

    async def conflict(request: web.Request) -> web.Response | None:
        return refusal(409, "Conflict", "modified") if request.method == "PATCH" else None

    trouble.meddle = conflict
    with pytest.raises(Unavailable, match=f"pod {uid} keeps changing"):
        await readiness.handle(pull(m.PullIn, 5, uid))


# --- pods that no release claims ---


async def test_a_pod_that_no_release_claims_is_opened_without_any_command(
    readiness: Readiness, api: Client
) -> None:
    await clone(api, 2, **{cs.SEQUENCE: "4"})
    await opened(api, 2)
    pods = await api.list(PODS, "default")
    assert {condition(pod)["message"] for pod in pods} == {"sequence 4"}
    assert {condition(pod)["reason"] for pod in pods} == {"Unclaimed"}
    await contained(readiness, 2)


async def test_pods_under_a_hold_wait_and_are_opened_when_it_is_gone(
    readiness: Readiness, api: Client
) -> None:
    await clone(api, 2, **{cs.HOLD: HOLD})
    await contained(readiness, 2)
    await readiness.keeper._check(KEY)
    assert await gates(api) == ["", ""]
    await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": {cs.HOLD: None}}})
    await readiness.handle(retire(5))
    await opened(api, 2)


async def test_pods_wait_while_there_is_one_too_many_and_are_opened_soon_after(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    too_many = True

    async def add_one(request: web.Request) -> web.Response | None:
        if not too_many or not request.path.endswith("/clonesets/web"):
            return None
        body = await api.get(CLONESETS, "default", "web")
        body["status"]["replicas"] += 1
        return web.json_response(body)

    trouble.meddle = add_one
    await clone(api, 2)
    await contained(readiness, 2)
    await readiness.keeper._check(KEY)
    assert await gates(api) == ["", ""]
    too_many = False
    await opened(api, 2)


async def test_a_replacement_of_an_old_pod_is_opened_in_the_middle_of_a_batch(
    readiness: Readiness, api: Client
) -> None:
    await clone(api, 2)
    await opened(api, 2)
    old = {pod["metadata"]["name"] for pod in await api.list(PODS, "default")}
    template = {"spec": {"containers": [{"name": "main", "image": "demo:2"}]}}
    spec = {"replicas": 3, "updateStrategy": {"partition": 2}, "template": template}
    await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": {cs.HOLD: HOLD}}, "spec": spec})
    await until(lambda: len(readiness.pods.items) == 3)
    await api.delete(PODS, "default", min(old))
    found: list[tuple[str, str]] = []

    async def replaced() -> bool:
        pods = [pod for pod in await api.list(PODS, "default") if pod["metadata"]["name"] != min(old)]
        found[:] = sorted((pod["spec"]["containers"][0]["image"], gate(pod)) for pod in pods)
        return len(found) == 3 and found[:2] == [("demo:1", "True")] * 2

    await until_it(replaced)
    await contained(readiness, 3)
    await readiness.keeper._check(KEY)
    assert found[2] == ("demo:2", "")
    assert sorted(await gates(api)) == ["", "True", "True"]


async def _canary(readiness: Readiness, api: Client) -> Json:
    """Return the one pod of the batch under a hold, beside two old ones in traffic."""
    await clone(api, 2)
    await opened(api, 2)
    template = {"spec": {"containers": [{"name": "main", "image": "demo:2"}]}}
    spec = {"replicas": 3, "updateStrategy": {"partition": 2}, "template": template}
    await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": {cs.HOLD: HOLD}}, "spec": spec})
    await until(lambda: len(readiness.pods.items) == 3)
    await contained(readiness, 3)
    (canary,) = [
        pod for pod in await api.list(PODS, "default") if pod["spec"]["containers"][0]["image"] == "demo:2"
    ]
    return canary


@pytest.mark.parametrize(
    "labels",
    [
        {"app.kubernetes.io/instance": None},
        {"app.kubernetes.io/instance": "api"},
        {"app.kubernetes.io/name": None},
        {"managed-by": None},
        {kube_pods.REVISION_LABEL: None},
        {kube_pods.REVISION_LABEL: "web-another"},
    ],
    ids=lambda labels: "=".join(f"{name}={value}" for name, value in labels.items()),
)
async def test_editing_the_labels_of_a_pod_does_not_open_its_gate(
    readiness: Readiness, api: Client, labels: Json
) -> None:
    readiness.owns_every_key = True
    await api.create(CLONESETS, "default", _other_cloneset())
    canary = await _canary(readiness, api)
    name, uid = canary["metadata"]["name"], canary["metadata"]["uid"]
    await api.patch(PODS, "default", name, {"metadata": {"labels": labels}})

    def is_seen() -> bool:
        pod = readiness.pods.items.get(uid)
        return pod is None or all(pod.metadata.labels.get(key) == value for key, value in labels.items())

    await until(is_seen)
    await asyncio.sleep(2 * module.SETTLE_SECONDS)
    readiness.keeper.check_all()
    await readiness.keeper._checks.drain(5)
    assert gate(await api.get(PODS, "default", name)) == ""


def _other_cloneset() -> Json:
    """An instance at rest, to which an edited label may point."""
    labels = {**LABELS, "app.kubernetes.io/instance": "api"}
    return {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": "api", "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": gated("x")["spec"]},
        },
    }


async def test_a_gate_that_somebody_else_opens_before_the_release_does_is_closed_again(
    readiness: Readiness, api: Client
) -> None:
    canary = await _canary(readiness, api)
    name, uid = canary["metadata"]["name"], canary["metadata"]["uid"]
    body = {"status": {"conditions": [{"type": READINESS_GATE, "status": "True"}]}}
    await api.patch(PODS, "default", name, body, subresource="status", content_type=STRATEGIC)

    async def is_closed() -> bool:
        found = condition(await api.get(PODS, "default", name))
        return (found["status"], found.get("reason")) == ("False", "Held")

    await until_it(is_closed)
    await readiness.handle(pull(m.PullIn, 5, uid))
    assert gate(await api.get(PODS, "default", name)) == "True"


async def test_a_gate_of_a_pod_that_had_traffic_is_left_to_who_opens_it(
    readiness: Readiness, api: Client
) -> None:
    canary = await _canary(readiness, api)
    name, uid = canary["metadata"]["name"], canary["metadata"]["uid"]
    await readiness.handle(pull(m.PullIn, 5, uid))
    for status in ("False", "True"):
        by_hand = {"type": READINESS_GATE, "status": status, "reason": "ByHand"}
        body = {"status": {"conditions": [by_hand]}}
        await api.patch(PODS, "default", name, body, subresource="status", content_type=STRATEGIC)
        await until(partial(_is_open, readiness, uid, status == "True"))
    await asyncio.sleep(2 * module.SETTLE_SECONDS)
    await readiness.keeper._checks.drain(5)
    assert gate(await api.get(PODS, "default", name)) == "True"


def _is_open(readiness: Readiness, uid: str, expected: bool) -> bool:
    return readiness.pods.items[uid].is_true(READINESS_GATE) == expected


async def test_pods_whose_gates_somebody_else_opens_are_left_to_them(
    readiness: Readiness, api: Client
) -> None:
    await clone(api, 1, "demo:1", **{cs.NO_PULL_IN: "true"})
    await contained(readiness, 1)
    await readiness.keeper._check(KEY)
    assert await gates(api) == [""]


async def test_a_replica_opens_nothing_of_instances_that_are_not_its_own_until_they_are_assigned_to_it(
    readiness: Readiness, api: Client
) -> None:
    readiness.is_owner = False
    await clone(api)
    await contained(readiness, 1)
    await readiness.keeper._check(KEY)
    assert await gates(api) == [""]
    readiness.is_owner = True
    readiness.keeper.check_all()
    await opened(api, 1)


async def test_a_pod_pulled_out_on_purpose_is_not_opened_again_by_nobody(
    readiness: Readiness, api: Client
) -> None:
    await clone(api)
    await opened(api, 1)
    (uid,) = readiness.pods.items
    await readiness.handle(pull(m.PullOut, 9, uid))
    await readiness.keeper._check(KEY)
    assert await gates(api) == ["False"]


async def test_no_pod_of_a_batch_is_opened_between_the_surge_and_its_pull_in(
    readiness: Readiness, api: Client, trouble: Trouble
) -> None:
    await readiness.handle(surge(5))
    await clone(api, 1, "demo:1", **{cs.HOLD: HOLD})
    await contained(readiness, 1)
    await readiness.keeper._checks.drain(5)
    assert not [one for one in trouble.requests if "clonesets" in one]
    assert await gates(api) == [""]


async def test_a_pod_that_could_not_be_opened_is_checked_again_by_itself(
    readiness: Readiness, api: Client, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.05)
    requests = 0

    async def away(request: web.Request) -> web.Response | None:
        nonlocal requests
        if "clonesets" not in request.path:
            return None
        requests += 1
        return refusal(503, "ServiceUnavailable", "restarting") if requests < 3 else None

    trouble.meddle = away
    checking = asyncio.create_task(readiness.keeper.check_forever())
    await clone(api)
    await opened(api, 1)
    checking.cancel()
    await asyncio.gather(checking, return_exceptions=True)
    assert requests >= 3


async def test_pods_that_become_ready_together_are_served_by_one_read(
    readiness: Readiness, api: Client, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.3)
    await clone(api, 8)
    await opened(api, 8)
    assert len([one for one in trouble.requests if "clonesets/web" in one]) <= 2
