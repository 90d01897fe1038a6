"""Looks up the release and the batch of a pod, which the log names with every event of the pod.

The commands name them. The CloneSet stores the release for a readiness service that starts or takes over later; the
batch is then unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from shared.domain import messages as m
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, PAGE, ApiError, Client
from shared.kube.clonesets import release_of
from shared.kube.objects import ObjectDecoder
from shared.kube.pods import Pod
from shared.kube.reflector import Meta, milliseconds

SKEW_MS: Final = 3_000
"""How far the API server's clock may be behind Kafka's; it also truncates its times to seconds."""
READ_SECONDS: Final = 3.0
"""For reading what only the log needs."""
_log = logging.getLogger(__name__)


@dataclass
class _UnderWay:
    flow: m.FlowRef
    surged_at: int = 0
    """The time at which the surge of its batch was commanded, in ms; 0: unknown."""


@dataclass
class _Instance:
    under_way: _UnderWay | None = None
    pods: dict[str, m.FlowRef] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)


class ReleaseLookup:
    """Knows the release under way of each instance, and the pods that its commands name.

    `is_living` decides whether a pod with that uid exists: a command delivered again names pods that were deleted.
    """

    def __init__(self, is_living: Callable[[str], bool] = lambda _: True) -> None:
        self._is_living = is_living
        self._instances: dict[Key, _Instance] = {}

    def on_command(self, command: m.Command, at: int) -> None:
        """Note a command, published at `at` in ms."""
        if isinstance(command, m.Observe):
            return  # nothing is written yet, and the release may end before anything is
        instance = self._instances.setdefault(command.key, _Instance())
        flow, current = command.flow, instance.under_way
        if current is None or current.flow.uid != flow.uid:
            current = _UnderWay(flow)
            instance.pods = {uid: ref for uid, ref in instance.pods.items() if uid in instance.leaving}
        surged_at = current.surged_at
        match command:
            case m.Surge():
                # a surge may also retire the old pods of the batch before
                before = flow.model_copy(update={"batch": max(flow.batch - 1, 1)})
                self._leave(instance, command.retire, before)
                if current.flow.batch != flow.batch or not surged_at:  # otherwise it is a repetition
                    surged_at = at
            case m.Retire():
                self._leave(instance, command.retire, flow)
            case m.PullIn():
                instance.pods |= dict.fromkeys(command.uids, flow)
                instance.leaving -= set(command.uids)
            case m.PullOut():
                self._leave(instance, command.uids, flow)
            case m.Cancel():
                self._leave(instance, command.drop, flow)
        instance.under_way = _UnderWay(flow, surged_at)
        if isinstance(command, m.Cancel | m.Finish | m.Remove):
            instance.under_way = None
            instance.pods = {uid: ref for uid, ref in instance.pods.items() if uid in instance.leaving}
        if not (instance.under_way or instance.pods):
            del self._instances[command.key]

    def _leave(self, instance: _Instance, uids: Sequence[str], flow: m.FlowRef) -> None:
        living = [uid for uid in uids if self._is_living(uid)]
        instance.leaving |= set(living)
        instance.pods |= dict.fromkeys(living, flow)

    def find(self, pod: Pod) -> m.FlowRef | None:
        """Return the release that a pod belongs to now; batch 0: not created by a batch, or unknown."""
        instance = self._instances.get(pod.key)
        if instance is None:
            return None
        uid = pod.metadata.uid
        if (named := instance.pods.get(uid)) is not None:
            return named
        if (current := instance.under_way) is None:
            return None
        created_at = milliseconds(pod.metadata.creation_timestamp)
        if current.flow.batch and current.surged_at and created_at + SKEW_MS >= current.surged_at:
            instance.pods[uid] = current.flow
            return current.flow
        return current.flow.model_copy(update={"batch": 0})

    def forget_pod(self, pod: Pod) -> None:
        instance = self._instances.get(pod.key)
        if instance is not None:
            instance.pods.pop(pod.metadata.uid, None)
            instance.leaving.discard(pod.metadata.uid)
            if not (instance.under_way or instance.pods):
                del self._instances[pod.key]

    def keep_owned(self, owns: Callable[[Key], bool]) -> None:
        """Forget instances that other replicas own now: their commands no longer arrive here."""
        self._instances = {key: instance for key, instance in self._instances.items() if owns(key)}

    def restore(self, key: Key, flow: m.FlowRef) -> None:
        """Take a release from a CloneSet, unless a command has named one since."""
        instance = self._instances.setdefault(key, _Instance())
        if instance.under_way is None:
            instance.under_way = _UnderWay(flow)


class _CloneSet(msgspec.Struct):
    metadata: Meta


_clonesets = ObjectDecoder(CLONESETS, _CloneSet)


async def restore_releases(
    releases: ReleaseLookup, client: Client, namespaces: Iterable[str], owns: Callable[[Key], bool]
) -> dict[Key, m.AppRef]:
    """Read the releases under way from the CloneSets. If that fails, the log lacks them: a warning, no error.

    Returns the owned instances that were read, with their applications.
    """
    releases.keep_owned(owns)
    found: dict[Key, m.AppRef] = {}
    try:
        async with asyncio.timeout(READ_SECONDS):
            everywhere: list[str | None] = [None]
            for namespace in [*namespaces] or everywhere:
                found |= await _read(releases, client, namespace, owns)
    except (ApiError, Unavailable, TimeoutError, msgspec.DecodeError) as error:
        _log.warning(
            "could not read CloneSets, so pod events lack their release until its next command: %s",
            str(error) or "no answer",
        )
    return found


async def _read(
    releases: ReleaseLookup, client: Client, namespace: str | None, owns: Callable[[Key], bool]
) -> dict[Key, m.AppRef]:
    found: dict[Key, m.AppRef] = {}
    query = {"labelSelector": "managed-by=triton-io", "limit": str(PAGE)}
    while True:
        page = _clonesets.page(await client.list_page(CLONESETS, namespace, query))
        for item in page.items:
            key = Key(item.metadata.namespace, item.metadata.name)
            if not owns(key):
                continue
            found[key] = m.AppRef.of(item.metadata.labels)
            if (flow := release_of(item.metadata)) is not None:
                releases.restore(key, flow)
        if not page.metadata.next_page:
            return found
        query["continue"] = page.metadata.next_page
