"""The last steps for a DeployFlow whose `.status` says that its release has finished.

Whoever requested it on Kafka gets a reply, then the finalizer is removed. The finalizer marks both as pending: whatever
happens to this process, to Kafka or to Redis, a finished DeployFlow that still has it is found again.

Only `.status` says who gets the reply: everybody who may create a DeployFlow may write its annotations. Theirs only say
that a reply may be recorded in a moment, for a release that ends as soon as it is made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NamedTuple

from services.planner.runtime.command_replies import send
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from services.planner.runtime.write_backoff import wait_after
from shared.clock import now_milliseconds
from shared.domain import deployflow as df
from shared.domain.replies import DeployCommandReply, Result
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.kube.reflector import milliseconds
from shared.messaging.kafka import Kafka

CHECK_SECONDS: Final = 3.0
"""How often finished DeployFlows of an earlier planner, or of a failed attempt, are looked up."""
STOP_SECONDS: Final = 3.0
ATTEMPTS: Final = 5
"""How often it is read again at once where somebody else keeps changing it."""
RECORD_MILLISECONDS: Final = 5_000
"""So long after it was made a DeployFlow may lack the record of who gets its reply, which is written right after it.
One that is recorded later gets the finalizer again, and its reply: only a deleted one could not."""
_log = logging.getLogger(__name__)


class TerminalReply(NamedTuple):
    """A reply, the topic that it is for, and when the release ended."""

    topic: str
    reply: DeployCommandReply
    at: str


def terminal_reply(flow: DeployFlow) -> TerminalReply | None:
    """Return the reply on the end of a finished release; None where the planner has not recorded that one is wanted."""
    status = flow.status
    topic, command = status.get("replyTo", ""), status.get("replyId", "")
    if not command or not topic:
        return None
    reply = DeployCommandReply(
        id=command,
        result=Result.FINISHED,
        deploy_flow=flow.metadata.name,
        phase=status["phase"],
        reason=status.get("reason", ""),
        message=status.get("message", ""),
    )
    return TerminalReply(topic, reply, status.get("finishedAt") or "")


def has_unproved_reply(flow: DeployFlow) -> bool:
    """Return whether annotations name somebody to answer to, and nothing that the planner has recorded."""
    return df.REPLY_ID in flow.metadata.annotations and not flow.status.get("replyId")


def may_be_recorded_yet(flow: DeployFlow, now: int) -> bool:
    """Return whether the planner may still be about to record who gets the reply. `now`: milliseconds since 1970."""
    made = milliseconds(flow.metadata.creation_timestamp)
    return has_unproved_reply(flow) and now < made + RECORD_MILLISECONDS


class Refused(NamedTuple):
    """How often in a row an end was refused, and when it is tried again (monotonic seconds)."""

    times: int
    until: float


class Finalizer:
    """Handles each DeployFlow on its own: one whose reply can't be sent delays no other."""

    def __init__(self, client: Client, kafka: Kafka, flows: FlowCache) -> None:
        self._client = client
        self._kafka = kafka
        self._flows = flows
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Keyed by the flow's uid."""
        self._refused: dict[str, Refused] = {}
        """Keyed by the flow's uid."""
        self._kafka_is_stopped = False

    def begin(self, flow: DeployFlow) -> None:
        """Send the reply of a finished DeployFlow and remove its finalizer, in the background."""
        uid = flow.metadata.uid
        if uid not in self._tasks:
            task = self._tasks[uid] = asyncio.create_task(self._finish(flow))
            task.add_done_callback(lambda _: self._tasks.pop(uid))

    async def check_forever(self) -> None:
        while True:
            left = {flow.metadata.uid: flow for flow in self._flows.finished_with_finalizer()}
            self._refused = {uid: refused for uid, refused in self._refused.items() if uid in left}
            for uid, flow in left.items():
                if uid not in self._refused or time.monotonic() >= self._refused[uid].until:
                    self.begin(flow)
            await asyncio.sleep(CHECK_SECONDS)

    def kafka_stopped(self) -> None:
        """Leave the releases whose reply somebody waits for to the next planner."""
        self._kafka_is_stopped = True

    async def stop(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=STOP_SECONDS)

    async def _finish(self, flow: DeployFlow) -> None:
        try:
            if may_be_recorded_yet(flow, now_milliseconds()):
                msg = "its annotations name somebody to answer to, whom the planner has not recorded yet"
                raise Unavailable(msg)
            if (found := terminal_reply(flow)) is not None:
                if self._kafka_is_stopped:
                    return
                await send(self._kafka, found.topic, found.reply, found.at)
            elif has_unproved_reply(flow):
                _log_unproved(flow)
            for _ in range(ATTEMPTS):
                if not flow.held or (again := await self._remove_finalizer(flow)) is None:
                    return
                flow = again
            msg = "it keeps changing"
            raise Unavailable(msg)
        except (ApiError, Unavailable) as error:
            name, uid = flow.metadata.name, flow.metadata.uid
            times = self._refused[uid].times + 1 if uid in self._refused else 1
            self._refused[uid] = Refused(times, time.monotonic() + wait_after(times))
            _log.warning("end of %s, to be tried again: %s", name, error, extra={"triton.deployflow": name})

    async def _remove_finalizer(self, flow: DeployFlow) -> DeployFlow | None:
        """Return the DeployFlow as it is now where somebody else changed it meanwhile; None when done."""
        meta = flow.metadata
        finalizers = [name for name in meta.finalizers if name != df.FINALIZER]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version}}
        try:
            self._flows.reflector.put(await self._client.patch(DEPLOYFLOWS, meta.namespace, meta.name, body))
        except ApiError as error:
            if error.code == 404:
                return None
            if error.code != 409:
                raise
            self._flows.reflector.put(await self._client.get(DEPLOYFLOWS, meta.namespace, meta.name))
            now = self._flows.get(meta.namespace, meta.name)
            return now if now is not None and now.metadata.uid == meta.uid else None
        return None


def _log_unproved(flow: DeployFlow) -> None:
    meta = flow.metadata
    _log.warning(
        "no answer to %r, which has finished (%s): only annotations of %s name it, which everybody may write",
        meta.annotations.get(df.REPLY_ID, "")[:253],
        flow.status.get("phase", ""),
        meta.name,
        extra={"triton.deployflow": meta.name},
    )
