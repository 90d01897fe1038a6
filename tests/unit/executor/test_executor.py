"""The executor on a real API server: what it writes, what it answers, what it publishes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from sandbox.kubernetes import Cluster
from services.executor import cluster_reader as module
from services.executor.adoption import Adoption
from services.executor.cloneset_watch import CloneSetWatch
from services.executor.command_handler import CommandHandler
from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.errors import Poison, Unavailable
from shared.kube import clonesets as cs
from shared.kube.client import CLONESETS, CRDS, DEPLOYFLOWS, PODS, STRATEGIC, Client
from shared.kube.crd import crd
from shared.settings import Settings
from tests.unit.events.samples import cluster_event
from tests.unit.parts import KEY, MemoryKafka, Trouble, application, record, refusal, until, until_it

DEFINITION = crd()
HOLD = m.Hold(flow="?", batch=1, surge=1, updated=0, others=0)


class Owner:
    """The instances that this replica owns, in the place of the consumer."""

    def __init__(self) -> None:
        self.keys = {str(KEY)}

    def owns(self, key: str) -> bool:
        return key in self.keys


class Executor:
    """Handler and watch, as `app` wires them."""

    def __init__(self, client: Client, kafka: MemoryKafka, settings: Settings, owner: Owner) -> None:
        self.watch = CloneSetWatch(client, kafka.kafka, settings, owner.owns)
        self.reflector = self.watch.reflector
        adoption = Adoption(client, self.reflector)
        self.watch.on_change = adoption.cloneset_changed
        self.handle = CommandHandler(client, kafka.kafka, settings, self.reflector, adoption).handle


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def executor(client: Client, kafka: MemoryKafka, owner: Owner) -> AsyncIterator[Executor]:
    executor = Executor(client, kafka, Settings(namespaces=["default"]), owner)
    tasks = [
        asyncio.create_task(executor.reflector.run()),
        asyncio.create_task(executor.watch.outgoing.run()),
    ]
    async with asyncio.timeout(10):
        await executor.reflector.synced.wait()
    yield executor
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def flow(api: Client) -> m.FlowRef:
    await api.create(CRDS, None, DEFINITION)
    spec: Json = {"action": "create", "application": application()}
    obj = {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": "web-df"},
        "spec": spec,
    }
    made = await api.create(DEPLOYFLOWS, "default", obj)
    return m.FlowRef(name="web-df", uid=made["metadata"]["uid"])


async def test_nothing_is_written_in_a_namespace_that_this_triton_does_not_manage(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, api: Client
) -> None:
    answer = await answer_to(executor, kafka, create(flow).model_copy(update={"namespace": "kube-system"}))
    assert (type(answer), answer.reason) == (m.Refused, "NotLookedAfter")
    assert await api.list(CLONESETS, "kube-system") == []


@pytest.mark.parametrize(
    "names", [{"namespace": ""}, {"instance": "x}"}, {"namespace": "../x"}, {"instance": "A"}]
)
async def test_a_command_about_what_can_not_exist_is_put_aside_and_asks_the_server_nothing(
    executor: Executor, trouble: Trouble, flow: m.FlowRef, names: Json
) -> None:
    before = len(trouble.requests)
    with pytest.raises(Poison, match="is no name of an object"):
        await executor.handle(str(KEY), [record(create(flow).model_copy(update=names))])
    assert len(trouble.requests) == before


async def test_an_answer_that_kafka_refuses_fails_the_release(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef
) -> None:
    kafka.refuses = lambda message: isinstance(message, m.Done)
    answer = await answer_to(executor, kafka, create(flow))
    assert (type(answer), answer.sequence, answer.reason) == (m.Refused, 1, "TooLarge")
    assert "the answer to surge: its message has 9 bytes; the topic takes 8" in answer.message


def surge(sequence: int, flow: m.FlowRef, **more: Any) -> m.Surge:
    fields: Json = {"replicas": 2, "partition": 0, "hold": HOLD, "application": application(), **more}
    return m.Surge(namespace="default", instance="web", sequence=sequence, flow=flow, **fields)


def create(flow: m.FlowRef, sequence: int = 1) -> m.Surge:
    return surge(sequence, flow, create=True)


def command(kind: type[m.Command], sequence: int, flow: m.FlowRef, **more: Any) -> Any:
    return kind(namespace="default", instance="web", sequence=sequence, flow=flow, **more)


async def answer_to(executor: Executor, kafka: MemoryKafka, *commands: m.Command) -> Any:
    """Return the answer to the last of the commands."""
    for one in commands:
        await executor.handle(str(KEY), [record(one)])
    answers = [
        one for one in kafka.published if isinstance(one, m.Result) and not isinstance(one, m.CloneSetSeen)
    ]
    return answers[-1]


async def live(api: Client) -> Json:
    return await api.get(CLONESETS, "default", "web")


async def settled(api: Client) -> Json:
    found: Json = {}

    async def caught_up() -> bool:
        nonlocal found
        found = await live(api)
        return bool(found.get("status", {}).get("observedGeneration", 0) >= found["metadata"]["generation"])

    await until_it(caught_up)
    return found


async def pods(api: Client, count: int) -> list[Json]:
    found: list[Json] = []

    async def there() -> bool:
        nonlocal found
        found = await api.list(PODS, "default")
        return len(found) == count

    await until_it(there)
    return found


# --- the road of a release ---


async def test_a_create_is_done_and_seen_once_the_controller_has_caught_up(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    said = await answer_to(executor, kafka, create(flow))
    assert isinstance(said, m.Done)
    assert (said.cloneset.exists, said.cloneset.sequence, said.pods) == (True, 1, [])
    await until(lambda: kafka.of(m.CloneSetSeen))
    seen = kafka.of(m.CloneSetSeen)[0]
    assert seen.sequence == 1
    assert seen.cloneset.settled
    assert seen.cloneset.update_revision
    assert kafka.published.index(said) < kafka.published.index(seen)
    assert len(await pods(api, 2)) == 2


async def test_a_command_finds_the_write_of_the_one_before_without_waiting_for_the_watch(
    kafka: MemoryKafka, client: Client, owner: Owner, flow: m.FlowRef, trouble: Trouble
) -> None:
    blind = Executor(client, kafka, Settings(), owner)
    said = await answer_to(blind, kafka, create(flow), surge(2, flow, replicas=3, accept_replicas=2))
    assert (said.cloneset.sequence, said.cloneset.replicas) == (2, 3)
    made = next(n for n, one in enumerate(trouble.requests) if one.startswith("POST"))
    after = [one.split()[0] for one in trouble.requests[made:] if "/clonesets" in one]
    assert after[:2] == ["POST", "PATCH"]


async def test_the_done_of_a_surge_names_the_pods_from_before_it(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))
    old = {pod["metadata"]["uid"] for pod in await pods(api, 2)}
    await settled(api)
    wider = surge(2, flow, replicas=3, hold=HOLD.model_copy(update={"batch": 2}), accept_replicas=2)
    said = await answer_to(executor, kafka, wider)
    assert {pod.uid for pod in said.pods} == old
    await pods(api, 3)
    again = await answer_to(executor, kafka, wider)
    # the three wait for the same gate: which were there before is known by nobody but the first answer
    assert {pod.uid for pod in again.pods} <= old


async def test_a_command_that_comes_twice_is_written_once_and_answered_twice(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, api: Client
) -> None:
    await answer_to(executor, kafka, create(flow))
    before = (await settled(api))["metadata"]["generation"]
    said = await answer_to(executor, kafka, create(flow))
    assert isinstance(said, m.Done)
    assert (await live(api))["metadata"]["generation"] == before
    assert len(kafka.of(m.Done)) == 2


async def test_an_answer_that_kafka_did_not_take_is_sent_when_the_command_comes_again(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef
) -> None:
    kafka.away = True
    with pytest.raises(Unavailable):
        await executor.handle(str(KEY), [record(create(flow))])
    kafka.away = False
    assert isinstance(await answer_to(executor, kafka, create(flow)), m.Done)


async def test_a_whole_update_leaves_the_cloneset_as_its_owner_would_have_it(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow), command(m.Finish, 2, flow))
    old = await pods(api, 2)
    wider = surge(3, flow, replicas=3, partition=2, application=application("demo:2"))
    await answer_to(executor, kafka, wider)
    await pods(api, 3)
    named = [pod["metadata"]["uid"] for pod in old]
    said = await answer_to(executor, kafka, command(m.Retire, 4, flow, replicas=1, partition=0, retire=named))
    assert isinstance(said, m.Done)
    left = await pods(api, 1)
    assert left[0]["spec"]["containers"][0]["image"] == "demo:2"
    await answer_to(executor, kafka, command(m.Finish, 5, flow))
    strategy = (await live(api))["spec"]["updateStrategy"]
    assert (strategy["paused"], strategy["partition"], strategy.get("maxSurge") or 0) == (False, 0, 0)


# --- observe and the dry run ---


@pytest.mark.parametrize(("image", "same"), [("demo:1", True), ("demo:2", False)])
async def test_observe_says_truthfully_whether_the_cloneset_has_that_template(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, image: str, same: bool
) -> None:
    await answer_to(executor, kafka, create(flow))
    before = await settled(api)
    said = await answer_to(executor, kafka, command(m.Observe, 2, flow, application=application(image)))
    assert said.same_template is same
    change = m.ImageChange(container="main", from_image="demo:1", to_image="demo:2")
    assert said.images == ([] if same else [change])
    assert (await live(api))["spec"] == before["spec"]


async def test_observe_reads_live_what_the_watch_has_not_brought(
    kafka: MemoryKafka, client: Client, api: Client, owner: Owner, flow: m.FlowRef
) -> None:
    blind = Executor(client, kafka, Settings(), owner)
    await answer_to(blind, kafka, create(flow))
    await api.patch(CLONESETS, "default", "web", {"spec": {"replicas": 4}})
    assert (await answer_to(blind, kafka, command(m.Observe, 2, flow))).cloneset.replicas == 4


BROKEN = {
    "metadata": {},
    "spec": {"containers": [{"name": "main", "image": "a"}, {"name": "main", "image": "b"}]},
}


@pytest.mark.parametrize("exists", [False, True])
async def test_a_template_that_the_server_refuses_is_refused_in_its_words_and_nothing_is_written(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, exists: bool
) -> None:
    if exists:
        await answer_to(executor, kafka, create(flow))
        await settled(api)
    said = await answer_to(
        executor, kafka, command(m.Observe, 2, flow, application=application(template=BROKEN))
    )
    assert isinstance(said, m.Refused)
    assert "spec.template.spec.containers[1].name" in said.message
    assert len(await api.list(CLONESETS, "default")) == int(exists)


async def test_a_template_of_the_wrong_shape_is_refused_by_its_field(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef
) -> None:
    odd = application()
    odd["template"]["metadata"] = "web"
    said = await answer_to(executor, kafka, command(m.Observe, 1, flow, application=odd))
    assert (said.reason, "application.template.metadata" in said.message) == ("InvalidTemplate", True)


# --- what is refused, and what is waited for ---


async def test_no_cloneset_is_made_for_a_release_that_has_finished(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await api.patch(DEPLOYFLOWS, "default", "web-df", {"status": {"finished": True}}, subresource="status")
    said = await answer_to(executor, kafka, create(flow))
    assert said.reason == "FlowFinished"
    assert await api.list(CLONESETS, "default") == []


@pytest.mark.parametrize(
    "ref", [m.FlowRef(name="nobody", uid="x"), m.FlowRef(name="web-df", uid="an earlier one")]
)
async def test_no_cloneset_is_made_for_a_release_that_is_deleted_or_was_recreated(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, ref: m.FlowRef
) -> None:
    assert flow.uid != ref.uid
    assert (await answer_to(executor, kafka, create(ref))).reason == "FlowFinished"
    assert await api.list(CLONESETS, "default") == []


@pytest.mark.parametrize(
    ("change", "attempts"),
    [
        ({"metadata": {"labels": {"by": "somebody"}}}, 1),
        ({"metadata": {"labels": {"by": "somebody"}}, "spec": {"minReadySeconds": 1}}, 2),
    ],
    ids=["not the spec", "the spec"],
)
async def test_a_change_in_between_stays_and_one_of_the_spec_is_read_before_it_is_written_upon(
    executor: Executor,
    kafka: MemoryKafka,
    api: Client,
    flow: m.FlowRef,
    trouble: Trouble,
    change: dict[str, Any],
    attempts: int,
) -> None:
    await answer_to(executor, kafka, create(flow))
    await settled(api)
    tried = 0

    async def change_it_first(request: web.Request) -> None:
        nonlocal tried
        tried += request.method == "PATCH"
        if request.method == "PATCH" and tried == 1:
            await api.patch(CLONESETS, "default", "web", change)

    trouble.meddle = change_it_first
    said = await answer_to(executor, kafka, surge(2, flow, replicas=3, accept_replicas=2))
    assert isinstance(said, m.Done)
    found = await live(api)
    assert (found["spec"]["replicas"], found["metadata"]["labels"]["by"]) == (3, "somebody")
    assert tried == attempts


async def test_a_lower_sequence_loses_also_when_the_higher_one_came_in_between(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, trouble: Trouble
) -> None:
    await answer_to(executor, kafka, create(flow))

    async def write_higher_first(request: web.Request) -> None:
        if request.method == "PATCH":
            await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": {cs.SEQUENCE: "9"}}})

    trouble.meddle = write_higher_first
    said = await answer_to(executor, kafka, surge(2, flow, replicas=5, accept_replicas=2))
    assert isinstance(said, m.Superseded)
    assert said.current == 9
    assert (await live(api))["spec"]["replicas"] == 2


async def test_a_cloneset_that_never_stops_changing_is_tried_again_later(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble
) -> None:
    await answer_to(executor, kafka, create(flow))

    async def conflict(request: web.Request) -> web.Response | None:
        return refusal(409, "Conflict", "it has been modified") if request.method == "PATCH" else None

    trouble.meddle = conflict
    with pytest.raises(Unavailable, match="CloneSet default/web keeps changing"):
        await answer_to(executor, kafka, surge(2, flow, accept_replicas=2))


async def test_a_cloneset_deleted_under_the_release_is_reported_as_not_found(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))
    await api.delete(CLONESETS, "default", "web")
    said = await answer_to(executor, kafka, surge(2, flow, accept_replicas=2, application=None))
    assert said.reason == "NotFound"


async def test_a_command_in_a_namespace_that_is_gone_is_answered(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble
) -> None:
    """A command comes again after its namespace was deleted: nothing behind it may wait for that."""

    async def gone(request: web.Request) -> web.Response | None:
        words = 'namespaces "default" not found'
        return refusal(404, "NotFound", words) if request.method == "POST" else None

    trouble.meddle = gone
    for todo in (create(flow), command(m.Observe, 2, flow, application=application())):
        said = await answer_to(executor, kafka, todo)
        assert (type(said), said.reason) == (m.Refused, "NotFound")


async def test_a_pod_that_goes_between_the_list_and_the_write_fails_nothing(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble
) -> None:
    await answer_to(executor, kafka, create(flow))
    refused = 0

    async def refuse(request: web.Request) -> web.Response | None:
        nonlocal refused
        if request.method != "PATCH" or refused:
            return None
        refused += 1
        denied = 'admission webhook "vcloneset.kb.io" denied the request: spec.scaleStrategy.podsToDelete: Invalid value'
        return refusal(422, "", f'{denied}: "web-x": find pod web-x already terminating')

    trouble.meddle = refuse
    said = await answer_to(executor, kafka, surge(2, flow, accept_replicas=2, application=None))
    assert (type(said), refused) == (m.Done, 1)


@pytest.mark.parametrize("code", [401, 403])
async def test_missing_rights_are_waited_for_and_say_what_to_give(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble, code: int
) -> None:
    words = 'clonesets.apps.kruise.io is forbidden: User "executor" cannot create resource "clonesets"'

    async def forbid(request: web.Request) -> web.Response | None:
        return refusal(code, "Forbidden", words) if request.method == "POST" else None

    trouble.meddle = forbid
    with pytest.raises(Unavailable, match="give the executor the rights of deploy/rbac"):
        await answer_to(executor, kafka, create(flow))
    trouble.meddle = None
    assert isinstance(await answer_to(executor, kafka, create(flow)), m.Done)


async def test_a_webhooks_no_is_an_answer_and_no_missing_right(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble
) -> None:
    words = 'admission webhook "policy.example" denied the request: no releases on Fridays'

    async def deny(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", words) if request.method == "POST" else None

    trouble.meddle = deny
    said = await answer_to(executor, kafka, create(flow))
    assert (said.reason, said.message) == ("Forbidden", words)


async def test_a_server_that_is_overloaded_is_waited_for(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef, trouble: Trouble
) -> None:
    async def overload(request: web.Request) -> web.Response | None:
        return refusal(429, "TooManyRequests", "slow down") if request.method == "POST" else None

    trouble.meddle = overload
    with pytest.raises(Unavailable, match="slow down"):
        await answer_to(executor, kafka, create(flow))


async def test_gate_commands_are_left_to_readiness(
    executor: Executor, kafka: MemoryKafka, flow: m.FlowRef
) -> None:
    await executor.handle(str(KEY), [record(command(m.PullIn, 1, flow, uids=["a"]))])
    await executor.handle(str(KEY), [record(command(m.PullOut, 2, flow, uids=["a"]))])
    assert kafka.published == []


# --- which pods are the CloneSet's ---


async def test_pods_that_are_not_the_clonesets_or_have_ended_are_not_counted(
    executor: Executor,
    kafka: MemoryKafka,
    api: Client,
    flow: m.FlowRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await answer_to(executor, kafka, create(flow))

    async def running() -> bool:  # a pod that starts would write over its eviction
        return all(pod["status"].get("phase") == "Running" for pod in await pods(api, 2))

    await until_it(running)
    first, second = await pods(api, 2)
    stranger = {
        "metadata": {"name": "stranger", "labels": first["metadata"]["labels"]},
        "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
    }
    await api.create(PODS, "default", stranger)
    evicted = {"status": {"phase": "Failed", "reason": "Evicted"}}
    name = first["metadata"]["name"]
    await api.patch(PODS, "default", name, evicted, subresource="status", content_type=STRATEGIC)
    await pods(api, 4)  # the evicted one, its replacement, the other one, the stranger
    said = await answer_to(executor, kafka, command(m.Observe, 2, flow))
    names = [pod.name for pod in said.pods]
    assert len(names) == 2
    assert second["metadata"]["name"] in names
    assert name not in names
    assert "stranger" not in names
    await answer_to(executor, kafka, command(m.Halt, 3, flow))
    assert (await live(api))["spec"]["replicas"] == 2


# --- what it publishes by itself ---


async def test_a_change_by_somebody_else_is_published_as_such_and_once(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))
    await settled(api)
    await api.patch(CLONESETS, "default", "web", {"spec": {"replicas": 3}})
    await until(lambda: any(seen.cloneset.replicas == 3 for seen in kafka.of(m.CloneSetSeen)))
    events = [event for event in kafka.of(m.CloneSetEvent) if event.reason == "SpecChanged"]
    assert [event.message for event in events] == [
        "replicas 2, partition 0 by command 1",
        "replicas 3, partition 0 by somebody else",
    ]
    assert len({event.id for event in events}) == 2
    assert executor.reflector.get("default", "web") is not None


async def test_counts_that_change_are_published_with_the_release_that_they_belong_to(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))

    def events() -> list[m.CloneSetEvent]:
        return [event for event in kafka.of(m.CloneSetEvent) if event.reason == "StatusChanged"]

    await until(lambda: events() and events()[-1].cloneset.status_replicas == 2)
    assert {event.flow for event in events()} == {flow}
    assert {event.app.name for event in events()} == {"shop"}
    assert len({event.id for event in events()}) == len(events())
    last = events()[-1]
    assert last.message == f"2 pods, 2 of revision {last.cloneset.update_revision}"


async def test_a_deleted_cloneset_is_published(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))
    await api.delete(CLONESETS, "default", "web")
    await until(lambda: any(event.reason == "Deleted" for event in kafka.of(m.CloneSetEvent)))
    await until(lambda: any(not seen.cloneset.exists for seen in kafka.of(m.CloneSetSeen)))


async def test_the_latest_event_about_a_cloneset_is_published_with_it_if_it_is_a_warning(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, create(flow))
    uid = (await settled(api))["metadata"]["uid"]
    await until(lambda: kafka.of(m.CloneSetSeen))

    def note(at: int, message: str, *, warning: bool = True) -> None:
        about = {"namespace": "default", "kind": "CloneSet", "name": "web", "uid": uid}
        event = cluster_event(**about, at=at, warning=warning, reason="FailedCreate", message=message)
        executor.watch.note_event(event)

    def shown() -> list[tuple[int, str]]:
        seen = [(seen.cloneset.warned_at, seen.cloneset.warning) for seen in kafka.of(m.CloneSetSeen)]
        return [one for one in dict.fromkeys(seen) if one != (0, "")]

    note(5000, 'failed to create pod: exceeded quota, pod: {"metadata": {}}')
    note(5001, 'failed to create pod: exceeded quota, pod: {"metadata": {}}')
    note(4000, "an earlier one")
    note(6000, "succeed to create pod", warning=False)
    await until(lambda: len(shown()) >= 2)
    assert shown() == [(5000, "FailedCreate: failed to create pod: exceeded quota"), (6000, "")]


async def test_a_replica_publishes_nothing_of_instances_of_others_until_they_are_assigned_to_it(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, owner: Owner
) -> None:
    owner.keys = set()
    await answer_to(executor, kafka, create(flow))
    version = (await settled(api))["metadata"]["resourceVersion"]

    def followed() -> bool:
        known = executor.reflector.get("default", "web")
        return known is not None and int(known.metadata.resource_version) >= int(version)

    await until(followed)
    assert [type(message) for message in kafka.published] == [m.Done]
    owner.keys = {str(KEY)}
    executor.watch.publish_all()
    await until(lambda: kafka.of(m.CloneSetSeen))
    assert kafka.of(m.CloneSetSeen)[0].sequence == 1


async def test_a_cloneset_with_scribbled_annotations_does_not_stop_the_executor(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef, cluster: Cluster
) -> None:
    await answer_to(executor, kafka, create(flow))
    scribbles = {cs.SEQUENCE: "soon", cs.HOLD: "{", cs.REPLICAS: "many"}
    await api.patch(CLONESETS, "default", "web", {"metadata": {"annotations": scribbles}})
    said = await answer_to(executor, kafka, surge(2, flow, replicas=3, accept_replicas=2))
    assert isinstance(said, m.Done)
    await until(lambda: any(seen.sequence == 2 for seen in kafka.of(m.CloneSetSeen)))
    assert cluster.url


# --- templates that are too large for an annotation ---


def large(image: str) -> Json:
    """An application with a template of 300 KB."""
    app = application(image)
    app["template"]["spec"]["containers"][0]["env"] = [{"name": "BIG", "value": "x" * 300_000}]
    return app


async def test_a_large_template_is_updated_and_a_cancel_brings_it_back(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, surge(1, flow, create=True, application=large("demo:1")))
    before = await settled(api)
    observed = await answer_to(executor, kafka, command(m.Observe, 2, flow, application=large("demo:2")))
    assert (type(observed), observed.same_template) == (m.Done, False)
    target = {"application": large("demo:2"), "replicas": 3, "partition": 2, "accept_replicas": 2}
    said = await answer_to(executor, kafka, surge(3, flow, **target))
    assert isinstance(said, m.Done)
    began = await settled(api)
    assert began["spec"]["template"]["spec"]["containers"][0]["image"] == "demo:2"
    assert began["metadata"]["annotations"][cs.STABLE_REVISION] == before["status"]["updateRevision"]
    cancel = command(m.Cancel, 4, flow, keep=2, baked=0, restore_template=True)
    assert isinstance(await answer_to(executor, kafka, cancel), m.Done)
    over = await settled(api)
    assert over["spec"]["template"] == before["spec"]["template"]
    assert over["status"]["updateRevision"] == before["status"]["updateRevision"]
    assert cs.STABLE_REVISION not in over["metadata"]["annotations"]


async def test_a_large_template_that_nobody_keeps_is_refused_before_anything_is_written(
    executor: Executor, kafka: MemoryKafka, api: Client, flow: m.FlowRef
) -> None:
    await answer_to(executor, kafka, surge(1, flow, create=True, application=large("demo:1")))
    await api.patch(CLONESETS, "default", "web", {"spec": {"revisionHistoryLimit": 0}})
    before = await settled(api)
    said = await answer_to(executor, kafka, command(m.Observe, 2, flow, application=large("demo:2")))
    assert (said.type, said.reason) == ("refused", "TooLarge")
    assert "revisionHistoryLimit" in said.message
    assert (await live(api))["metadata"]["generation"] == before["metadata"]["generation"]
