"""Login and rights by the cluster's reviews: its requests, their number, and the answers to callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.planner.api import reviews
from services.planner.api.access import (
    ADOPT,
    CREATE,
    DELETE,
    GET,
    LIST,
    PATCH,
    PROMOTE,
    WATCH,
    Caller,
    Right,
)
from services.planner.api.problem import Kind, Problem
from services.planner.api.reviews import ReviewedAccess
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import ApiError, Client, Resource

TOKEN = "eyJ.very-secret.token"
JANE = {
    "username": "jane",
    "uid": "u-1",
    "groups": ["shop", "system:authenticated"],
    "extra": {"scopes": ["a", "b"]},
}
CALLER = Caller("jane", ("shop", "system:authenticated"), "u-1", (("scopes", ("a", "b")),))


class Cluster:
    """Takes the place of the API server: knows one token, and the rights that a test sets."""

    def __init__(self) -> None:
        self.reviews: list[tuple[Resource, Json]] = []
        self.tokens: dict[str, Json] = {TOKEN: JANE}
        self.allowed: set[tuple[str, str, str, str]] = set()
        self.trouble: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        assert namespace is None
        self.reviews.append((resource, body))
        await self.go.wait()
        if self.trouble:
            raise self.trouble
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            user = self.tokens.get(spec["token"])
            return {"status": {"authenticated": True, "user": user} if user else {"error": "unknown"}}
        about = spec["resourceAttributes"]
        right = (about["verb"], about["subresource"], about["namespace"], about["name"])
        return {"status": {"allowed": right in self.allowed}}

    def login(self, seconds: float = 60) -> ReviewedAccess:
        return ReviewedAccess(cast("Client", self), seconds=seconds)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time on."""
    now = 1000.0

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("services.planner.api.reviews.monotonic", lambda: now)
    return later


async def refused(call: Any, kind: Kind, reason: str) -> Problem:
    with pytest.raises(Problem) as problem:
        await call
    assert (problem.value.kind, problem.value.reason) == (kind, reason)
    return problem.value


async def test_a_token_is_reviewed_and_what_the_cluster_says_of_its_account_is_kept(cluster: Cluster) -> None:
    assert await cluster.login().caller(TOKEN, claimed="admin") == CALLER
    ((resource, body),) = cluster.reviews
    assert resource.path() == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert body == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": TOKEN},
    }


async def test_an_account_without_uid_groups_and_extra(cluster: Cluster) -> None:
    cluster.tokens["t"] = {"username": "plain"}
    assert await cluster.login().caller("t") == Caller("plain")


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_the_cluster_is_not_queried(cluster: Cluster, token: str | None) -> None:
    problem = await refused(cluster.login().caller(token, claimed="admin"), Kind.UNAUTHENTICATED, "NoToken")
    assert "kubectl create token" in str(problem)
    assert cluster.reviews == []


@pytest.mark.parametrize("token", ["another", "\udc80", "ü"])
async def test_a_token_that_the_cluster_does_not_know(cluster: Cluster, token: str) -> None:
    problem = await refused(cluster.login().caller(token), Kind.UNAUTHENTICATED, "BadToken")
    assert token not in str(problem)


async def test_a_token_that_is_none_is_not_even_sent(cluster: Cluster) -> None:
    await refused(cluster.login().caller("x" * 20_000), Kind.UNAUTHENTICATED, "BadToken")
    assert cluster.reviews == []


async def test_the_cluster_is_queried_for_the_right_of_kubectl(cluster: Cluster) -> None:
    cluster.allowed.add(("create", "promote", "shop", "web-df"))
    await cluster.login().allow(CALLER, PROMOTE, "shop", "web-df")
    ((resource, body),) = cluster.reviews
    assert resource.path() == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert (body["apiVersion"], body["kind"]) == ("authorization.k8s.io/v1", "SubjectAccessReview")
    assert body["spec"] == {
        "user": "jane",
        "uid": "u-1",
        "groups": ("shop", "system:authenticated"),
        "extra": {"scopes": ("a", "b")},
        "resourceAttributes": {
            "group": "apps.triton.io",
            "version": "v1alpha1",
            "resource": "deployflows",
            "subresource": "promote",
            "verb": "create",
            "namespace": "shop",
            "name": "web-df",
        },
    }


