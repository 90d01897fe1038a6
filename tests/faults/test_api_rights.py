"""Login and rights of the planner's APIs, by the tokens and the RBAC of a real API server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from typing import Final

import aiohttp
import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from sandbox.environment import Sandbox
from services.planner.api import access
from services.planner.api.access import Caller, Right
from services.planner.api.problem import Kind, Problem
from services.planner.api.protos import application_pb2 as apps
from services.planner.api.protos import deployflow_pb2 as flows
from services.planner.api.protos import pod_pb2 as pods
from services.planner.api.reviews import ReviewedAccess, forbidden
from shared.domain.json_types import Json
from shared.kube.client import Client
from shared.settings import Settings
from tests.certificates import Files
from tests.contract.kube import Kube, read_kubeconfig
from tests.faults.login import Accounts, Planner
from tests.rights import ROLES
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

HERE: Final = "api-rights"
NAME: Final = "planner-with-login"
NO_ROLE: Final = "no-role"
VIEWER, OPERATOR, ADMIN = ROLES
RIGHTS: Final = (
    access.GET,
    access.LIST,
    access.WATCH,
    access.CREATE,
    access.PATCH,
    access.DELETE,
    access.PROMOTE,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, HERE) as releases:
        await releases.make_namespace()
        yield releases


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def accounts(sandbox: Sandbox, here: Releases) -> AsyncIterator[Accounts]:
    """One for each role of deploy/rbac, named as it is, and one without."""
    connection = read_kubeconfig(sandbox.kubeconfig)
    async with aiohttp.ClientSession(headers=connection.headers) as session:
        accounts = Accounts(Kube(session, connection, here.namespace))
        await accounts.make(NO_ROLE)
        for role in ROLES:
            await accounts.make(role)
            await accounts.bind(role, role)
        yield accounts


async def _client(sandbox: Sandbox, service: str) -> Client:
    settings = Settings(kubeconfig=sandbox.environment_of(service)["TRITON_KUBECONFIG"])
    return await Client.connect(settings.kubeconfig, agent="test")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def login(sandbox: Sandbox) -> AsyncIterator[ReviewedAccess]:
    """With the planner's own account; it remembers nothing."""
    client = await _client(sandbox, "planner")
    yield ReviewedAccess(client, seconds=0)
    await client.close()


async def refused(call: Awaitable[object], kind: Kind) -> Problem:
    with pytest.raises(Problem) as problem:
        await call
    assert problem.value.kind is kind, problem.value
    return problem.value


async def may(login: ReviewedAccess, caller: Caller, right: Right, namespace: str, name: str = "") -> bool:
    try:
        await login.allow(caller, right, namespace, name)
    except Problem as problem:
        assert (problem.kind, str(problem)) == (Kind.FORBIDDEN, forbidden(caller, right, namespace, name))
        return False
    return True


@pytest.mark.parametrize("account", [*ROLES, NO_ROLE])
async def test_an_account_may_what_its_role_says_in_its_namespace_and_nothing_elsewhere(
    account: str, accounts: Accounts, login: ReviewedAccess
) -> None:
    caller = await login.caller(await accounts.token(account))
    assert caller.name == f"system:serviceaccount:{HERE}:{account}"
    assert f"system:serviceaccounts:{HERE}" in caller.groups
    role = ROLES.get(account, {})

    def in_role(right: Right) -> bool:
        resource = "apps.triton.io/deployflows" + (f"/{right.subresource}" if right.subresource else "")
        return right.verb in role.get(resource, set())

    async def all_of_it() -> bool:
        # a new binding takes a moment
        return all([await may(login, caller, right, HERE, "web") for right in RIGHTS if in_role(right)])

    await until(f"{account} may do what its role says", all_of_it)
    for right in RIGHTS:
        assert await may(login, caller, right, HERE) is in_role(right), right
        assert not await may(login, caller, right, "default"), right
        assert not await may(login, caller, right, ""), right


async def test_a_right_by_name_is_one_for_that_name(accounts: Accounts, login: ReviewedAccess) -> None:
    rule = {
        "apiGroups": ["apps.triton.io"],
        "resources": ["deployflows/promote"],
        "resourceNames": ["web-df"],
        "verbs": ["create"],
    }
    await accounts.admin.made(f"{accounts.rbac}/roles", {"metadata": {"name": "presser"}, "rules": [rule]})
    await accounts.make("presser")
    await accounts.bind("presser", "presser", "Role")
    caller = await login.caller(await accounts.token("presser"))
    await until("it may", lambda: may(login, caller, access.PROMOTE, HERE, "web-df"))
    assert not await may(login, caller, access.PROMOTE, HERE, "api-df")
    assert not await may(login, caller, access.PROMOTE, HERE)
    assert not await may(login, caller, access.PATCH, HERE, "web-df")


