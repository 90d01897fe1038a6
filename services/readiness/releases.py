"""Which release, and which batch of it, what happens to a pod belongs to: so the log says it with every pod.

The commands tell it, and the CloneSet remembers it for a readiness service that comes later: of what it has not
heard itself it knows the release, not the batch.
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
from shared.kube.pods import Pod
from shared.kube.reflector import ListMeta, Meta, milliseconds

SKEW_MS: Final = 3_000
"""How far the API server's clock may be behind Kafka's; it also cuts its times to seconds."""
PATIENCE_SECONDS: Final = 3.0
"""Nothing waits longer for what only the log needs."""
_log = logging.getLogger(__name__)


@dataclass
class _UnderWay:
    flow: m.FlowRef
    surged_at: int = 0
    """When the pods of its batch were ordered, in ms; 0: not known."""


@dataclass
class _Instance:
    under_way: _UnderWay | None = None
    pods: dict[str, m.FlowRef] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)


class Releases:
    """What the commands say of each instance; pods that no release has anything to do with belong to none.

    `lives`: whether there is a pod with that uid; a command that comes again names some that are gone.
    """

    def __init__(self, lives: Callable[[str], bool] = lambda _: True) -> None:
        self._lives = lives
        self._instances: dict[Key, _Instance] = {}

    def heard(self, command: m.Command, at: int) -> None:
        """A command that was given, at `at` in ms."""
        if isinstance(command, m.Observe):
            return  # nothing is written yet, and the release may end before anything is
        of = self._instances.setdefault(command.key, _Instance())
        flow, now = command.flow, of.under_way
        if now is None or now.flow.uid != flow.uid:
            now = _UnderWay(flow)
            of.pods = {uid: ref for uid, ref in of.pods.items() if uid in of.leaving}
        surged_at = now.surged_at
        match command:
            case m.Surge():
                # together with a batch's pods the old ones of the batch before may go
                before = flow.model_copy(update={"batch": max(flow.batch - 1, 1)})
                self._leave(of, command.retire, before)
                if now.flow.batch != flow.batch or not surged_at:  # else it is given again
                    surged_at = at
            case m.Retire():
                self._leave(of, command.retire, flow)
            case m.PullIn():
                of.pods |= dict.fromkeys(command.uids, flow)
                of.leaving -= set(command.uids)
            case m.PullOut():
                self._leave(of, command.uids, flow)
            case m.Cancel():
                self._leave(of, command.drop, flow)
        of.under_way = _UnderWay(flow, surged_at)
        if isinstance(command, m.Cancel | m.Finish | m.Remove):
            of.under_way = None
            of.pods = {uid: ref for uid, ref in of.pods.items() if uid in of.leaving}
        if not (of.under_way or of.pods):
            del self._instances[command.key]

    def _leave(self, of: _Instance, uids: Sequence[str], flow: m.FlowRef) -> None:
        living = [uid for uid in uids if self._lives(uid)]
        of.leaving |= set(living)
        of.pods |= dict.fromkeys(living, flow)

    def of(self, pod: Pod) -> m.FlowRef | None:
        """The release that a pod belongs to now."""
        of = self._instances.get(pod.key)
        if of is None:
            return None
        uid = pod.metadata.uid
        if (named := of.pods.get(uid)) is not None:
            return named
        if (now := of.under_way) is None:
            return None
        made = milliseconds(pod.metadata.creation_timestamp)
        if now.flow.batch and now.surged_at and made + SKEW_MS >= now.surged_at:
            of.pods[uid] = now.flow
            return now.flow
        return now.flow.model_copy(update={"batch": 0})

    def gone(self, pod: Pod) -> None:
        of = self._instances.get(pod.key)
        if of is not None:
            of.pods.pop(pod.metadata.uid, None)
            of.leaving.discard(pod.metadata.uid)
            if not (of.under_way or of.pods):
                del self._instances[pod.key]

    def keep(self, owns: Callable[[Key], bool]) -> None:
        """Forget what is another replica's now: of that no more commands are heard."""
        self._instances = {key: of for key, of in self._instances.items() if owns(key)}

    def remembered(self, key: Key, flow: m.FlowRef) -> None:
        """What a CloneSet says; what was heard since is newer."""
        of = self._instances.setdefault(key, _Instance())
        if of.under_way is None:
            of.under_way = _UnderWay(flow)


class _CloneSet(msgspec.Struct):
    metadata: Meta


class _Page(msgspec.Struct):
    metadata: ListMeta
    items: list[_CloneSet]


_page = msgspec.json.Decoder(_Page)


async def remember(
    releases: Releases, client: Client, namespaces: Iterable[str], owns: Callable[[Key], bool]
) -> None:
    """Read what the CloneSets say of the releases under way; the log goes without where that can't be had."""
    releases.keep(owns)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            everywhere: list[str | None] = [None]
            for namespace in [*namespaces] or everywhere:
                await _read(releases, client, namespace, owns)
    except (ApiError, Unavailable, TimeoutError) as error:
        _log.warning("pods are told of without their releases for now: %s", str(error) or "no answer")


async def _read(
    releases: Releases, client: Client, namespace: str | None, owns: Callable[[Key], bool]
) -> None:
    query = {"labelSelector": "managed-by=triton-io", "limit": str(PAGE)}
    while True:
        page = _page.decode(await client.list_page(CLONESETS, namespace, query))
        for item in page.items:
            key = Key(item.metadata.namespace, item.metadata.name)
            if owns(key) and (flow := release_of(item.metadata)) is not None:
                releases.remembered(key, flow)
        if not page.metadata.next_page:
            return
        query["continue"] = page.metadata.next_page