@pytest.mark.parametrize(
    ("right", "namespace", "name", "words"),
    [
        (PATCH, "shop", "web-df", '"web-df" is forbidden: User "jane" cannot patch resource "deployflows"'),
        (
            PROMOTE,
            "shop",
            "web-df",
            '"web-df" is forbidden: User "jane" cannot create resource "deployflows/promote"',
        ),
        (CREATE, "shop", "", 'is forbidden: User "jane" cannot create resource "deployflows"'),
        (LIST, "", "", 'is forbidden: User "jane" cannot list resource "deployflows"'),
    ],
)
async def test_who_may_not_learns_what_is_missing_and_who_has_it(
    cluster: Cluster, right: Right, namespace: str, name: str, words: str
) -> None:
    call = cluster.login().allow(CALLER, right, namespace, name)
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    assert str(await refused(call, Kind.FORBIDDEN, "Forbidden")) == (
        f'deployflows.apps.triton.io {words} in API group "apps.triton.io" {where}: '
        f"somebody has to give it the ClusterRole {reviews.role_for(right)} there"
    )


async def test_who_may_not_update_a_cloneset_learns_that_no_role_of_triton_has_the_right(
    cluster: Cluster,
) -> None:
    call = cluster.login().allow(CALLER, ADOPT, "shop", "web")
    assert str(await refused(call, Kind.FORBIDDEN, "Forbidden")) == (
        'clonesets.apps.kruise.io "web" is forbidden: User "jane" cannot update resource "clonesets" in API group '
        '"apps.kruise.io" in the namespace "shop": somebody has to give it a role of its own with this right there'
    )


@pytest.mark.parametrize(
    ("rights", "role"),
    [
        ((GET, LIST, WATCH), "triton-viewer"),
        ((CREATE, PATCH, PROMOTE), "triton-operator"),
        ((DELETE,), "triton-admin"),
    ],
)
def test_the_least_role_is_named(rights: tuple[Right, ...], role: str) -> None:
    assert {reviews.role_for(right) for right in rights} == {role}


async def test_what_is_denied_is_not_allowed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*_: object) -> Json:
        return {"status": {"allowed": True, "denied": True}}

    monkeypatch.setattr(cluster, "create", both)
    await refused(cluster.login().allow(CALLER, GET, "shop"), Kind.FORBIDDEN, "Forbidden")


async def test_an_answer_is_cached_for_a_time_and_then_requested_again(
    cluster: Cluster, clock: Callable[[float], None]
) -> None:
    login = cluster.login(seconds=10)
    cluster.allowed.add(("get", "", "shop", ""))
    for _ in range(3):
        await login.allow(await login.caller(TOKEN), GET, "shop")
    assert len(cluster.reviews) == 2
    clock(9.9)
    cluster.tokens.clear()
    cluster.allowed.clear()
    await login.allow(await login.caller(TOKEN), GET, "shop")
    clock(0.2)
    await refused(login.caller(TOKEN), Kind.UNAUTHENTICATED, "BadToken")
    await refused(login.allow(CALLER, GET, "shop"), Kind.FORBIDDEN, "Forbidden")


async def test_a_refusal_is_believed_for_a_shorter_time(
    cluster: Cluster, clock: Callable[[float], None]
) -> None:
    login = cluster.login(seconds=10)
    for _ in range(3):
        await refused(login.caller("new"), Kind.UNAUTHENTICATED, "BadToken")
        await refused(login.allow(CALLER, GET, "shop"), Kind.FORBIDDEN, "Forbidden")
    assert len(cluster.reviews) == 2
    cluster.tokens["new"] = JANE
    cluster.allowed.add(("get", "", "shop", ""))
    clock(2.1)
    assert await login.caller("new") == CALLER
    await login.allow(CALLER, GET, "shop")


async def test_with_no_seconds_it_is_requested_each_time(cluster: Cluster) -> None:
    login = cluster.login(seconds=0)
    for _ in range(3):
        await login.caller(TOKEN)
    assert len(cluster.reviews) == 3


@pytest.mark.parametrize(
    "other",
    [
        (CALLER._replace(name="joe"), GET, "shop", "web"),
        (CALLER._replace(groups=()), GET, "shop", "web"),
        (CALLER._replace(extra=()), GET, "shop", "web"),
        (CALLER, PATCH, "shop", "web"),
        (CALLER, Right("get", "promote"), "shop", "web"),
        (CALLER, GET, "till", "web"),
        (CALLER, GET, "", "web"),
        (CALLER, GET, "shop", "api"),
        (CALLER, GET, "shop", ""),
    ],
)
async def test_the_answer_to_one_question_is_none_to_another(cluster: Cluster, other: Any) -> None:
    login = cluster.login()
    cluster.allowed.add(("get", "", "shop", "web"))
    await login.allow(CALLER, GET, "shop", "web")
    try:
        await login.allow(*other)
    except Problem as problem:
        assert problem.kind is Kind.FORBIDDEN
    assert len(cluster.reviews) == 2


