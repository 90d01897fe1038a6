"""Tells the facts about pods: those of one instance within a few milliseconds travel in one message.

What a message costs whoever reads it grows with the instance, so the time does too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from services.readiness.facts import UNASSIGNED, Detail, fact_of
from services.readiness.transitions import ending, transitions
from shared.clock import now_milliseconds
from shared.domain.messages import AppRef, FlowRef, PodFact, PodGone, PodsSeen, PodTransition, Transition
from shared.domain.topics import Key
from shared.kube.pods import Pod
from shared.messaging.background_publisher import BackgroundPublisher

LARGEST: Final = 1_000
"""Facts and transitions in one message: about half a megabyte, below Kafka's limit of one."""
MISSED: Final = 5_000
MISSED_MS: Final = 300_000
"""How many pods that went while another replica, or none, had their partition are kept in mind, and for how long:
until a rebalance is over."""
SECONDS_PER_POD: Final = 0.0002
"""How much longer than for a small instance facts are gathered: a tenth of a second for 500 pods."""


T = TypeVar("T", PodFact, PodGone)


class Telling:
    """Publishes what changed of the pods of this replica's instances, each fact once."""

    def __init__(
        self,
        outgoing: BackgroundPublisher,
        owns: Callable[[Key], bool],
        *,
        coalesce_ms: int,
        detail: Callable[[Pod], Detail] = lambda _: UNASSIGNED,
        release: Callable[[Pod], FlowRef | None] = lambda _: None,
    ) -> None:
        self._outgoing = outgoing
        self._owns = owns
        self._detail = detail
        self._release = release
        self._delay = coalesce_ms / 1000
        self._told: dict[Key, dict[str, PodFact]] = {}
        self._changed: dict[Key, dict[str, PodFact | PodGone]] = {}
        self._came: dict[str, list[Transition]] = {}
        """By uid: what pods have come to since they were told last."""
        self._times: dict[str, dict[str, int]] = {}
        """By uid, of pods on their way into traffic or to their end: when they came to what."""
        self._missed: deque[tuple[int, Pod]] = deque(maxlen=MISSED)

    def tell(self, old: Pod | None, new: Pod | None) -> None:
        """A pod changed, appeared (`old` is None) or is gone (`new` is None)."""
        pod = new or old
        if pod is None or not pod.key.instance:
            return
        if not self._owns(pod.key):
            if new is None:
                self._miss(pod)
            return
        uid, key = pod.metadata.uid, pod.key
        told = self._told.setdefault(key, {})
        fact: PodFact | PodGone
        if new is None:
            fact = self._gone(pod, now_milliseconds())
            told.pop(uid, None)
        else:
            fact = fact_of(new, self._detail(new))
            came = self._come_to(old, new)
            if told.get(uid) == fact and not came:
                return
            told[uid] = fact
            self._came.setdefault(uid, []).extend(came)
            fact = _dated(fact, new)
        if key not in self._changed:
            self._changed[key] = {}
            delay = self._delay + SECONDS_PER_POD * len(told)
            asyncio.get_running_loop().call_later(delay, self._flush, key, pod.app)
        self._changed[key][uid] = self._with_release(fact, pod)
        if not told:
            del self._told[key]

    def _come_to(self, old: Pod | None, new: Pod) -> list[Transition]:
        uid = new.metadata.uid
        times = self._times.setdefault(uid, {})
        came = transitions(old, new, now_milliseconds(), times)
        times |= {transition.name: transition.at for transition in came}
        if (PodTransition.READY in times and not new.deleting) or not times:
            # from now on its own conditions are near enough
            del self._times[uid]
        return came

    def _gone(self, pod: Pod, at: int) -> PodGone:
        meta = pod.metadata
        since = self._times.pop(meta.uid, {}).get(PodTransition.TERMINATING, 0) or ending(pod)
        return PodGone(uid=meta.uid, name=meta.name, at=at, since=since, last=fact_of(pod))

    def _with_release(self, fact: PodFact | PodGone, pod: Pod) -> PodFact | PodGone:
        """With the release, where there is something for the log; decided now, when it has just happened."""
        if isinstance(fact, PodFact):
            if not self._came.get(fact.uid):
                return fact
            return fact.model_copy(update={"flow": self._release(pod)})
        assert fact.last is not None
        last = fact.last.model_copy(update={"flow": self._release(pod)})
        return fact.model_copy(update={"last": last})

    def _flush(self, key: Key, app: AppRef) -> None:
        changed = self._changed.pop(key)
        facts = [self._complete(fact) for fact in changed.values() if isinstance(fact, PodFact)]
        gone = [
            fact.model_copy(update={"last": self._complete(fact.last)})
            for fact in changed.values()
            if isinstance(fact, PodGone) and fact.last
        ]
        self._publish(key, app, facts, gone, complete=False)

    def _complete(self, fact: PodFact) -> PodFact:
        came = self._came.pop(fact.uid, None)
        return fact.model_copy(update={"transitions": came}) if came else fact

    def tell_all(self, pods: Iterable[Pod]) -> None:
        """The current state of all of this replica's instances, after it was given new partitions."""
        instances: dict[Key, list[PodFact]] = {}
        ways: dict[Key, list[PodFact]] = {}
        apps: dict[Key, AppRef] = {}
        self._told.clear()
        self._times.clear()
        for pod in pods:
            if pod.key.instance and self._owns(pod.key):
                fact = fact_of(pod, self._detail(pod))
                self._told.setdefault(pod.key, {})[fact.uid] = fact
                fact = _dated(fact, pod)
                instances.setdefault(pod.key, []).append(fact)
                if came := transitions(None, pod, now_milliseconds(), {}):
                    way = fact.model_copy(update={"transitions": came, "flow": self._release(pod)})
                    ways.setdefault(pod.key, []).append(way)
                apps[pod.key] = pod.app
        for key, facts in instances.items():
            self._publish(key, apps[key], facts, [], complete=True)
        # apart: with what only the log needs, fewer instances would be complete in one message
        for key, facts in ways.items():
            self._publish(key, apps[key], facts, [], complete=False)
        self._tell_missed()

    def _miss(self, pod: Pod) -> None:
        now = now_milliseconds()
        while self._missed and self._missed[0][0] < now - MISSED_MS:
            self._missed.popleft()
        self._missed.append((now, pod))

    def _tell_missed(self) -> None:
        """The pods that went while their partition was on its way to this replica; told twice it is once."""
        missed, self._missed = self._missed, deque(maxlen=MISSED)
        for at, pod in missed:
            if self._owns(pod.key):
                gone = self._with_release(self._gone(pod, at), pod)
                assert isinstance(gone, PodGone)
                self._publish(pod.key, pod.app, [], [gone], complete=False)
            else:
                self._missed.append((at, pod))

    def _publish(
        self, key: Key, app: AppRef, facts: list[PodFact], gone: list[PodGone], *, complete: bool
    ) -> None:
        at = now_milliseconds()
        if sum(map(_size, facts)) + sum(map(_size, gone)) <= LARGEST:
            self._put(key, app, facts, gone, at, complete=complete)
            return
        for part in _parts(facts):
            self._put(key, app, part, [], at)
        for some in _parts(gone):
            self._put(key, app, [], some, at)

    def _put(
        self,
        key: Key,
        app: AppRef,
        facts: list[PodFact],
        gone: list[PodGone],
        at: int,
        *,
        complete: bool = False,
    ) -> None:
        seen = PodsSeen(
            namespace=key.namespace,
            instance=key.instance,
            pods=facts,
            gone=gone,
            complete=complete,
            at=at,
            app=app,
        )
        self._outgoing.put(seen)


def _size(told: PodFact | PodGone) -> int:
    fact = told if isinstance(told, PodFact) else told.last
    return 1 + (len(fact.transitions) if fact else 0)


def _parts(items: Sequence[T]) -> Iterator[list[T]]:
    """Cut at `LARGEST`."""
    part: list[T] = []
    full = 0
    for item in items:
        if part and full + _size(item) > LARGEST:
            yield part
            part, full = [], 0
        part.append(item)
        full += _size(item)
    if part:
        yield part


def _dated(fact: PodFact, pod: Pod) -> PodFact:
    """With the version of the pod, by which a fact that comes late is known; a version alone is no news."""
    version = pod.metadata.resource_version
    return fact.model_copy(update={"version": int(version)}) if version.isdecimal() else fact
