"""The call that has Triton adopt a CloneSet that it did not make."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from services.planner.api import access
from services.planner.api.access import Caller
from services.planner.api.call_authorization import Authorization
from services.planner.api.call_errors import errors_as_problems
from shared.domain.json_types import Json
from shared.kube.adoption import request_adoption
from shared.kube.client import Client

_log = logging.getLogger(__name__)


class AdoptionCalls:
    """Every call raises `Problem`."""

    def __init__(self, authorization: Authorization, client: Client) -> None:
        self._authorization = authorization
        self._client = client

    async def adopt(self, caller: Caller, namespace: str, name: str, identity: Mapping[str, str]) -> Json:
        """Return the CloneSet as an instance of Triton; the caller needs the right to update it.

        `identity`: labels of the application to set on the CloneSet itself.
        """
        await self._authorization.require(caller, access.ADOPT, namespace, name)
        with errors_as_problems():
            found = await request_adoption(
                self._client, namespace, name, requested_by=caller.name, identity=identity
            )
        _log.info("adopt %s/%s by %s", namespace, name, caller.name or "somebody")
        return found
