"""Telling: facts travel together, each once, and only those of this replica's instances."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from services.readiness import telling as module
from services.readiness.telling import Telling
from shared.domain.messages import AppRef, FlowRef, PodFact, PodsSeen
from shared.domain.topics import Key
from shared.messaging import background_publisher
from tests.unit.parts import BackgroundPublisher, until
from tests.unit.readiness.samples import UP, conditions, pod

FLOW = FlowRef(name="web-2", uid="flow-2", batch=1)
READY = {"phase": "Running", "conditions": conditions(ContainersReady=True, Ready=True)}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Told:
    """A telling and what came of it."""

    def __init__(self, window_ms: int = 5) -> None:
        self.mine = {"web"}
        self._outgoing = BackgroundPublisher()
        self.telling = Telling(
            cast("background_publisher.BackgroundPublisher", self._outgoing),
            self._owns,
            coalesce_ms=window_ms,
            release=lambda _: FLOW,
        )

    def _owns(self, key: Key) -> bool:
        return key.instance in self.mine

    @property
    def messages(self) -> list[PodsSeen]:
        return self._outgoing.messages

    async def next(self, count: int = 1) -> list[PodsSeen]:
        await until(lambda: len(self.messages) >= count)
        return self.messages


def names(message: PodsSeen) -> list[str]:
    return sorted(fact.name for fact in message.pods)


async def test_facts_of_one_instance_within_the_window_travel_in_one_message() -> None:
    told = Told()
    for name in ("a", "b", "c"):
        told.telling.tell(None, pod(name))
    assert told.messages == []
    (message,) = await told.next()
    assert names(message) == ["a", "b", "c"]
    assert (message.namespace, message.instance, message.complete) == ("default", "web", False)


async def test_instances_never_share_a_message() -> None:
    told = Told()
    told.mine = {"web", "api"}
    told.telling.tell(None, pod("a"))
    told.telling.tell(None, pod("b", instance="api"))
    messages = await told.next(2)
    assert sorted((message.instance, *names(message)) for message in messages) == [("api", "b"), ("web", "a")]


async def test_of_several_changes_within_the_window_the_last_one_is_told() -> None:
    told = Told()
    for status in ({}, UP, READY):
        told.telling.tell(None, pod("a", status))
    (message,) = await told.next()
    assert [str(fact.phase) for fact in message.pods] == ["Ready"]


async def test_a_pod_that_changed_in_nothing_that_counts_is_not_told_again() -> None:
    told = Told()
    told.telling.tell(None, pod("a", UP))
    await told.next()
    told.telling.tell(pod("a", UP), pod("a", UP, resourceVersion="2"))
    told.telling.tell(None, pod("b", UP))
    messages = await told.next(2)
    assert names(messages[1]) == ["b"]


async def test_a_pod_that_is_gone_is_told_by_its_uid_also_when_it_came_and_went_within_the_window() -> None:
    told = Told()
    told.telling.tell(None, pod("a"))
    told.telling.tell(pod("a"), None)
    (message,) = await told.next()
    assert (message.pods, [pod.uid for pod in message.gone]) == ([], ["uid-a"])


async def test_a_pod_that_comes_back_after_it_was_gone_is_told_again() -> None:
    told = Told()
    told.telling.tell(None, pod("a"))
    await told.next()
    told.telling.tell(pod("a"), None)
    await told.next(2)
    told.telling.tell(None, pod("a"))
    assert names((await told.next(3))[2]) == ["a"]


async def test_nothing_is_told_of_other_replicas_instances_or_of_pods_without_one() -> None:
    told = Told()
    told.telling.tell(None, pod("a", instance="api"))
    told.telling.tell(None, pod("b", instance=""))
    told.telling.tell(None, pod("c"))
    (message,) = await told.next()
    assert names(message) == ["c"]


async def test_a_newly_given_partition_is_told_completely_though_all_of_it_was_told_before() -> None:
    told = Told()
    told.telling.tell(None, pod("a"))
    await told.next()
    told.telling.tell_all([pod("a"), pod("b"), pod("c", instance="api")])
    message = told.messages[1]
    assert (names(message), message.complete) == (["a", "b"], True)
    assert len(told.messages) == 2


async def test_after_a_complete_telling_only_changes_follow() -> None:
    told = Told()
    told.telling.tell_all([pod("a")])
    told.telling.tell(pod("a"), pod("a", resourceVersion="2"))
    told.telling.tell(pod("a"), pod("a", UP))
    messages = await told.next(2)
    assert [fact.phase for fact in messages[1].pods] == ["ContainersReady"]
    assert len(messages) == 2


async def test_what_is_more_than_one_message_holds_is_split_and_never_called_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST", 2)
    told = Told()
    told.telling.tell_all([pod(name) for name in "abcde"])
    assert [names(message) for message in told.messages] == [["a", "b"], ["c", "d"], ["e"]]
    assert not any(message.complete for message in told.messages)


async def test_a_window_of_no_time_tells_at_once() -> None:
    told = Told(window_ms=0)
    told.telling.tell(None, pod("a"))
    async with asyncio.timeout(1):
        await told.next()
    assert names(told.messages[0]) == ["a"]


async def test_a_fact_has_the_version_of_its_pod_and_a_new_version_alone_is_not_told() -> None:
    told = Told()
    told.telling.tell(None, pod("a", resourceVersion="7"))
    told.telling.tell_all([pod("b", resourceVersion="8")])
    messages = await told.next(2)
    assert sorted(fact.version for message in messages for fact in message.pods) == [7, 8]
    told.telling.tell(None, pod("b", resourceVersion="9"))
    told.telling.tell(None, pod("b", READY, resourceVersion="10"))
    messages = await told.next(3)
    assert [(len(message.pods), message.pods[0].version) for message in messages[2:]] == [(1, 10)]


# --- what pods have come to ------------------------------------------------------------------------------


def came(fact: PodFact | None) -> list[str]:
    assert fact is not None
    return [transition.name for transition in fact.transitions]


async def test_all_that_a_pod_came_to_within_the_window_is_told_with_the_release_that_it_belongs_to() -> None:
    told = Told()
    told.telling.tell(None, pod("a", creationTimestamp=now()))
    told.telling.tell(pod("a"), pod("a", UP))
    (message,) = await told.next()
    (fact,) = message.pods
    assert came(fact) == ["created", "started", "containers-ready"]
    assert (fact.flow, message.app) == (FLOW, AppRef(name="shop", app_id=1, group_id=2))


async def test_what_was_told_is_not_told_again_with_the_next_change() -> None:
    told = Told()
    told.telling.tell(None, pod("a", creationTimestamp=now()))
    await told.next()
    told.telling.tell(pod("a"), pod("a", UP))
    assert came((await told.next(2))[1].pods[0]) == ["started", "containers-ready"]


async def test_a_pod_that_came_and_went_within_the_window_is_told_whole() -> None:
    told = Told()
    told.telling.tell(None, pod("a", creationTimestamp=now()))
    told.telling.tell(pod("a"), pod("a", deletionTimestamp=now()))
    told.telling.tell(pod("a", deletionTimestamp=now()), None)
    (message,) = await told.next()
    (gone,) = message.gone
    assert came(gone.last) == ["created", "terminating"]
    assert gone.last is not None
    assert gone.last.flow == FLOW
    assert 0 < gone.since <= gone.at


async def test_after_a_rebalance_what_is_long_ago_is_not_told_again() -> None:
    told = Told()
    scheduled = {"conditions": conditions(PodScheduled=True)}
    told.telling.tell_all([pod("old", scheduled), pod("new", creationTimestamp=now())])
    state, ways = told.messages
    assert (names(state), state.complete) == (["new", "old"], True)
    assert {fact.name: came(fact) for fact in state.pods} == {"old": [], "new": []}
    assert {fact.name: came(fact) for fact in ways.pods} == {"new": ["created"]}
    assert not ways.complete


async def test_an_instance_of_young_pods_is_complete_in_one_message_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST", 3)
    told = Told()
    told.telling.tell_all([pod(name, UP, creationTimestamp=now()) for name in "abc"])
    state, *ways = told.messages
    assert (names(state), state.complete) == (["a", "b", "c"], True)
    assert [names(message) for message in ways] == [["a"], ["b"], ["c"]]


async def test_a_pod_that_went_while_nobody_had_its_partition_is_told_by_who_gets_it() -> None:
    told = Told()
    told.mine = set()
    told.telling.tell(None, pod("a"))
    told.telling.tell(pod("a"), None)
    told.telling.tell(pod("b", instance="api"), None)
    told.telling.tell_all([])
    assert told.messages == []
    told.mine = {"web"}
    told.telling.tell_all([])
    told.telling.tell_all([])
    (message,) = told.messages
    assert [gone.name for gone in message.gone] == ["a"]


async def test_what_has_much_to_tell_travels_in_more_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 4)
    told = Told()
    for name in ("a", "b"):
        told.telling.tell(None, pod(name, UP, creationTimestamp=now()))
    first, second = await told.next(2)
    assert (names(first), names(second)) == (["a"], ["b"])
