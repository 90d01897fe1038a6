"""Watches CloneSets and publishes their changes: to the planner as CloneSetSeen, to the log as CloneSetEvent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from shared.clock import now_milliseconds
from shared.domain import messages as m
from shared.domain.topics import Key
from shared.kube.client import CLONESETS, Client
from shared.kube.clonesets import CloneSet, facts_of
from shared.kube.cluster_events import LONGEST_MESSAGE, Involved, Subject
from shared.kube.reflector import Reflector
from shared.messaging.background_publisher import BackgroundPublisher
from shared.messaging.kafka import Kafka
from shared.settings import Settings

SAME_WARNING_MS: Final = 10_000
"""A warning with the same text is published again after so long."""
LONGEST_WARNING: Final = 300


class _Warning(NamedTuple):
    """The latest Event about a CloneSet: when, in ms, and the text of a warning; empty for any other Event."""

    at: int
    text: str


_NO_WARNING: Final = _Warning(0, "")


def _warning_of(event: m.ClusterEvent) -> str:
    """Return `FailedCreate: failed to create pod: …`, without the whole pod that OpenKruise writes behind it."""
    return f"{event.reason}: {event.message.partition(', pod: {')[0]}"[:LONGEST_WARNING]


class CloneSetWatch:
    """Publishes the changes of the CloneSets that this replica `owns`, by `namespace/instance`."""

    def __init__(self, client: Client, kafka: Kafka, settings: Settings, owns: Callable[[str], bool]) -> None:
        self._owns = owns
        self._published: dict[str, object] = {}
        """The fingerprint of the last CloneSetSeen, by uid."""
        self._warnings: dict[str, _Warning] = {}
        """By uid."""
        self.outgoing = BackgroundPublisher(kafka)
        self.on_change: Callable[[CloneSet], None] = lambda _: None
        """Called with each owned CloneSet that appeared or changed."""
        self.reflector = Reflector(
            client,
            CLONESETS,
            CloneSet,
            self._publish_change,
            namespaces=settings.namespaces,
            labels="managed-by=triton-io",
            silence_seconds=settings.watch_silence_seconds,
        )

    def subject(self, involved: Involved) -> Subject | None:
        """Return the instance and the release that a Kubernetes Event about a CloneSet belongs to."""
        live = self._find(involved.namespace, involved.name, involved.uid)
        if live is None:
            return None
        return Subject(Key(involved.namespace, involved.name), live.release, live.app)

    def _find(self, namespace: str, name: str, uid: str) -> CloneSet | None:
        live = self.reflector.get(namespace, name)
        return live if live is not None and live.metadata.uid == uid else None

    def publish_all(self) -> None:
        """Publish the current state of every owned CloneSet, after a rebalance."""
        self._published.clear()
        for cloneset in self.reflector.items.values():
            if cloneset.sequence:
                self._publish_change(None, cloneset)

    def note_event(self, event: m.ClusterEvent) -> None:
        """Publish what OpenKruise cannot do; its next Event without a warning ends it."""
        before = self._warnings.get(event.uid, _NO_WARNING)
        text = _warning_of(event) if event.warning else ""
        if event.at < before.at or (text == before.text and event.at < before.at + SAME_WARNING_MS):
            return
        cloneset = self._find(event.namespace, event.name, event.uid)
        if cloneset is None:
            return
        self._warnings[event.uid] = _Warning(event.at, text)
        self._publish_seen(Key(event.namespace, event.name), cloneset, deleted=False)

    def _publish_change(self, old: CloneSet | None, new: CloneSet | None) -> None:
        cloneset = new or old
        if cloneset is None:
            return
        key = Key(cloneset.metadata.namespace, cloneset.metadata.name)
        if not self._owns(str(key)):
            return
        if new is not None:
            self.on_change(new)
        self._publish_seen(key, cloneset, deleted=new is None)
        self._publish_events(key, cloneset, old, new)

    def _publish_seen(self, key: Key, cloneset: CloneSet, *, deleted: bool) -> None:
        head: Any = {**key._asdict(), "sequence": cloneset.sequence}
        uid = cloneset.metadata.uid
        if deleted:
            self._published.pop(uid, None)
            self._warnings.pop(uid, None)
            if cloneset.sequence:
                self.outgoing.put(m.CloneSetSeen(**head, cloneset=facts_of(None)))
        elif (cloneset.settled or cloneset.deleting) and cloneset.sequence:
            warning = self._warnings.get(uid, _NO_WARNING)
            fingerprint = (_fingerprint(cloneset), warning)
            if self._published.get(uid) != fingerprint:
                self._published[uid] = fingerprint
                said = {"warned_at": warning.at, "warning": warning.text}
                self.outgoing.put(m.CloneSetSeen(**head, cloneset=facts_of(cloneset).model_copy(update=said)))

    def _publish_events(
        self, key: Key, cloneset: CloneSet, old: CloneSet | None, new: CloneSet | None
    ) -> None:
        for change in _log_changes(old, new):
            self.outgoing.put(
                m.CloneSetEvent(
                    namespace=key.namespace,
                    instance=key.instance,
                    id=f"{cloneset.metadata.uid}:{change.reason}:{change.id}",
                    at=now_milliseconds(),
                    reason=change.reason,
                    message=change.message[:LONGEST_MESSAGE],
                    cloneset=facts_of(cloneset),
                    flow=cloneset.release or (old.release if old else None),
                    app=cloneset.app,
                )
            )


def _fingerprint(cloneset: CloneSet) -> object:
    """Return the part of a CloneSet that the planner waits for: the command that its controller has reached, its end."""
    held_by = tuple(cloneset.metadata.finalizers) if cloneset.deleting else None
    return (cloneset.sequence, cloneset.status.update_revision, cloneset.spec.replicas, held_by)


class _LogChange(NamedTuple):
    """A change for the log; `id` is unique among the changes of one CloneSet with the same reason."""

    reason: str
    id: str
    message: str


def _log_changes(old: CloneSet | None, new: CloneSet | None) -> Iterator[_LogChange]:
    if new is None:
        yield _LogChange(
            "Deleted", "end", "the CloneSet no longer exists, or has lost the label managed-by=triton-io"
        )
        return
    by_command = old is None or old.sequence != new.sequence
    if old is None or by_command or _wanted_pods(old) != _wanted_pods(new):
        spec = f"replicas {new.spec.replicas}, partition {new.spec.update_strategy.get('partition', 0)}"
        author = f" by command {new.sequence}" if by_command else " by somebody else"
        yield _LogChange("SpecChanged", f"{new.metadata.generation}.{new.sequence}", spec + author)
    if old is not None and _counts(old) != _counts(new):
        status = new.status
        text = f"{status.replicas} pods, {status.updated_replicas} of revision {status.update_revision}"
        yield _LogChange("StatusChanged", new.metadata.resource_version, text)


def _counts(cloneset: CloneSet) -> object:
    return msgspec.structs.replace(cloneset.status, observed_generation=0)


def _wanted_pods(cloneset: CloneSet) -> object:
    """Return what the spec requires of the pods, without the names to delete: OpenKruise itself clears those."""
    return (cloneset.spec.replicas, cloneset.spec.template, cloneset.spec.update_strategy)
