"""The calls that follow releases: their states as they change, and their events from the beginning."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Final

from services.planner.api import access
from services.planner.api.access import Caller
from services.planner.api.call_authorization import NAME, Authorization, check_name
from services.planner.api.call_errors import errors_as_problems
from services.planner.api.caller_shares import RETRY_SECONDS, CallerShares
from services.planner.api.flow_queries import FlowFilter, FlowQueries
from services.planner.api.flow_streams import FlowStreams
from services.planner.api.problem import Kind, Problem
from services.planner.api.release_event_streams import ReleaseEventStreams, StreamedEvent
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import CALLER, ApiError

STREAMS: Final = 5_000
"""Open at one planner."""
STREAMS_OF_CALLER: Final = 500


class StreamingCalls:
    """Every call raises `Problem`. A DeployFlow in an answer has the shape of `FlowQueries`."""

    def __init__(
        self,
        authorization: Authorization,
        flow_queries: FlowQueries,
        streams: FlowStreams,
        event_streams: ReleaseEventStreams | None,
        streams_of_caller: int = STREAMS_OF_CALLER,
    ) -> None:
        self._authorization = authorization
        self._flow_queries = flow_queries
        self._streams = streams
        self._event_streams = event_streams
        self._shares = CallerShares(streams_of_caller, "streams", "TooManyStreams")

    async def watch(self, caller: Caller, namespace: str, name: str) -> AsyncGenerator[Json]:
        """Yield its state now and after every change, until it is deleted."""
        states = self.watch_with_heartbeats(caller, namespace, name)
        try:
            async for state in states:
                if state is not None:
                    yield state
        finally:
            await states.aclose()

    async def watch_with_heartbeats(
        self, caller: Caller, namespace: str, name: str, heartbeat_seconds: float = 3600
    ) -> AsyncGenerator[Json | None]:
        """Yield as `watch` does, and None after so many seconds without a change."""
        await self._authorization.require(caller, access.WATCH, namespace, name)
        with self._one_stream():
            with errors_as_problems():
                flow = await self._flow_queries.flow(namespace, name)
            with self._streams.of(flow) as stream:
                # a stream that waits keeps no state: there may be many of them
                del flow
                while True:
                    while await stream.is_quiet_for(heartbeat_seconds):
                        yield None
                    state = await anext(stream, None)
                    if state is None:
                        return
                    yield state
                    del state

    async def watch_all(self, caller: Caller, wanted: FlowFilter) -> AsyncGenerator[list[Json]]:
        """Yield all that match, newest first, then each that has changed, without end."""
        await self._authorization.require(caller, access.WATCH, wanted.namespace)
        check_name(NAME, wanted.instance)
        with self._one_stream(), self._streams.of_all(wanted) as stream:
            with errors_as_problems():
                found = await self._flow_queries.flows(wanted)
            self._streams.listed(found)
            yield found
            async for state in stream:
                yield [state]

    async def events(
        self, caller: Caller, namespace: str, name: str, after: int | None = None
    ) -> AsyncGenerator[StreamedEvent | None]:
        """Return the events of a release, from its beginning or behind the event `after`, until it has finished.

        The generator yields None where nothing happens for a while.
        """
        await self._authorization.require(caller, access.WATCH, namespace, name)
        with errors_as_problems():
            flow = await self._flow_queries.flow(namespace, name)
        streams = self._event_streams
        if streams is None:
            raise Problem(Kind.UNAVAILABLE, "Unavailable", "events are not served here")

        async def has_finished() -> bool:
            try:
                now = await self._flow_queries.flow(namespace, name)
            except Problem:
                return True
            except (ApiError, Unavailable):
                return False
            same = now["metadata"]["uid"] == flow["metadata"]["uid"]
            return not same or bool(now["status"]["finished"])

        async def limited() -> AsyncGenerator[StreamedEvent | None]:
            with self._one_stream():
                async with aclosing(streams.of(flow, after, has_finished)) as found:
                    async for event in found:
                        yield event

        events = limited()
        with errors_as_problems():
            await anext(events)
        return events

    @contextmanager
    def _one_stream(self) -> Generator[None]:
        """Count a stream until the end of the block; raise `Problem` for one too many, in all or of its caller."""
        if len(self._streams) + len(self._event_streams or ()) >= STREAMS:
            text = f"{STREAMS} streams are open at this planner, no more are: close some, or try another one"
            raise Problem(Kind.TOO_MANY, "TooManyStreams", text, retry_after=RETRY_SECONDS)
        with self._shares.one(CALLER.get()):
            yield
