"""Publishing: facts travel together, each once, and only those of this replica's instances."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from services.readiness import fact_publisher as module
from services.readiness.fact_publisher import FactPublisher, in_halves
from services.readiness.pod_facts import fact_of
from shared.domain.messages import AppRef, FlowRef, PodFact, PodGone, PodsSeen
from shared.domain.topics import Key
from shared.errors import Fault
from shared.kube.pods import Pod
from shared.messaging import background_publisher
from tests.unit.parts import BackgroundPublisher, until
from tests.unit.readiness.samples import UP, conditions, pod

FLOW = FlowRef(name="web-2", uid="flow-2", batch=1)
READY = {"phase": "Running", "conditions": conditions(ContainersReady=True, Ready=True)}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Publication:
    """A publisher and its messages."""

    def __init__(self, window_ms: int = 5) -> None:
        self.owned = {"web"}
        self._outgoing = BackgroundPublisher()
        self.publisher = FactPublisher(
            cast("background_publisher.BackgroundPublisher", self._outgoing),
            self._owns,
            coalesce_ms=window_ms,
            release=lambda _: FLOW,
        )

    def _owns(self, key: Key) -> bool:
        return key.instance in self.owned

    @property
    def messages(self) -> list[PodsSeen]:
        return self._outgoing.messages

    async def next(self, count: int = 1) -> list[PodsSeen]:
        await until(lambda: len(self.messages) >= count)
        return self.messages


def names(message: PodsSeen) -> list[str]:
    return sorted(fact.name for fact in message.pods)


async def test_facts_of_one_instance_within_the_window_travel_in_one_message() -> None:
    published = Publication()
    for name in ("a", "b", "c"):
        published.publisher.pod_changed(None, pod(name))
    assert published.messages == []
    (message,) = await published.next()
    assert names(message) == ["a", "b", "c"]
    assert (message.namespace, message.instance, message.complete) == ("default", "web", False)


async def test_instances_never_share_a_message() -> None:
    published = Publication()
    published.owned = {"web", "api"}
    published.publisher.pod_changed(None, pod("a"))
    published.publisher.pod_changed(None, pod("b", instance="api"))
    messages = await published.next(2)
    assert sorted((message.instance, *names(message)) for message in messages) == [("api", "b"), ("web", "a")]


async def test_of_several_changes_within_the_window_the_last_one_is_reported() -> None:
    published = Publication()
    for status in ({}, UP, READY):
        published.publisher.pod_changed(None, pod("a", status))
    (message,) = await published.next()
    assert [str(fact.phase) for fact in message.pods] == ["Ready"]


async def test_a_pod_that_changed_in_nothing_that_counts_is_not_reported_again() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", UP))
    await published.next()
    published.publisher.pod_changed(pod("a", UP), pod("a", UP, resourceVersion="2"))
    published.publisher.pod_changed(None, pod("b", UP))
    messages = await published.next(2)
    assert names(messages[1]) == ["b"]


async def test_a_pod_that_is_gone_is_reported_by_its_uid_also_when_it_came_and_went_within_the_window() -> (
    None
):
    published = Publication()
    published.publisher.pod_changed(None, pod("a"))
    published.publisher.pod_changed(pod("a"), None)
    (message,) = await published.next()
    assert (message.pods, [pod.uid for pod in message.gone]) == ([], ["uid-a"])


EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        pytest.param(pod("a", EVICTED), "Evicted", id="evicted"),
        pytest.param(pod("a", UP, instance=""), "Released", id="its label is taken off"),
        pytest.param(pod("a", UP, ownerReferences=[]), "Released", id="it has no owner any more"),
    ],
)
async def test_a_pod_that_leaves_the_instance_is_reported_as_gone_once(after: Pod, reason: str) -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", UP))
    await published.next()
    published.publisher.pod_changed(pod("a", UP), after)
    published.publisher.pod_changed(after, after)
    published.publisher.pod_changed(None, pod("b", UP))
    await published.next(2)
    (gone,) = published.messages[1].gone
    assert (gone.uid, gone.left, names(published.messages[1])) == ("uid-a", True, ["b"])
    assert gone.last is not None
    assert [(t.name, t.reason) for t in gone.last.transitions][-1] == ("left", reason)
    published.publisher.publish_all([after, pod("b", UP)])
    assert [names(message) for message in published.messages[2:] if message.complete] == [["b"]]


async def test_an_instance_whose_last_pod_has_ended_is_reported_without_pods() -> None:
    published = Publication()
    published.publisher.publish_all([pod("a", EVICTED)])
    (message,) = await published.next()
    assert (message.complete, message.pods) == (True, [])


async def test_a_pod_that_comes_back_after_it_was_gone_is_reported_again() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a"))
    await published.next()
    published.publisher.pod_changed(pod("a"), None)
    await published.next(2)
    published.publisher.pod_changed(None, pod("a"))
    assert names((await published.next(3))[2]) == ["a"]


async def test_nothing_is_reported_of_other_replicas_instances_or_of_pods_without_one() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", instance="api"))
    published.publisher.pod_changed(None, pod("b", instance=""))
    published.publisher.pod_changed(None, pod("c"))
    (message,) = await published.next()
    assert names(message) == ["c"]


async def test_a_newly_assigned_partition_is_reported_completely_though_all_of_it_was_reported_before() -> (
    None
):
    published = Publication()
    published.publisher.pod_changed(None, pod("a"))
    await published.next()
    published.publisher.publish_all([pod("a"), pod("b"), pod("c", instance="api")])
    message = published.messages[1]
    assert (names(message), message.complete) == (["a", "b"], True)
    assert len(published.messages) == 2


async def test_an_instance_whose_last_pods_went_unseen_is_reported_without_pods() -> None:
    published = Publication()
    known = {Key("default", name): AppRef(name=name) for name in ("web", "stopped")}
    published.publisher.publish_all([pod("a")], known)
    states = {message.instance: (names(message), message.complete) for message in published.messages}
    assert states == {"web": (["a"], True), "stopped": ([], True)}


async def test_after_a_complete_report_only_changes_follow() -> None:
    published = Publication()
    published.publisher.publish_all([pod("a")])
    published.publisher.pod_changed(pod("a"), pod("a", resourceVersion="2"))
    published.publisher.pod_changed(pod("a"), pod("a", UP))
    messages = await published.next(2)
    assert [fact.phase for fact in messages[1].pods] == ["ContainersReady"]
    assert len(messages) == 2


async def test_what_is_more_than_one_message_holds_is_split_and_never_called_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST", 2)
    published = Publication()
    published.publisher.publish_all([pod(name) for name in "abcde"])
    assert [names(message) for message in published.messages] == [["a", "b"], ["c", "d"], ["e"]]
    assert not any(message.complete for message in published.messages)


async def test_a_window_of_no_time_reports_at_once() -> None:
    published = Publication(window_ms=0)
    published.publisher.pod_changed(None, pod("a"))
    async with asyncio.timeout(1):
        await published.next()
    assert names(published.messages[0]) == ["a"]


async def test_a_fact_has_the_version_of_its_pod_and_a_new_version_alone_is_not_reported() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", resourceVersion="7"))
    published.publisher.publish_all([pod("b", resourceVersion="8")])
    messages = await published.next(2)
    assert sorted(fact.version for message in messages for fact in message.pods) == [7, 8]
    published.publisher.pod_changed(None, pod("b", resourceVersion="9"))
    published.publisher.pod_changed(None, pod("b", READY, resourceVersion="10"))
    messages = await published.next(3)
    assert [(len(message.pods), message.pods[0].version) for message in messages[2:]] == [(1, 10)]


# --- what pods have come to ------------------------------------------------------------------------------


def came(fact: PodFact | None) -> list[str]:
    assert fact is not None
    return [transition.name for transition in fact.transitions]


async def test_all_transitions_of_a_pod_within_the_window_are_reported_with_their_release() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", creationTimestamp=now()))
    published.publisher.pod_changed(pod("a"), pod("a", UP))
    (message,) = await published.next()
    (fact,) = message.pods
    assert came(fact) == ["created", "started", "containers-ready"]
    assert (fact.flow, message.app) == (FLOW, AppRef(name="shop", app_id=1, group_id=2))


async def test_what_was_reported_is_not_reported_again_with_the_next_change() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", creationTimestamp=now()))
    await published.next()
    published.publisher.pod_changed(pod("a"), pod("a", UP))
    assert came((await published.next(2))[1].pods[0]) == ["started", "containers-ready"]


async def test_a_pod_that_came_and_went_within_the_window_is_reported_whole() -> None:
    published = Publication()
    published.publisher.pod_changed(None, pod("a", creationTimestamp=now()))
    published.publisher.pod_changed(pod("a"), pod("a", deletionTimestamp=now()))
    published.publisher.pod_changed(pod("a", deletionTimestamp=now()), None)
    (message,) = await published.next()
    (gone,) = message.gone
    assert came(gone.last) == ["created", "terminating"]
    assert gone.last is not None
    assert gone.last.flow == FLOW
    assert 0 < gone.since <= gone.at


async def test_after_a_rebalance_what_is_long_ago_is_not_reported_again() -> None:
    published = Publication()
    scheduled = {"conditions": conditions(PodScheduled=True)}
    published.publisher.publish_all([pod("old", scheduled), pod("new", creationTimestamp=now())])
    state, ways = published.messages
    assert (names(state), state.complete) == (["new", "old"], True)
    assert {fact.name: came(fact) for fact in state.pods} == {"old": [], "new": []}
    assert {fact.name: came(fact) for fact in ways.pods} == {"new": ["created"]}
    assert not ways.complete


async def test_an_instance_of_young_pods_is_complete_in_one_message_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST", 3)
    published = Publication()
    published.publisher.publish_all([pod(name, UP, creationTimestamp=now()) for name in "abc"])
    state, *ways = published.messages
    assert (names(state), state.complete) == (["a", "b", "c"], True)
    assert [names(message) for message in ways] == [["a"], ["b"], ["c"]]


async def test_a_pod_that_went_while_nobody_had_its_partition_is_reported_by_who_gets_it() -> None:
    published = Publication()
    published.owned = set()
    published.publisher.pod_changed(None, pod("a"))
    published.publisher.pod_changed(pod("a"), None)
    published.publisher.pod_changed(pod("b", instance="api"), None)
    published.publisher.publish_all([])
    assert published.messages == []
    published.owned = {"web"}
    published.publisher.publish_all([])
    published.publisher.publish_all([])
    (message,) = published.messages
    assert [gone.name for gone in message.gone] == ["a"]


async def test_many_facts_travel_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 4)
    published = Publication()
    for name in ("a", "b"):
        published.publisher.pod_changed(None, pod(name, UP, creationTimestamp=now()))
    first, second = await published.next(2)
    assert (names(first), names(second)) == (["a"], ["b"])


@pytest.mark.parametrize(("facts", "ended"), [(4, 3), (1, 1), (0, 2), (7, 0)])
async def test_what_kafka_refuses_is_published_in_halves(facts: int, ended: int) -> None:
    pods = [pod(f"web-{number}", conditions=UP) for number in range(facts)]
    whole = PodsSeen(
        namespace="shop",
        instance="web",
        pods=[fact_of(one) for one in pods],
        gone=[PodGone(uid=f"gone-{number}", name=f"gone-{number}", at=1) for number in range(ended)],
        complete=True,
        at=1,
    )
    halves = cast("list[PodsSeen]", in_halves(whole, Fault("TooLarge", "")))
    assert len(halves) == 2
    assert [*halves[0].pods, *halves[1].pods] == whole.pods
    assert [*halves[0].gone, *halves[1].gone] == whole.gone
    assert all(half.pods or half.gone for half in halves)
    assert not any(half.complete for half in halves)
    assert in_halves(halves[0].model_copy(update={"pods": whole.pods[:1], "gone": []}), Fault("", "")) == []
