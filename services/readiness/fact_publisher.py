"""Publishes facts about pods, those of one instance within a few milliseconds in one message.

The cost of reading a message grows with the instance, so the window grows too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from services.readiness.pod_facts import NO_DETAIL, Detail, fact_of
from services.readiness.pod_transitions import (
    deletion_began_at,
    departure_of,
    has_left,
    transitions_between,
)
from shared.clock import now_milliseconds
from shared.domain.messages import (
    AppRef,
    FlowRef,
    Message,
    PodFact,
    PodGone,
    PodsSeen,
    PodTransition,
    Transition,
)
from shared.domain.topics import Key
from shared.errors import Fault
from shared.kube.pods import Pod
from shared.messaging.background_publisher import BackgroundPublisher

LARGEST: Final = 1_000
"""Facts and transitions in one message: about half a megabyte, below Kafka's limit of one."""
MISSED: Final = 5_000
MISSED_MS: Final = 300_000
"""How many pods that were deleted while another replica, or none, owned their partition are remembered, and for how
long: a rebalance has finished by then."""
SECONDS_PER_POD: Final = 0.0002
"""How much each pod of an instance lengthens its window: 0.1 s for 500 pods."""


_NONE: Final[Mapping[Key, AppRef]] = {}
T = TypeVar("T", PodFact, PodGone)


