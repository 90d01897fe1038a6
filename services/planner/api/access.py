"""Callers and their rights, the same for REST and gRPC."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from services.planner.api.rate_limits import RateLimiter
from shared.kube.client import CALLER, CLONESETS, DEPLOYFLOWS, Resource


class Caller(NamedTuple):
    """The account of a caller. `name` is recorded in the DeployFlow, the events and the logs; empty: unknown.

    `groups`, `uid` and `extra` come from the cluster, which needs them to decide on a right. `claimed`: nobody has to log
    in, and the caller itself wrote the name.
    """

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    claimed: bool = False


class Right(NamedTuple):
    """A verb of Kubernetes on `deployflows`, or on their subresource: the same right that kubectl needs.

    To approve the next steps of a release (next, continue, promote) is `create` on the subresource `promote`. To adopt
    a CloneSet is to write it.
    """

    verb: str
    subresource: str = ""
    resource: Resource = DEPLOYFLOWS


GET = Right("get")
LIST = Right("list")
WATCH = Right("watch")
CREATE = Right("create")
PATCH = Right("patch")
DELETE = Right("delete")
PROMOTE = Right("create", "promote")
ADOPT = Right("update", resource=CLONESETS)


class Access(Protocol):
    """Identifies callers and decides on their rights. Both methods raise `Problem`."""

    async def caller(self, token: str | None, claimed: str = "") -> Caller:
        """Return the account that a bearer token belongs to.

        `claimed`: who the caller says it is; it counts only where nobody has to log in.
        """

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        """Return where the caller has the right; `namespace` "" is all of them."""


async def authenticate(
    access: Access, limits: RateLimiter, authorization: str, claimed: str, peer: str
) -> Caller:
    """Return the caller, by a header (or metadata) `authorization`; one without a name is limited by its address, `peer`.

    All that the current task requests of Kubernetes from now on counts as the caller's. Raises `Problem` for an unknown
    token, and for a caller that calls too often.
    """
    scheme, _, token = authorization.partition(" ")
    caller = await access.caller(token.strip() if scheme.lower() == "bearer" else None, claimed)
    limits.take(caller.name or peer, time.monotonic())
    CALLER.set(caller.name or peer)
    return caller


class OpenAccess:
    """Access without login: everybody may do everything. For use on one machine only."""

    async def caller(self, token: str | None, claimed: str = "") -> Caller:  # noqa: ARG002
        return Caller(claimed[:253], claimed=True)

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        """Allow everything."""
