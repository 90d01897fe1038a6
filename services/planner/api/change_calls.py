"""The base of all calls that change something: the request, its identity, and the record of what was done."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from typing import NamedTuple

from prometheus_client import Counter

from services.planner.api.access import Caller
from services.planner.api.call_authorization import Authorization
from services.planner.api.flow_queries import FlowQueries
from services.planner.intake.flow_mutations import FlowMutations
from shared.domain.json_types import Json
from shared.domain.requesters import Origin

_changes = Counter("triton_api_changes_total", "Changes requested through the APIs", ["what"])
_log = logging.getLogger(__name__)


class ChangeRequest(NamedTuple):
    """The caller who requests a change, and the identity of the request.

    `id`: a request of the same caller with the same id is carried out once; empty: each is one of its own. `match`: the
    `ETag` that the DeployFlow must still have; empty: any. `via`: how it came.
    """

    caller: Caller
    id: str = ""
    match: str = ""
    via: str = ""

    @property
    def origin(self) -> Origin:
        """Return where the name of the caller comes from."""
        return Origin(self.via, self.caller.claimed)

    @property
    def key(self) -> str:
        """Return the id that the DeployFlow remembers. Ids of two callers are independent of each other."""
        if not self.id:
            return uuid.uuid4().hex
        return hashlib.sha256(f"{self.caller.name}\n{self.id}".encode()).hexdigest()[:32]


class ChangeCalls:
    """Base of the calls that change something."""

    def __init__(
        self, authorization: Authorization, flow_queries: FlowQueries, mutations: FlowMutations
    ) -> None:
        self._authorization = authorization
        self._flow_queries = flow_queries
        self._mutations = mutations

    async def _record(self, change: ChangeRequest, what: str, flow: Json) -> Json:
        """Count and log a change; return the DeployFlow with its status as it is now."""
        _changes.labels(what).inc()
        name = flow["metadata"]["name"]
        about = {"triton.deployflow": name, "user.name": change.caller.name}
        _log.info("%s by %s", what, change.caller.name or "somebody", extra=about)
        return await self._flow_queries.with_status(flow)


def etag(flow: Json) -> str:
    """Return a tag that distinguishes any two states of a DeployFlow (RFC 9110, strong)."""
    state = json.dumps([flow["metadata"], flow["spec"], flow["status"]], sort_keys=True, default=str)
    return f'"{hashlib.blake2b(state.encode(), digest_size=12).hexdigest()}"'