class FactPublisher:
    """Publishes the changes of the pods of this replica's instances, each fact once."""

    def __init__(
        self,
        outgoing: BackgroundPublisher,
        owns: Callable[[Key], bool],
        *,
        coalesce_ms: int,
        detail: Callable[[Pod], Detail] = lambda _: NO_DETAIL,
        release: Callable[[Pod], FlowRef | None] = lambda _: None,
    ) -> None:
        self._outgoing = outgoing
        self._owns = owns
        self._detail = detail
        self._release = release
        self._delay = coalesce_ms / 1000
        self._published: dict[Key, dict[str, PodFact]] = {}
        self._changed: dict[Key, dict[str, PodFact | PodGone]] = {}
        self._transitions: dict[str, list[Transition]] = {}
        """The transitions of pods since their last message, by uid."""
        self._times: dict[str, dict[str, int]] = {}
        """The times (ms) of the transitions of pods before their first Ready or during their deletion, by uid."""
        self._missed: deque[tuple[int, Pod]] = deque(maxlen=MISSED)

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Note that a pod changed, appeared (`old` is None) or was deleted (`new` is None), and publish it soon.

        One that has ended, or belongs to another instance or to none, is published as gone, once.
        """
        left = old is not None and new is not None and has_left(old, new)
        pod = old if left else new or old
        if pod is None or not pod.key.instance or (new is not None and new.ended and not left):
            return
        if not self._owns(pod.key):
            if new is None:
                self._remember_missed(pod)
            return
        uid, key = pod.metadata.uid, pod.key
        published = self._published.setdefault(key, {})
        fact: PodFact | PodGone
        if left and old is not None and new is not None:
            fact = self._departure(old, new)
            published.pop(uid, None)
        elif new is None:
            fact = self._deletion(pod, now_milliseconds())
            published.pop(uid, None)
        else:
            fact = fact_of(new, self._detail(new))
            reached = self._new_transitions(old, new)
            if published.get(uid) == fact and not reached:
                return
            published[uid] = fact
            self._transitions.setdefault(uid, []).extend(reached)
            fact = _with_version(fact, new)
        if key not in self._changed:
            self._changed[key] = {}
            delay = self._delay + SECONDS_PER_POD * len(published)
            asyncio.get_running_loop().call_later(delay, self._flush, key, pod.app)
        self._changed[key][uid] = self._with_release(fact, pod)
        if not published:
            del self._published[key]

    def _new_transitions(self, old: Pod | None, new: Pod) -> list[Transition]:
        uid = new.metadata.uid
        times = self._times.setdefault(uid, {})
        reached = transitions_between(old, new, now_milliseconds(), times)
        times |= {transition.name: transition.at for transition in reached}
        if (PodTransition.READY in times and not new.deleting) or not times:
            # its own conditions are precise enough from now on
            del self._times[uid]
        return reached

    def _deletion(self, pod: Pod, at: int) -> PodGone:
        meta = pod.metadata
        since = self._times.pop(meta.uid, {}).get(PodTransition.TERMINATING, 0) or deletion_began_at(pod)
        return PodGone(uid=meta.uid, name=meta.name, at=at, since=since, last=fact_of(pod))

    def _departure(self, old: Pod, new: Pod) -> PodGone:
        now = now_milliseconds()
        times = self._times.pop(new.metadata.uid, {})
        reached = [*transitions_between(old, new, now, times), departure_of(new, now)]
        self._transitions.setdefault(new.metadata.uid, []).extend(reached)
        return PodGone(
            uid=new.metadata.uid,
            name=new.metadata.name,
            at=now,
            last=fact_of(new, self._detail(old)),
            left=True,
        )

    def _with_release(self, fact: PodFact | PodGone, pod: Pod) -> PodFact | PodGone:
        """Add the release if there is something for the log. Decided now: later the pod may belong to another one."""
        if isinstance(fact, PodFact):
            if not self._transitions.get(fact.uid):
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
        reached = self._transitions.pop(fact.uid, None)
        return fact.model_copy(update={"transitions": reached}) if reached else fact

    def publish_all(self, pods: Iterable[Pod], known: Mapping[Key, AppRef] = _NONE) -> None:
        """Publish the current state of all of this replica's instances, after a rebalance.

        `known`: instances that exist. Where one has no pod, that is published: its last ones may have gone while no
        readiness service ran, and a release may wait for their end.
        """
        instances: dict[Key, list[PodFact]] = {}
        for_the_log: dict[Key, list[PodFact]] = {}
        apps: dict[Key, AppRef] = {}
        self._published.clear()
        self._times.clear()
        for pod in pods:
            if pod.key.instance and self._owns(pod.key):
                instances.setdefault(pod.key, [])
                apps[pod.key] = pod.app
                if pod.ended:
                    continue
                fact = fact_of(pod, self._detail(pod))
                self._published.setdefault(pod.key, {})[fact.uid] = fact
                fact = _with_version(fact, pod)
                instances[pod.key].append(fact)
                if reached := transitions_between(None, pod, now_milliseconds(), {}):
                    with_transitions = fact.model_copy(
                        update={"transitions": reached, "flow": self._release(pod)}
                    )
                    for_the_log.setdefault(pod.key, []).append(with_transitions)
        for key, facts in instances.items():
            self._publish(key, apps[key], facts, [], complete=True)
        for key in known.keys() - instances.keys():
            self._publish(key, known[key], [], [], complete=True)
        # in messages of their own: with the transitions, fewer instances would fit into one complete message
        for key, facts in for_the_log.items():
            self._publish(key, apps[key], facts, [], complete=False)
        self._publish_missed()

    def _remember_missed(self, pod: Pod) -> None:
        now = now_milliseconds()
        while self._missed and self._missed[0][0] < now - MISSED_MS:
            self._missed.popleft()
        self._missed.append((now, pod))

    def _publish_missed(self) -> None:
        """Publish pods that were deleted while their partition moved to this replica; a duplicate is harmless."""
        missed, self._missed = self._missed, deque(maxlen=MISSED)
        for at, pod in missed:
            if self._owns(pod.key):
                gone = self._with_release(self._deletion(pod, at), pod)
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
        for gone_part in _parts(gone):
            self._put(key, app, [], gone_part, at)

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


def in_halves(message: Message, _: Fault) -> list[Message]:
    """Return two messages instead of one that is too large for Kafka; nothing where it has one pod alone."""
    if not isinstance(message, PodsSeen) or len(message.pods) + len(message.gone) <= 1:
        return []
    half = (len(message.pods) + len(message.gone)) // 2
    gone = max(half - len(message.pods), 0)
    return [
        message.model_copy(
            update={"pods": message.pods[:half], "gone": message.gone[:gone], "complete": False}
        ),
        message.model_copy(
            update={"pods": message.pods[half:], "gone": message.gone[gone:], "complete": False}
        ),
    ]


def _size(published: PodFact | PodGone) -> int:
    fact = published if isinstance(published, PodFact) else published.last
    return 1 + (len(fact.transitions) if fact else 0)


def _parts(items: Sequence[T]) -> Iterator[list[T]]:
    """Split into parts of at most `LARGEST`."""
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


def _with_version(fact: PodFact, pod: Pod) -> PodFact:
    """Add the pod's version, which exposes late facts. Added last: a new version alone is no reason to publish."""
    version = pod.metadata.resource_version
    return fact.model_copy(update={"version": int(version)}) if version.isdecimal() else fact
