"""Each service turns any object of the cluster into messages, or leaves that object out: nothing else is raised."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events.documents import documents
from services.executor.cloneset_change import BadTemplate, decide_change
from services.executor.cloneset_watch import CloneSetWatch
from services.executor.stable_template import TooLarge
from services.planner.api import grpc_messages, v1_views
from services.planner.decision.apply_facts import make_flow
from services.planner.rules.history_limit import find_surplus
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, observed, resource
from services.planner.runtime.namespace_watch import Namespace, NamespaceWatch
from services.readiness.pod_facts import fact_of
from services.readiness.pod_transitions import transitions_between
from services.readiness.release_lookup import ReleaseLookup
from shared.domain import messages as m
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.object_bounds import TOO_DEEP
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, DEPLOYFLOWS, EVENTS, NAMESPACES, PODS, Client, Resource
from shared.kube.clonesets import CloneSet
from shared.kube.cluster_events import ClusterEvents, Event, Subject
from shared.kube.objects import Identity, ObjectDecoder
from shared.kube.pods import Pod
from shared.messaging.kafka import LARGEST_MESSAGE
from shared.settings import Settings
from tests.system.hostile.objects import hostile_objects, nested
from tests.unit.parts import BackgroundPublisher, MemoryKafka

COUNT = 10
"""Objects of each kind, from each seed."""
CLIENT = cast("Client", None)
TIMES = st.sampled_from(
    ["", "soon", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-01T00:00:00Z"]
)
seeds = given(st.integers(0, 2**32), TIMES)
few = settings(max_examples=8, deadline=None)


def objects(kind: Resource, seed: int, time: str) -> Iterator[bytes]:
    """Yield objects as the API server would answer them, also with times that it would refuse."""
    chosen = (hostile for hostile in hostile_objects(random.Random(seed)) if hostile.resource == kind)
    for number, hostile in enumerate(itertools.islice(chosen, COUNT)):
        body: Json = {**hostile.body, **({"status": hostile.status} if hostile.status else {})}
        meta = {"namespace": "default", "uid": f"uid-{number}", "resourceVersion": "9", "generation": 1}
        meta["creationTimestamp"] = time if number % 2 else "2026-01-01T00:00:00Z"
        body["metadata"] = {**body["metadata"], **meta}
        yield msgspec.json.encode(body)


def decoded(kind: Resource, of: type[Any], seed: int, time: str) -> Iterator[Any]:
    decoder = ObjectDecoder(kind, of)
    items = [item for raw in objects(kind, seed, time) if not isinstance(item := decoder.item(raw), Identity)]
    assert items
    yield from items


def sent(message: Any, topic: str) -> Any:
    """Return a message as it arrives, and hold that it does."""
    value = message.model_dump_json()
    assert len(value) < LARGEST_MESSAGE
    return m.ADAPTERS[topic].validate_json(value)


# --- planner ---


@few
@seeds
def test_the_planner_reads_any_deployflow(seed: int, time: str) -> None:
    flows = FlowCache(CLIENT, MemoryKafka().kafka, Settings())
    for flow in decoded(DEPLOYFLOWS, DeployFlow, seed, time):
        flows._changed(None, flow)
        fact = sent(observed(flow), "planner-facts")
        made = make_flow(fact, 1)
        assert made.outcome in {None, FlowPhase.FAILED}
        shown = {**resource(flow), "status": {"phase": "Pending", "finished": True, "version": 1}}
        # the schema of the CRD has the types of all other fields
        if made.outcome is None or made.message.startswith("spec.application.template"):
            v1_views.deploy(shown)
            grpc_messages.deploy(shown)
        find_surplus([shown, shown, shown], 1)


@few
@seeds
def test_the_planner_reads_any_namespace(seed: int, time: str) -> None:
    flows = FlowCache(CLIENT, MemoryKafka().kafka, Settings())
    watch = NamespaceWatch(CLIENT, flows, Settings())
    for namespace in decoded(NAMESPACES, Namespace, seed, time):
        watch._changed(None, namespace)
        watch.of(namespace.metadata.name)


@pytest.mark.parametrize(
    ("depth", "fails"), [(96, False), (97, True), (230, True), (260, True), (5_000, True)]
)
def test_a_deployflow_that_is_nested_too_deeply_fails_with_words(depth: int, fails: bool) -> None:
    spec: Json = {
        "action": "create",
        "application": {
            "appID": 1,
            "groupID": 2,
            "appName": "shop",
            "instanceName": "web",
            "template": {"spec": {"containers": [{"name": "a", "image": "nginx:1"}]}, "deep": "HERE"},
        },
    }
    meta = {"name": "web-1", "namespace": "default", "uid": "1", "resourceVersion": "1"}
    deep = '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)
    raw = msgspec.json.encode({"metadata": meta, "spec": spec}).replace(b'"HERE"', deep.encode())
    flow = ObjectDecoder(DEPLOYFLOWS, DeployFlow).item(raw)
    assert isinstance(flow, DeployFlow)
    made = make_flow(sent(observed(flow), "planner-facts"), 1)
    wanted = (FlowPhase.FAILED, "InvalidSpec", f"spec.application.template: {TOO_DEEP}")
    assert (made.outcome, made.reason, made.message) == (wanted if fails else (None, "", ""))


# --- executor ---

HOLD = m.Hold(flow="1", batch=1, surge=1, updated=0, others=0)
HEAD: Json = {"namespace": "default", "instance": "web", "flow": m.FlowRef(name="web-1", uid="1")}
COMMANDS: tuple[m.ExecutorCommand, ...] = (
    m.Observe(**HEAD, sequence=10**17),
    m.Surge(**HEAD, sequence=10**17, replicas=1, partition=0, accept_replicas=0, hold=HOLD, guard=True),
    m.Retire(**HEAD, sequence=10**17, replicas=1, partition=0, accept_replicas=0),
    m.Halt(**HEAD, sequence=10**17),
    m.Cancel(**HEAD, sequence=10**17, keep=0, baked=0, restore_template=True),
    m.Finish(**HEAD, sequence=10**17),
)


@few
@seeds
def test_the_executor_reads_any_cloneset(seed: int, time: str) -> None:
    watch = CloneSetWatch(CLIENT, MemoryKafka().kafka, Settings(), lambda _: True)
    published = BackgroundPublisher()
    watch.outgoing = cast("Any", published)
    before = None
    for cloneset in decoded(CLONESETS, CloneSet, seed, time):
        watch._publish_change(before, cloneset)
        watch._publish_change(cloneset, None)
        before = cloneset
    for message in published.messages:
        sent(message, m.TOPIC_OF[type(message)])
        if isinstance(message, m.CloneSetEvent):
            documents(message, 1)


@few
@seeds
def test_the_executor_changes_any_cloneset_or_refuses(seed: int, time: str) -> None:
    for cloneset in decoded(CLONESETS, CloneSet, seed, time):
        for command in COMMANDS:
            try:
                decide_change(command, cloneset, [], {})
            except (BadTemplate, TooLarge, Unavailable):
                continue


# --- readiness ---


@few
@seeds
def test_readiness_reads_any_pod(seed: int, time: str) -> None:
    releases = ReleaseLookup()
    before = None
    for pod in decoded(PODS, Pod, seed, time):
        reached = transitions_between(None, pod, 1, {}) + transitions_between(before, pod, 1, {})
        fact = fact_of(pod).model_copy(update={"transitions": reached, "flow": releases.find(pod)})
        gone = m.PodGone(uid=fact.uid, name=fact.name, last=fact)
        seen = m.PodsSeen(namespace="default", instance="web", pods=[fact], gone=[gone], at=1, app=pod.app)
        sent(seen, "phase-events")
        assert (pod.drained, pod.drain_after, pod.gate) is not None
        before = pod


# --- Events ---


@few
@seeds
def test_any_event_of_the_cluster_becomes_a_message(seed: int, time: str) -> None:
    published = BackgroundPublisher()
    subject = Subject(Key("default", "web"), None, m.AppRef())
    events = ClusterEvents(
        CLIENT,
        "Pod",
        lambda _: subject,
        lambda _: True,
        cast("Any", published),
        namespaces=[],
        silence_seconds=1,
    )
    for event in decoded(EVENTS, Event, seed, time):
        events._passes(None, event)
    for message in published.messages:
        sent(message, "cluster-events")
    assert published.messages


# --- any JSON at all ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
KINDS = (
    (DEPLOYFLOWS, DeployFlow),
    (CLONESETS, CloneSet),
    (PODS, Pod),
    (EVENTS, Event),
    (NAMESPACES, Namespace),
)


@pytest.mark.parametrize(("kind", "of"), KINDS)
@settings(max_examples=30, deadline=None)
@given(body=JSON, meta=JSON, spec=JSON, status=JSON)
def test_any_json_is_an_object_or_left_out(
    kind: Resource, of: type[Any], body: Any, meta: Any, spec: Any, status: Any
) -> None:
    decoder: ObjectDecoder[Any] = ObjectDecoder(kind, of)
    for value in (
        body,
        {"metadata": meta, "spec": spec, "status": status},
        {"metadata": {}, "spec": nested(300)},
    ):
        page = decoder.page(msgspec.json.encode({"metadata": {}, "items": [value]}))
        assert len(page.items) + len(page.unread) == 1
