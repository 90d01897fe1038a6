"""What the API server lets each service do: what it needs, and nothing else that there is to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest

from sandbox.environment import SERVICES, Sandbox
from tests.contract.kube import Connection, Kube, read_kubeconfig
from tests.rights import RIGHTS, Rights
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
OF_COLLECTIONS: Final = {"list", "watch", "create", "deletecollection"}
NOBODY: Final = "nobody-made-it"
EVERYBODY: Final[Rights] = {
    # who am I, and what may I do?
    "authentication.k8s.io/selfsubjectreviews": {"create"},
    "authorization.k8s.io/selfsubjectaccessreviews": {"create"},
    "authorization.k8s.io/selfsubjectrulesreviews": {"create"},
}
WORTH_MOST: Final[Rights] = {
    "/secrets": {"get", "list", "watch", "create", "patch", "delete"},
    "/configmaps": {"get", "list", "create", "patch", "delete"},
    "/pods": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
    "/pods/status": {"get", "update", "patch"},
    "/pods/exec": {"get", "create"},
    "/pods/log": {"get"},
    "/pods/eviction": {"create"},
    "/pods/ephemeralcontainers": {"patch"},
    "/nodes": {"get", "list", "patch", "delete"},
    "/nodes/proxy": {"get", "create"},
    "/events": {"list", "create"},
    "/namespaces": {"list", "create", "delete"},
    "/serviceaccounts": {"list", "create"},
    "/serviceaccounts/token": {"create"},
    "apps/deployments": {"list", "create", "patch", "delete"},
    "apps.kruise.io/clonesets": {"get", "list", "watch", "create", "update", "patch", "delete"},
    "apps.kruise.io/clonesets/status": {"get", "update", "patch"},
    "apps.kruise.io/clonesets/scale": {"get", "update", "patch"},
    "apps.triton.io/deployflows": {"get", "list", "watch", "create", "update", "patch", "delete"},
    "apps.triton.io/deployflows/status": {"get", "update", "patch"},
    "rbac.authorization.k8s.io/clusterroles": {"create", "update", "patch"},
    "rbac.authorization.k8s.io/clusterrolebindings": {"create", "update", "patch"},
    "apiextensions.k8s.io/customresourcedefinitions": {"list", "create", "patch", "delete"},
    "admissionregistration.k8s.io/validatingwebhookconfigurations": {"create", "patch", "delete"},
    "certificates.k8s.io/certificatesigningrequests/approval": {"update", "patch"},
}
"""The rights that the test must try at least: all that it tries is read from the server, which may lack some."""


class Question(NamedTuple):
    """A request that needs one right, and does nothing where it is let."""

    resource: str
    verb: str
    path: str

    async def is_let(self, kube: Kube) -> bool:
        if self.verb == "watch":
            async with kube.watch(self.path, timeoutSeconds="1") as watching:
                code = watching.code
        elif METHODS[self.verb] == "GET":
            code = (await kube.get(self.path, limit="1")).code
        else:
            # a merge patch for all that can be patched; what is let is tried, and fails for want of sense
            kind = "application/merge-patch+json" if self.verb == "patch" else ""
            code = (await kube.ask(METHODS[self.verb], self.path, {}, kind, dryRun="All")).code
        assert code != 401, self
        return code != 403


async def _questions(admin: Kube) -> list[Question]:
    """Return each resource of each group of the server, with each verb that it has."""
    groups = (await admin.get("/apis")).body["groups"]
    versions = [("", "/api/v1")]
    versions += [(g["name"], f"/apis/{version['groupVersion']}") for g in groups for version in g["versions"]]
    found = []
    for group, root in versions:
        for resource in (await admin.get(root)).body["resources"]:
            plural, _, subresource = resource["name"].partition("/")
            for verb in resource["verbs"]:
                # lists and watches are those of all namespaces
                inside = resource["namespaced"] and (subresource or verb not in {"list", "watch"})
                parts = [root, "namespaces/default" if inside else "", plural]
                if subresource or verb not in OF_COLLECTIONS:
                    parts += [NOBODY, subresource]
                path = "/".join(part for part in parts if part)
                found.append(Question(f"{group}/{resource['name']}", verb, path))
    return found


@asynccontextmanager
async def _as(connection: Connection, headers: Mapping[str, str] | None = None) -> AsyncIterator[Kube]:
    few = aiohttp.TCPConnector(limit=8)
    async with aiohttp.ClientSession(
        headers={**connection.headers, **(headers or {})}, connector=few
    ) as session:
        yield Kube(session, connection, "default")


def _kubeconfig(sandbox: Sandbox, service: str) -> Path | None:
    """The one that its process has, where it has one."""
    variables = Path(f"/proc/{sandbox.pid(service)}/environ").read_text().rstrip("\0").split("\0")
    environment = dict(variable.split("=", 1) for variable in variables)
    (path,) = {value for name, value in environment.items() if "KUBE" in name}
    return Path(path) if Path(path).is_file() else None


async def _account(sandbox: Sandbox, service: str) -> Connection:
    """How the service reaches the API server, or would, if it had a token."""
    if kubeconfig := _kubeconfig(sandbox, service):
        return read_kubeconfig(kubeconfig)
    as_admin = read_kubeconfig(sandbox.kubeconfig)
    path = f"/api/v1/namespaces/triton-system/serviceaccounts/triton-{service}/token"
    async with _as(as_admin) as admin:
        token = (await admin.made(path, {"spec": {}}))["status"]["token"]
    return as_admin._replace(headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("service", SERVICES)
async def test_it_is_let_do_what_it_needs_and_refused_all_else_that_there_is(
    sandbox: Sandbox, service: str
) -> None:
    async with _as(read_kubeconfig(sandbox.kubeconfig)) as admin:
        questions = await _questions(admin)
    requested: Rights = {}
    for question in questions:
        requested.setdefault(question.resource, set()).add(question.verb)
    assert not {
        resource: missing
        for resource, verbs in WORTH_MOST.items()
        if (missing := verbs - requested.get(resource, set()))
    }

    async with _as(await _account(sandbox, service)) as kube:
        answers = await asyncio.gather(*(question.is_let(kube) for question in questions))
    let: Rights = {}
    for question, is_let in zip(questions, answers, strict=True):
        if is_let:
            let.setdefault(question.resource, set()).add(question.verb)
    assert let == RIGHTS[service] | EVERYBODY


@pytest.mark.parametrize("service", SERVICES)
async def test_it_can_act_for_nobody_else(sandbox: Sandbox, service: str) -> None:
    account = await _account(sandbox, service)
    for other in ("admin", "system:serviceaccount:triton-system:triton-planner"):
        async with _as(account, {"Impersonate-User": other}) as kube:
            answer = await kube.get("/version")
            assert (answer.code, answer.reason) == (403, "Forbidden"), answer.body


@pytest.mark.parametrize("service", SERVICES)
async def test_its_process_has_the_token_of_its_own_account_and_no_other(
    sandbox: Sandbox, service: str
) -> None:
    kubeconfig = _kubeconfig(sandbox, service)
    assert (kubeconfig is not None) == bool(RIGHTS[service])
    async with _as(await _account(sandbox, service)) as kube:
        answer = await kube.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    name = answer.body["status"]["userInfo"]["username"]
    assert name == f"system:serviceaccount:triton-system:triton-{service}"


async def test_no_service_asks_for_what_it_may_not(sandbox: Sandbox, releases: Releases) -> None:
    # from the start on; other tests restart the API server, which then knows no rights for a moment
    said_before = {service: len(sandbox.log(service).read_text()) for service in SERVICES}
    for service in SERVICES:
        await sandbox.stop(service)
        await sandbox.start(service)
    await releases.create("modest", 2)
    await releases.apply(deployflow("modest-2", "modest", image="nginx:crash", replicas=2, batchSize=1))
    await releases.batch_is("modest-2", 1, "SmokeFailed")
    await releases.strategy("modest-2", canceled=True)
    await releases.finished("modest-2", "Canceled")
    await releases.apply(deployflow("modest-3", "modest", image="nginx:3", replicas=2, batchSize=1))
    await releases.finished("modest-3", "Success")
    async with aiohttp.ClientSession() as session:
        for service, url in sandbox.health_urls.items():
            async with session.get(f"{url}/metrics") as response:
                lines = [
                    line
                    for line in (await response.text()).splitlines()
                    if line.startswith("triton_kubernetes_requests_total{")
                ]
            assert bool(lines) == bool(RIGHTS[service]), service
            assert not [line for line in lines if 'code="401"' in line or 'code="403"' in line], service
            # a refused watch is only in the log
            said = sandbox.log(service).read_text()[said_before[service] :]
            assert "rights of deploy/rbac" not in said, service
