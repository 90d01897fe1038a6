"""All calls of the APIs, the same for each protocol: who may make one, what it does, what it answers.

Each raises `Problem`. A `ChangeRequest` identifies a change: the same one again is carried out once.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.planner.api.access import Access
from services.planner.api.adoption_calls import AdoptionCalls
from services.planner.api.call_authorization import Authorization
from services.planner.api.command_calls import CommandCalls
from services.planner.api.flow_queries import FlowQueries
from services.planner.api.flow_streams import FlowStreams
from services.planner.api.query_calls import EventSearch, QueryCalls
from services.planner.api.release_calls import ReleaseCalls
from services.planner.api.release_event_streams import ReleaseEventStreams
from services.planner.api.streaming_calls import STREAMS_OF_CALLER, StreamingCalls
from services.planner.intake.flow_mutations import FlowMutations
from shared.kube.client import Client


class Calls:
    """The calls by concern. `namespaces`: those that this Triton manages; empty: all.

    `streams_of_caller`: those that each caller may have open.
    """

    def __init__(
        self,
        access: Access,
        flow_queries: FlowQueries,
        mutations: FlowMutations,
        streams: FlowStreams,
        client: Client,
        events: EventSearch,
        event_streams: ReleaseEventStreams | None = None,
        namespaces: Sequence[str] = (),
        streams_of_caller: int = STREAMS_OF_CALLER,
    ) -> None:
        self.access = access
        authorization = Authorization(access, namespaces)
        self.adoptions = AdoptionCalls(authorization, client)
        self.queries = QueryCalls(authorization, flow_queries, mutations, client, events)
        self.streaming = StreamingCalls(
            authorization, flow_queries, streams, event_streams, streams_of_caller
        )
        self.releases = ReleaseCalls(authorization, flow_queries, mutations, self.queries)
        self.commands = CommandCalls(authorization, flow_queries, mutations)
