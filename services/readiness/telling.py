"""Tells the facts about pods: those of one instance within a few milliseconds travel in one message.

What a message costs whoever reads it grows with the instance, so the time does too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from services.readiness.facts import UNTOLD, Detail, fact_of
from shared.messages import PodFact, PodGone, PodsSeen
from shared.outgoing import Outgoing
from shared.pods import Pod
from shared.topics import Key

LARGEST: Final = 1_000
"""Facts in one message: about half a megabyte, below Kafka's limit of one."""
SECONDS_PER_POD: Final = 0.0002
"""How much longer than for a small instance facts are gathered: a tenth of a second for 500 pods."""


class Telling:
    """Publishes what changed of the pods of this replica's instances, each fact once."""

    def __init__(
        self,
        outgoing: Outgoing,
        owns: Callable[[Key], bool],
        *,
        coalesce_ms: int,
        detail: Callable[[Pod], Detail] = lambda _: UNTOLD,
    ) -> None:
        self._outgoing = outgoing
        self._owns = owns
        self._detail = detail
        self._delay = coalesce_ms / 1000
        self._told: dict[Key, dict[str, PodFact]] = {}
        self._changed: dict[Key, dict[str, PodFact | PodGone]] = {}

    def tell(self, old: Pod | None, new: Pod | None) -> None:
        """A pod changed, appeared (`old` is None) or is gone (`new` is None)."""
        pod = new or old
        if pod is None or not pod.key.instance or not self._owns(pod.key):
            return
        uid, key = pod.metadata.uid, pod.key
        told = self._told.setdefault(key, {})
        fact: PodFact | PodGone
        if new is None:
            fact = PodGone(uid=uid, name=pod.metadata.name)
            told.pop(uid, None)
        else:
            fact = fact_of(new, self._detail(new))
            if told.get(uid) == fact:
                return
            told[uid] = fact
            fact = _dated(fact, new)
        if key not in self._changed:
            self._changed[key] = {}
            delay = self._delay + SECONDS_PER_POD * len(told)
            asyncio.get_running_loop().call_later(delay, self._flush, key)
        self._changed[key][uid] = fact
        if not told:
            del self._told[key]

    def _flush(self, key: Key) -> None:
        changed = self._changed.pop(key)
        facts = [fact for fact in changed.values() if isinstance(fact, PodFact)]
        gone = [fact for fact in changed.values() if isinstance(fact, PodGone)]
        self._publish(key, facts, gone, complete=False)

    def tell_all(self, pods: Iterable[Pod]) -> None:
        """The current state of all of this replica's instances, after it was given new partitions."""
        instances: dict[Key, list[PodFact]] = {}
        self._told.clear()
        for pod in pods:
            if pod.key.instance and self._owns(pod.key):
                fact = fact_of(pod, self._detail(pod))
                self._told.setdefault(pod.key, {})[fact.uid] = fact
                instances.setdefault(pod.key, []).append(_dated(fact, pod))
        for key, facts in instances.items():
            self._publish(key, facts, [], complete=len(facts) <= LARGEST)

    def _publish(self, key: Key, facts: list[PodFact], gone: list[PodGone], *, complete: bool) -> None:
        at = time.time_ns() // 1_000_000
        for start in range(0, max(len(facts), len(gone), 1), LARGEST):
            self._outgoing.put(
                PodsSeen(
                    namespace=key.namespace,
                    instance=key.instance,
                    pods=facts[start : start + LARGEST],
                    gone=gone[start : start + LARGEST],
                    complete=complete,
                    at=at,
                )
            )


def _dated(fact: PodFact, pod: Pod) -> PodFact:
    """With the version of the pod, by which a fact that comes late is known; a version alone is no news."""
    version = pod.metadata.resource_version
    return fact.model_copy(update={"version": int(version)}) if version.isdecimal() else fact
