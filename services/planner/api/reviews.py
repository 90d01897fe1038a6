"""Login and rights by the cluster: it decides whose a token is, and what that account may do.

So a right in Triton is the same right as with kubectl, granted by the same RBAC, and ends where that ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Any, Final, Generic, NamedTuple, TypeVar

from services.planner.api.access import DELETE, GET, LIST, WATCH, Access, Caller, Right
from services.planner.api.problem import Kind, Problem
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client, Resource

TOKEN_REVIEWS: Final = Resource("/apis/authentication.k8s.io/v1", "tokenreviews")
ACCESS_REVIEWS: Final = Resource("/apis/authorization.k8s.io/v1", "subjectaccessreviews")
REFUSED_SECONDS: Final = 2.0
"""How long a refusal is cached, at most: a right that was just granted shall soon count."""
_ANSWER_SECONDS: Final = 10.0
_MOST_KEPT: Final = 10_000
_MOST_PENDING: Final = 256
"""Answers cached, and reviews pending at a time, of each kind: a caller with ever new tokens costs no more."""
_LONGEST_TOKEN: Final = 16_384

T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Kept(NamedTuple, Generic[T]):
    answer: T
    until: float


class _Answers(Generic[T]):
    """Caches the cluster's answers for a time. Equal requests at the same time share one review."""

    def __init__(self, seconds: Callable[[T], float]) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._pending: dict[Hashable, asyncio.Task[T]] = {}
        self._logged = ""

    async def get(self, key: Hashable, review: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to the review of that key; raise `Problem` when the cluster does not answer."""
        kept = self._kept.get(key)
        if kept and monotonic() < kept.until:
            return kept.answer
        if not (pending := self._pending.get(key)):
            # a caller that was accepted before is reviewed all the same: a flood of others locks nobody out
            if len(self._pending) >= _MOST_PENDING and not (kept and kept.answer):
                msg = "too many callers are being looked up: come again"
                raise Problem(Kind.TOO_MANY, "TooManyRequests", msg, retry_after=1)
            pending = self._pending[key] = asyncio.create_task(self._run(key, review))
            pending.add_done_callback(_retrieve_error)
        try:
            # a caller that goes away must not cancel the review of others
            return await asyncio.shield(pending)
        except TimeoutError as error:
            raise _away(f"no answer within {_ANSWER_SECONDS:g} s") from error
        except Unavailable as error:
            # its text has addresses that callers must not see
            raise _away("the API server does not answer") from error
        except ApiError as error:
            raise _away(str(error.waited_for("planner")) if error.rights_missing else str(error)) from error

    async def _run(self, key: Hashable, review: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await review()
        except (Unavailable, ApiError) as error:
            if str(error) != self._logged:
                _log.warning("callers can't be looked up: %s", error)
            self._logged = str(error)
            raise
        finally:
            del self._pending[key]
        self._logged = ""
        self._kept[key] = _Kept(answer, monotonic() + self._seconds(answer))
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return answer


def _retrieve_error(review: asyncio.Task[Any]) -> None:
    """Mark the error of a review as seen, where nobody waits for it any more."""
    if not review.cancelled():
        review.exception()


def _away(why: str) -> Problem:
    return Problem(
        Kind.UNAVAILABLE, "LoginUnavailable", f"who calls can't be looked up now: {why}", retry_after=1
    )


class ReviewedAccess(Access):
    """TokenReview and SubjectAccessReview. `seconds`: how long an answer is cached, a refusal 2 s at most.

    Pass a client of its own, so that reviews take no connection from the releases' requests.
    """

    def __init__(self, client: Client, *, seconds: float) -> None:
        self._client = client
        refused = min(seconds, REFUSED_SECONDS)
        self._callers = _Answers[Caller | None](lambda caller: seconds if caller else refused)
        self._rights = _Answers[bool](lambda allowed: seconds if allowed else refused)
        self._salt = os.urandom(32)

    async def caller(self, token: str | None, claimed: str = "") -> Caller:  # noqa: ARG002
        if not token:
            msg = (
                "log in: a bearer token of the cluster is needed, as `kubectl create token ACCOUNT` makes it"
            )
            raise Problem(Kind.UNAUTHENTICATED, "NoToken", msg)
        caller = None
        if len(token) <= _LONGEST_TOKEN:
            # the key is a digest: the token itself is stored nowhere
            digest = hashlib.blake2b(token.encode(errors="surrogatepass"), key=self._salt).digest()
            caller = await self._callers.get(digest, lambda: self._whose(token))
        if caller is None:
            msg = (
                "the cluster does not know this token: it is of a different cluster, has expired, or is for others; "
                "make a new one"
            )
            raise Problem(Kind.UNAUTHENTICATED, "BadToken", msg)
        return caller

    async def _whose(self, token: str) -> Caller | None:
        status = await self._reviewed(TOKEN_REVIEWS, "TokenReview", {"token": token})
        if not status.get("authenticated"):
            _log.info("a login was refused: %s", status.get("error") or "unknown token")
            return None
        user = status["user"]
        extra = {name: tuple(values or ()) for name, values in (user.get("extra") or {}).items()}
        return Caller(
            user["username"], tuple(user.get("groups") or ()), user.get("uid") or "", tuple(extra.items())
        )

    async def allow(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        rule = (caller, right, namespace, name)
        if not await self._rights.get(rule, lambda: self._may(*rule)):
            raise Problem(Kind.FORBIDDEN, "Forbidden", forbidden(caller, right, namespace, name))

    async def _may(self, caller: Caller, right: Right, namespace: str, name: str) -> bool:
        group, version = right.resource.api.split("/")[2:]
        spec = {
            "user": caller.name,
            "groups": caller.groups,
            "uid": caller.uid,
            "extra": dict(caller.extra),
            "resourceAttributes": {
                "group": group,
                "version": version,
                "resource": right.resource.plural,
                "subresource": right.subresource,
                "verb": right.verb,
                "namespace": namespace,
                "name": name,
            },
        }
        status = await self._reviewed(ACCESS_REVIEWS, "SubjectAccessReview", spec)
        return bool(status.get("allowed")) and not status.get("denied")

    async def _reviewed(self, resource: Resource, kind: str, spec: Json) -> Json:
        review = {"apiVersion": resource.api.removeprefix("/apis/"), "kind": kind, "spec": spec}
        status: Json = (await self._client.create(resource, None, review))["status"]
        return status


def forbidden(caller: Caller, right: Right, namespace: str, name: str = "") -> str:
    """Return the missing right, in the words of the API server, and the role that has it."""
    group = right.resource.api.split("/")[2]
    kind = f"{right.resource.plural}.{group}"
    which = f'{kind} "{name}" is' if name else f"{kind} is"
    resource = "/".join(part for part in (right.resource.plural, right.subresource) if part)
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    role = role_for(right)
    remedy = f"somebody has to give it the ClusterRole {role} there"
    if not role:
        remedy = "somebody has to give it a role of its own with this right there"
    return (
        f'{which} forbidden: User "{caller.name}" cannot {right.verb} resource "{resource}" '
        f'in API group "{group}" {where}: {remedy}'
    )


def role_for(right: Right) -> str:
    """Return the smallest role of deploy/rbac that has the right; empty where none has it."""
    if right.resource != DEPLOYFLOWS:
        return ""
    if right in {GET, LIST, WATCH}:
        return "triton-viewer"
    return "triton-admin" if right == DELETE else "triton-operator"