async def test_many_who_ask_the_same_at_once_are_one_question(cluster: Cluster) -> None:
    login = cluster.login()
    cluster.go.clear()
    callers = [asyncio.create_task(login.caller(TOKEN)) for _ in range(50)]
    rights = [asyncio.create_task(login.allow(CALLER, GET, "shop")) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # the first of them goes away, and takes the answer from nobody
    callers[0].cancel()
    rights[0].cancel()
    await asyncio.sleep(0)
    cluster.allowed.add(("get", "", "shop", ""))
    cluster.go.set()
    assert await asyncio.gather(*callers[1:]) == [CALLER] * 49
    await asyncio.gather(*rights[1:])
    assert len(cluster.reviews) == 2


LACKING = (
    'tokenreviews.authentication.k8s.io is forbidden: User "system:serviceaccount:triton-system:triton-planner" '
    'cannot create resource "tokenreviews" in API group "authentication.k8s.io" at the cluster scope'
)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Unavailable("Kubernetes at https://10.9.8.7 does not answer"), "the API server does not answer"),
        (
            ApiError(403, "Forbidden", LACKING),
            f"not allowed: {LACKING} (give the planner the rights of deploy/rbac)",
        ),
        (ApiError(401, "Unauthorized", "Unauthorized"), "(give the planner the rights of deploy/rbac)"),
        (ApiError(404, "NotFound", "the server could not find it"), "the server could not find it"),
    ],
)
async def test_who_cant_be_looked_up_now_may_come_again(
    cluster: Cluster, trouble: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    login = cluster.login()
    cluster.trouble = trouble
    for call in (login.caller(TOKEN), login.caller("x"), login.allow(CALLER, GET, "shop")):
        problem = await refused(call, Kind.UNAVAILABLE, "LoginUnavailable")
        assert said in str(problem)
        assert "10.9.8.7" not in str(problem)
        assert problem.retry_after
    # the whole of it is in the log, once each: there are two kinds of reviews
    assert [record.getMessage() for record in caplog.records] == [
        f"callers can't be looked up: {trouble}"
    ] * 2
    # and it is not remembered
    cluster.trouble = None
    assert await login.caller(TOKEN) == CALLER


async def test_an_api_server_that_does_not_answer_is_not_waited_for_without_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_ANSWER_SECONDS", 0.05)
    cluster.go.clear()
    await refused(cluster.login().caller(TOKEN), Kind.UNAVAILABLE, "LoginUnavailable")


async def test_a_flood_of_tokens_is_bounded_in_questions_and_in_memory(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_MOST_PENDING", 10)
    monkeypatch.setattr(reviews, "_MOST_KEPT", 20)
    login = cluster.login()
    cluster.go.clear()
    flood = [asyncio.create_task(login.caller(f"t{number}")) for number in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(cluster.reviews) == 10
    cluster.go.set()
    problems = await asyncio.gather(*flood, return_exceptions=True)
    kinds = [problem.kind for problem in problems if isinstance(problem, Problem)]
    assert (kinds.count(Kind.TOO_MANY), kinds.count(Kind.UNAUTHENTICATED)) == (90, 10)
    for number in range(100):
        await refused(login.caller(f"u{number}"), Kind.UNAUTHENTICATED, "BadToken")
    assert len(login._callers._kept) == 20
    assert not login._callers._pending


async def test_a_flood_locks_nobody_out_who_was_let_in_before(
    cluster: Cluster, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_MOST_PENDING", 10)
    login = cluster.login(seconds=10)
    cluster.tokens["newcomer"] = JANE
    await login.caller(TOKEN)
    clock(11)
    cluster.go.clear()
    flood = [asyncio.create_task(login.caller(f"t{number}")) for number in range(10)]
    for _ in range(5):
        await asyncio.sleep(0)
    await refused(login.caller("newcomer"), Kind.TOO_MANY, "TooManyRequests")
    known = asyncio.create_task(login.caller(TOKEN))
    await asyncio.sleep(0)
    cluster.go.set()
    assert await known == CALLER
    await asyncio.gather(*flood, return_exceptions=True)
    assert await login.caller("newcomer") == CALLER


async def test_a_token_is_kept_and_logged_nowhere(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    login = cluster.login()
    await login.caller(TOKEN)
    await refused(login.caller(f"{TOKEN}!"), Kind.UNAUTHENTICATED, "BadToken")
    assert any("a login was refused" in record.getMessage() for record in caplog.records)
    assert TOKEN not in caplog.text
    assert len(login._callers._kept) == 2
    assert TOKEN not in repr(login._callers._kept)
