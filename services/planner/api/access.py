"""Who calls, and what they may do: the same questions for REST and gRPC."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from services.planner.api.rate_limits import RateLimiter


class Caller(NamedTuple):
    """Somebody who calls. `name` is what the DeployFlow, the events and the logs say; empty: nobody told.

    `groups`, `uid` and `extra` are what the cluster says of the account, for asking it what they may do.
    """

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Right(NamedTuple):
    """A verb of Kubernetes on `deployflows`, or on their subresource: the same right that kubectl needs.

    To let a release go ahead (next, continue, promote) is `create` on the subresource `promote`.
    """

    verb: str
    subresource: str = ""


GET = Right("get")
LIST = Right("list")
WATCH = Right("watch")
CREATE = Right("create")
PATCH = Right("patch")
DELETE = Right("delete")
PROMOTE = Right("create", "promote")


class Access(Protocol):
    """Both calls raise `Problem`."""

    async def caller(self, token: str | None, claimed: str = "") -> Caller:
        """The account that a bearer token belongs to. `claimed`: who the caller says it is; that counts only where
        nobody has to log in.
        """

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        """Returns where it may; `namespace` "" is all of them."""


async def let_in(access: Access, limits: RateLimiter, authorization: str, claimed: str, peer: str) -> Caller:
    """Who calls, by a header (or metadata) `authorization`; one without a name is known by its address, `peer`.

    Raises `Problem` for a token that nobody has, and for a caller that calls too often.
    """
    scheme, _, token = authorization.partition(" ")
    caller = await access.caller(token.strip() if scheme.lower() == "bearer" else None, claimed)
    limits.take(caller.name or peer, time.monotonic())
    return caller


class OpenAccess:
    """Nobody logs in and everybody may do everything: for this machine alone."""

    async def caller(self, token: str | None, claimed: str = "") -> Caller:  # noqa: ARG002
        return Caller(claimed[:253])

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        """Everything is allowed."""