async def test_to_adopt_a_cloneset_is_the_right_to_update_that_one_and_in_no_role_of_triton(
    accounts: Accounts, login: ReviewedAccess
) -> None:
    rule = {
        "apiGroups": ["apps.kruise.io"],
        "resources": ["clonesets"],
        "resourceNames": ["web"],
        "verbs": ["update"],
    }
    await accounts.admin.made(f"{accounts.rbac}/roles", {"metadata": {"name": "adopter"}, "rules": [rule]})
    await accounts.make("adopter")
    await accounts.bind("adopter", "adopter", "Role")
    caller = await login.caller(await accounts.token("adopter"))
    await until("it may", lambda: may(login, caller, access.ADOPT, HERE, "web"))
    assert not await may(login, caller, access.ADOPT, HERE, "api")
    admin = await login.caller(await accounts.token(ADMIN))
    assert not await may(login, admin, access.ADOPT, HERE, "web")


async def test_a_right_ends_with_its_binding_and_a_token_with_its_account(
    accounts: Accounts, login: ReviewedAccess
) -> None:
    await accounts.make("leaver")
    await accounts.bind("leaver", VIEWER)
    token = await accounts.token("leaver")
    caller = await login.caller(token)
    await until("it may", lambda: may(login, caller, access.GET, HERE))
    assert (await accounts.admin.delete(f"{accounts.rbac}/rolebindings/leaver")).code == 200

    async def may_no_more() -> bool:
        return not await may(login, caller, access.GET, HERE)

    await until("it may no more", may_no_more)
    # the API server itself remembers for ten seconds a token that it was shown
    unused = await accounts.token("leaver")
    assert (await accounts.admin.delete(f"{accounts.core}/serviceaccounts/leaver")).code == 200

    async def unknown() -> bool:
        try:
            await login.caller(unused)
        except Problem as problem:
            return problem.kind is Kind.UNAUTHENTICATED
        return False

    await until("its token is worth nothing", unknown)


async def test_a_token_for_others_or_of_nobody_is_none(accounts: Accounts, login: ReviewedAccess) -> None:
    for token in (await accounts.token(ADMIN, audiences=["elsewhere"]), "nonsense", "a.b.c"):
        assert (await refused(login.caller(token), Kind.UNAUTHENTICATED)).reason == "BadToken"


async def test_a_planner_without_the_rights_of_its_account_lets_nobody_in_and_says_why(
    sandbox: Sandbox, accounts: Accounts
) -> None:
    client = await _client(sandbox, "executor")
    try:
        login = ReviewedAccess(client, seconds=0)
        problem = await refused(login.caller(await accounts.token(ADMIN)), Kind.UNAVAILABLE)
        assert 'cannot create resource "tokenreviews" in API group "authentication.k8s.io"' in str(problem)
        assert "give the planner the rights of deploy/rbac" in str(problem)
        problem = await refused(login.allow(Caller("jane"), access.GET, HERE), Kind.UNAVAILABLE)
        assert 'cannot create resource "subjectaccessreviews"' in str(problem)
    finally:
        await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planner(
    sandbox: Sandbox, accounts: Accounts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planner]:
    planner = Planner(Files.made(tmp_path_factory.mktemp("tls")), HERE)
    async with planner.running(sandbox, NAME):
        yield planner


def release(instance: str) -> Json:
    spec = deployflow("", instance, replicas=1)["spec"]
    return {"applicationSpec": spec["application"], "updateStrategy": {"batchSize": 1, "mode": "auto"}}


