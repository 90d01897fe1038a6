"""What is left to do for a DeployFlow once `.status` says that its release is over.

Who asked for it on Kafka is told, then the finalizer goes. The finalizer stands for both: whatever happens to this
process, to Kafka or to Redis, a DeployFlow that is over and still has it is found again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final, NamedTuple

from services.planner.runtime.command_replies import send
from services.planner.runtime.flow_cache import DeployFlow, FlowCache
from shared.domain import deployflow as df
from shared.domain.deploy_commands import TOPIC_NAME
from shared.domain.replies import DeployCommandReply, Result
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.messaging.kafka import Kafka

LOOK_SECONDS: Final = 3.0
"""How often is looked for what an earlier planner, or a failed attempt, has left."""
STOP_SECONDS: Final = 3.0
_log = logging.getLogger(__name__)


class TerminalReply(NamedTuple):
    """A reply, the topic that it is for, and when the release ended."""

    topic: str
    reply: DeployCommandReply
    at: str


def farewell(flow: DeployFlow) -> TerminalReply | None:
    """What is to be said of the end of a release that is over; None where nobody asked to be told."""
    annotations, status = flow.metadata.annotations, flow.status
    topic, command = annotations.get(df.REPLY_TO, ""), annotations.get(df.REPLY_ID, "")
    if not command or not re.fullmatch(TOPIC_NAME, topic):
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


class Finalizer:
    """Each DeployFlow by itself: one whose reply can't be sent holds up no other."""

    def __init__(self, client: Client, kafka: Kafka, flows: FlowCache) -> None:
        self._client = client
        self._kafka = kafka
        self._flows = flows
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """By the flow's uid."""
        self._silent = False

    def begin(self, flow: DeployFlow) -> None:
        """Let go of a DeployFlow that is over."""
        uid = flow.metadata.uid
        if uid not in self._under_way:
            task = self._under_way[uid] = asyncio.create_task(self._end(flow))
            task.add_done_callback(lambda _: self._under_way.pop(uid))

    async def look_forever(self) -> None:
        while True:
            for flow in self._flows.ended():
                self.begin(flow)
            await asyncio.sleep(LOOK_SECONDS)

    def kafka_stopped(self) -> None:
        """From now on the ends that somebody waits for are left to the next planner."""
        self._silent = True

    async def stop(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=STOP_SECONDS)

    async def _end(self, flow: DeployFlow) -> None:
        try:
            if (found := farewell(flow)) is not None:
                if self._silent:
                    return
                await send(self._kafka, found.topic, found.reply, found.at)
            while flow.held and (again := await self._let_go(flow)) is not None:
                flow = again
        except (ApiError, Unavailable) as error:
            name = flow.metadata.name
            _log.warning("end of %s, to be tried again: %s", name, error, extra={"triton.deployflow": name})

    async def _let_go(self, flow: DeployFlow) -> DeployFlow | None:
        """The DeployFlow as it is now where somebody else has changed it meanwhile; None when it is done."""
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