FIRST: Final = flows.DeployMeta(namespace=HERE, name="web-first")
WEB: Final = apps.InstanceMeta(namespace=HERE, name="web")
READS: Final = ("deployflows", "deployflows/web-first", "instances", "instances/web")
CHANGES: Final[list[tuple[str, str, Json | None, Right, str]]] = [
    ("POST", "deployflows", release("other"), access.CREATE, ""),
    ("PATCH", "deployflows/web-first", {"paused": True}, access.PATCH, "web-first"),
    ("PATCH", "deployflows/web-first", {"batches": 2}, access.PATCH, "web-first"),
    ("DELETE", "deployflows/web-first", None, access.DELETE, "web-first"),
    ("POST", "instances/web/rollbacks", {}, access.CREATE, ""),
    ("POST", "instances/web/restarts", {}, access.CREATE, ""),
    ("POST", "instances/web/scales", {"replicas": 2}, access.CREATE, ""),
    ("DELETE", "instances/web", None, access.CREATE, ""),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def web(here: Releases) -> Releases:
    """An instance that runs."""
    await here.create("web", 1)
    return here


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_without_a_token_or_with_a_bad_one_no_call_is_answered(
    token: str | None, planner: Planner, web: Releases
) -> None:
    async with planner.session(token) as session:
        async with session.get("/openapi.json") as response:
            paths = (await response.json())["paths"]
        requests = 0
        for path, methods in paths.items():
            for method in methods.keys() & {"get", "post", "put", "patch", "delete"}:
                async with session.request(method, re.sub(r"{\w+}", "web", path), json={}) as response:
                    assert response.status == 401, (method, path, await response.text())
                    assert response.headers["WWW-Authenticate"] == "Bearer"
                requests += 1
    assert requests > len(CHANGES)
    for proto in (flows, apps, pods):
        for service in proto.DESCRIPTOR.services_by_name.values():
            for called in service.methods:
                said = await planner.call(token, f"{service.full_name}/{called.name}", Empty())
                expected = "BadToken" if token else "NoToken"
                assert (said.code, said.reason) == (grpc.StatusCode.UNAUTHENTICATED, expected), called.name
    assert await web.names("web") == ["web-first"]


async def test_an_account_without_a_role_reads_nothing(
    planner: Planner, web: Releases, accounts: Accounts
) -> None:
    async with planner.session(await accounts.token(NO_ROLE)) as session:
        async with session.get("/openapi.json") as response:
            paths = (await response.json())["paths"]
        reads = [path for path, methods in paths.items() if "get" in methods]
        assert len(reads) > len(READS)
        for path in reads:
            named = path.replace("{namespace}", HERE).replace("deployflows/{name}", "deployflows/web-first")
            async with session.get(re.sub(r"{\w+}", "web", named)) as response:
                assert response.status == 403, (path, await response.text())


async def test_a_viewer_sees_and_cannot_change_and_learns_what_is_missing(
    planner: Planner, web: Releases, accounts: Accounts, login: ReviewedAccess
) -> None:
    token = await accounts.token(VIEWER)
    caller = await login.caller(token)

    async def sees() -> bool:
        return (await planner.ask(token, "GET", "deployflows"))[0] == 200

    await until("the viewer sees", sees)
    for path in READS:
        assert (await planner.ask(token, "GET", path))[0] == 200, path
    before = (await web.flow("web-first"))["metadata"]["generation"]
    for method, path, body, right, name in CHANGES:
        missing = forbidden(caller, right, HERE, name)
        assert f'User "{caller.name}" cannot {right.verb} resource "deployflows"' in missing
        assert await planner.ask(token, method, path, body) == (403, missing)
    assert await web.names("web") == ["web-first"]
    assert (await web.flow("web-first"))["metadata"]["generation"] == before
    assert len(await web.pods("web")) == 1
    # and only where its role is bound
    assert await planner.ask(token, "GET", "deployflows", namespace="default") == (
        403,
        forbidden(caller, access.LIST, "default"),
    )


async def test_an_operator_releases_and_its_name_is_kept_but_it_deletes_nothing(
    sandbox: Sandbox, planner: Planner, web: Releases, accounts: Accounts, login: ReviewedAccess
) -> None:
    token = await accounts.token(OPERATOR)
    caller = await login.caller(token)

    async def released() -> bool:
        return (await planner.ask(token, "POST", "deployflows", release("by-operator")))[0] == 201

    await until("the operator releases", released)
    (name,) = await web.names("by-operator")
    status = await web.finished(name, "Success")
    assert status["requestedBy"] == caller.name
    assert caller.name in {event.get("user", {}).get("name") for event in await web.events(name)}
    assert f'"create by {caller.name}"' in sandbox.log(NAME).read_text()
    for path, right, which in (
        (f"deployflows/{name}", access.DELETE, name),
        ("instances/by-operator", access.DELETE, ""),
    ):
        assert await planner.ask(token, "DELETE", path) == (403, forbidden(caller, right, HERE, which))
    assert await web.names("by-operator") == [name]
    as_admin = await accounts.token(ADMIN)
    assert (await planner.ask(as_admin, "DELETE", f"deployflows/{name}"))[0] == 204


GRPC_READS: Final[list[tuple[str, Message]]] = [
    ("deployflow.DeployFlow/Get", flows.DeployMetaRequest(deploy=FIRST)),
    ("deployflow.DeployFlow/Gets", flows.DeploysRequest(filter=flows.DeployFilter(namespace=HERE))),
    ("deployflow.DeployFlow/Watch", flows.WatchRequest(deploy=FIRST)),
    ("deployflow.DeployFlow/ListAndWatch", flows.DeploysRequest(filter=flows.DeployFilter(namespace=HERE))),
    ("application.Application/Get", apps.InstanceMetaRequest(instance=WEB)),
    ("pod.Pod/Gets", pods.GetsRequest(filter=pods.PodFilter(namespace=HERE))),
]
GRPC_CHANGES: Final[list[tuple[str, Message, Right, str]]] = [
    ("deployflow.DeployFlow/Next", flows.NextRequest(deploy=FIRST), access.PROMOTE, "web-first"),
    ("deployflow.DeployFlow/Pause", flows.DeployMetaRequest(deploy=FIRST), access.PATCH, "web-first"),
    ("deployflow.DeployFlow/Resume", flows.DeployMetaRequest(deploy=FIRST), access.PATCH, "web-first"),
    ("deployflow.DeployFlow/Cancel", flows.DeployMetaRequest(deploy=FIRST), access.PATCH, "web-first"),
    ("deployflow.DeployFlow/Delete", flows.DeployMetaRequest(deploy=FIRST), access.DELETE, "web-first"),
    ("application.Application/Restart", apps.RestartRequest(instance=WEB), access.CREATE, ""),
    ("application.Application/Scale", apps.ScaleRequest(instance=WEB, replicas=2), access.CREATE, ""),
    ("application.Application/Rollback", apps.RollbackRequest(instance=WEB), access.CREATE, ""),
    ("application.Application/Delete", apps.InstanceMetaRequest(instance=WEB), access.CREATE, ""),
]


async def test_a_viewer_sees_by_grpc_and_cannot_change(
    planner: Planner, web: Releases, accounts: Accounts, login: ReviewedAccess
) -> None:
    token = await accounts.token(VIEWER)
    caller = await login.caller(token)

    async def sees() -> bool:
        return (await planner.call(token, *GRPC_READS[0])).code is grpc.StatusCode.OK

    await until("the viewer sees", sees)
    for method, request in GRPC_READS:
        assert (await planner.call(token, method, request)).code is grpc.StatusCode.OK, method
    before = (await web.flow("web-first"))["metadata"]["generation"]
    for method, request, right, name in GRPC_CHANGES:
        said = await planner.call(token, method, request)
        missing = forbidden(caller, right, HERE, name)
        assert said == (grpc.StatusCode.PERMISSION_DENIED, missing, "Forbidden"), method
    assert await web.names("web") == ["web-first"]
    assert (await web.flow("web-first"))["metadata"]["generation"] == before


async def test_who_may_promote_alone_lets_a_release_go_ahead_and_does_nothing_else(
    planner: Planner, web: Releases, accounts: Accounts, login: ReviewedAccess
) -> None:
    rule = {"apiGroups": ["apps.triton.io"], "resources": ["deployflows/promote"], "verbs": ["create"]}
    await accounts.admin.made(f"{accounts.rbac}/roles", {"metadata": {"name": "button"}, "rules": [rule]})
    await accounts.make("button")
    await accounts.bind("button", "button", "Role")
    token = await accounts.token("button")
    caller = await login.caller(token)
    await web.apply(deployflow("gated", "gated", action="create", replicas=2, batchSize=1, canary=1))
    await web.batch_is("gated", 1, "Smoked")
    gated = flows.DeployMeta(namespace=HERE, name="gated")

    async def pressed() -> bool:
        next_ = flows.NextRequest(deploy=gated)
        return (await planner.call(token, "deployflow.DeployFlow/Next", next_)).code is grpc.StatusCode.OK

    await until("it may press", pressed)
    status = await web.batch_is("gated", 1, "Baking", "Baked")
    assert (status["requestedBy"], status["lastCommand"]["requestedBy"]) == ("kubectl", caller.name)
    for method, right in (("Pause", access.PATCH), ("Cancel", access.PATCH), ("Get", access.GET)):
        said = await planner.call(
            token, f"deployflow.DeployFlow/{method}", flows.DeployMetaRequest(deploy=gated)
        )
        assert said[:2] == (grpc.StatusCode.PERMISSION_DENIED, forbidden(caller, right, HERE, "gated"))
    await web.strategy("gated", canceled=True)
    await web.finished("gated", "Canceled")
