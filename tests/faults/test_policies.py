"""The policies of deploy/policies, on a real API server: what kubectl needs, whose name it writes, and the samples."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import pytest
import pytest_asyncio
import yaml

from sandbox.environment import Sandbox
from services.planner.api.protos import application_pb2 as apps
from services.planner.api.protos import deployflow_pb2 as flows
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from tests.certificates import Files
from tests.contract.conftest import ROOT
from tests.contract.kube import CLONESETS, Answer, Kube, a_cloneset, read_kubeconfig
from tests.faults.login import Accounts, Planner
from tests.rights import ROLES
from tests.system.hostile.innocent import innocent_releases
from tests.system.other_system import REPLIES, OtherSystem
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

HERE: Final = "policies"
ELSEWHERE: Final = "policies-elsewhere"
FLOWS: Final = "/apis/apps.triton.io/v1alpha1/namespaces/{}/deployflows"
ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}"
SAMPLES: Final = ROOT / "deploy/policies/samples"
VIEWER, OPERATOR, ADMIN = ROLES
PATCHER: Final = "patcher"
PLANNER: Final = "system:serviceaccount:triton-system:triton-planner"


class People:
    """Users with one role each in the namespace, named as it is; the administrator acts for them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._connection = read_kubeconfig(sandbox.kubeconfig)

    @asynccontextmanager
    async def acting(self, user: str = "", namespace: str = HERE) -> AsyncIterator[Kube]:
        headers = dict(self._connection.headers)
        if user:
            headers |= {"Impersonate-User": user, "Impersonate-Group": "system:authenticated"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Kube(session, self._connection, namespace)

    async def bind(self, user: str, role: str) -> None:
        async with self.acting() as admin:
            body = {
                "metadata": {"name": user},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }
            await admin.made(admin.path(f"{RBAC}/rolebindings"), body)


def _rendered(folder: Path) -> list[Json]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, HERE) as releases:
        await releases.make_namespace()
        yield releases


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elsewhere(sandbox: Sandbox) -> AsyncIterator[Releases]:
    """Another namespace: one of production, by the sample."""
    async with Releases(sandbox, ELSEWHERE) as releases:
        await releases.make_namespace()
        yield releases


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def people(sandbox: Sandbox, here: Releases) -> AsyncIterator[People]:
    """Everybody, with the policies in force; of what is shipped only the namespace of the bindings is changed."""
    people = People(sandbox)
    for role in ROLES:
        await people.bind(role, role)
    shipped = _rendered(ROOT / "deploy/policies")
    async with people.acting() as admin:
        rules = [
            {"apiGroups": ["apps.triton.io"], "resources": ["deployflows"], "verbs": ["get", "patch"]},
            {"apiGroups": ["apps.kruise.io"], "resources": ["clonesets"], "verbs": ["create", "patch"]},
        ]
        await admin.made(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": PATCHER}, "rules": rules}
        )
        await people.bind(PATCHER, PATCHER)
        for item in shipped:
            if item["kind"].endswith("Binding"):
                name = {"kubernetes.io/metadata.name": HERE}
                item["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": name}}
            await admin.made(_path(item), item)
    async with people.acting(PATCHER) as patcher:
        cloneset = a_cloneset("probe", 1)
        cloneset["metadata"]["annotations"] = {"apps.triton.io/adopted-by": "somebody"}
        await _refusal(lambda: patcher.post(patcher.path(CLONESETS), cloneset, dryRun="All"))
    async with people.acting(OPERATOR) as operator:
        path = operator.path(FLOWS)
        of_another = _flow("probe", "stop", **{df.REQUESTED_BY: "somebody"})
        await _refusal(lambda: operator.post(path, _flow("probe", "delete"), dryRun="All"))
        await _refusal(lambda: operator.post(path, of_another, dryRun="All"))
    yield people
    async with people.acting() as admin:
        for item in reversed(shipped):
            await admin.delete(f"{_path(item)}/{item['metadata']['name']}")
        await admin.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{PATCHER}")


def _path(item: Json) -> str:
    if item["kind"] == "ConfigMap":
        return f"/api/v1/namespaces/{item['metadata']['namespace']}/configmaps"
    kinds = {
        "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
        "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    }
    return f"{ADMISSION}/{kinds[item['kind']]}"


async def _refusal(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the first refusal: the server knows a new policy after a moment."""
    async with asyncio.timeout(15):
        while (answer := await ask()).code < 300:
            await asyncio.sleep(0.1)
        return answer


def _flow(name: str, action: str, **annotations: str) -> Json:
    body = deployflow(name, "web", action=action, replicas=8)
    if action not in ("create", "update", "rollback"):
        body["spec"].pop("updateStrategy", None)
        body["spec"]["application"].pop("template", None)
    body["metadata"]["annotations"] = annotations
    return body


async def test_an_action_needs_what_the_same_call_of_rest_needs(people: People) -> None:
    for user, lets in ((OPERATOR, False), (ADMIN, True)):
        async with people.acting(user) as kube:
            answer = await kube.post(kube.path(FLOWS), _flow("web-delete", "delete"), dryRun="All")
            assert (answer.code == 201) == lets, answer.body
            if not lets:
                assert (answer.code, answer.reason) == (403, "Forbidden")
                assert "needs the right to delete deployflows in this namespace" in answer.message
            for action in ("create", "update", "restart", "scale_in", "stop", "start"):
                answer = await kube.post(kube.path(FLOWS), _flow("web-other", action), dryRun="All")
                assert answer.code == 201, (user, action, answer.body)


async def test_what_approves_needs_the_right_to_approve(people: People, here: Releases) -> None:
    await here.apply(_paused("web-paused"))
    spec = {"mode": "auto", "batches": 9, "stage": "Baked", "canary": 2}
    async with people.acting(PATCHER) as patcher, people.acting(OPERATOR) as operator:
        for field, value in spec.items():
            patch = {"spec": {"updateStrategy": {field: value}}}
            answer = await patcher.patch(patcher.path(FLOWS, "web-paused"), patch, dryRun="All")
            assert (answer.code, answer.reason) == (403, "Forbidden"), answer.body
            assert "deployflows/promote" in answer.message
            answer = await operator.patch(operator.path(FLOWS, "web-paused"), patch, dryRun="All")
            assert answer.code == 200, answer.body
        for field, value in {"paused": False, "canceled": True, "retries": 1, "bakeSeconds": 5}.items():
            patch = {"spec": {"updateStrategy": {field: value}}}
            answer = await patcher.patch(patcher.path(FLOWS, "web-paused"), patch, dryRun="All")
            assert answer.code == 200, answer.body


def _paused(name: str, **annotations: str) -> Json:
    body = _flow(name, "update", **annotations)
    body["spec"]["updateStrategy"] |= {"mode": "manual", "batches": 1, "paused": True}
    return body


async def test_nobody_requests_in_the_name_of_another(people: People, here: Releases) -> None:
    async with people.acting(OPERATOR) as kube:
        path = kube.path(FLOWS)
        body = _flow("web-named", "update", **{df.REQUESTED_BY: "somebody"})
        answer = await kube.post(path, body, dryRun="All")
        assert (answer.code, answer.reason) == (403, "Forbidden")
        assert f'requested-by is "somebody", but you are "{OPERATOR}"' in answer.message
        for name in (OPERATOR, ""):
            body = _flow("web-named", "update", **{df.REQUESTED_BY: name})
            assert (await kube.post(path, body, dryRun="All")).code == 201
        assert (await kube.post(path, _flow("web-named", "update"), dryRun="All")).code == 201

        # a release of another: the name stays as long as nobody requests something in it
        first = {df.REQUESTED_BY: "somebody", df.LAST_REQUEST: "request-1", df.REQUESTED_BY_CLAIMED: "true"}
        async with people.acting(PLANNER) as planner:
            await planner.made(path, _paused("web-theirs", **first))
        theirs = kube.path(FLOWS, "web-theirs")
        for allowed in (
            {"spec": {"updateStrategy": {"paused": False}}},
            _step(OPERATOR),
            _step(OPERATOR, '{"request": "request-2", "command": "pause", "via": "cli", "claimed": true}'),
            _step(""),
            {"metadata": {"annotations": {df.REQUESTED_BY: OPERATOR, df.LAST_REQUEST: "request-2"}}},
            {"metadata": {"annotations": {df.REQUESTED_BY: None, df.LAST_REQUEST: "request-2"}}},
        ):
            answer = await kube.patch(theirs, allowed, dryRun="All")
            assert answer.code == 200, answer.body
        for refused in (
            {"metadata": {"annotations": {df.LAST_REQUEST: "request-2"}}},
            {"metadata": {"annotations": {df.REQUESTED_BY: "other"}}},
            {"metadata": {"annotations": {df.REQUESTED_BY_CLAIMED: None}}},
            _step("other"),
            # the planner would not read these, and would record the name of the release
            _step(OPERATOR, '{"request": "request-1", "command": "pause"}'),
            _step(OPERATOR, '{"request": "request-2", "command": "pause", "request": "x"}'),
            _step(OPERATOR, "no JSON"),
        ):
            answer = await kube.patch(theirs, refused, dryRun="All")
            assert (answer.code, answer.reason) == (403, "Forbidden"), refused

        # the step of another stays as long as it is not made the last request
        async with people.acting(PLANNER) as planner:
            step = {df.LAST_REQUEST: "request-3", df.LAST_STEP: STEP.format("request-2")}
            answer = await planner.patch(
                theirs, {"metadata": {"annotations": step | {df.LAST_STEP_BY: "other"}}}
            )
            assert answer.code == 200, answer.body
        again = {"metadata": {"annotations": {df.REQUESTED_BY: OPERATOR, df.LAST_REQUEST: "request-2"}}}
        assert (await kube.patch(theirs, again, dryRun="All")).code == 403
        again["metadata"]["annotations"][df.LAST_REQUEST] = "request-4"
        assert (await kube.patch(theirs, again, dryRun="All")).code == 200


STEP: Final = '{{"request": "{}", "command": "pause"}}'


def _step(by: str, step: str = STEP.format("request-2")) -> Json:
    annotations = {df.LAST_REQUEST: "request-2", df.LAST_STEP: step, df.LAST_STEP_BY: by}
    return {"metadata": {"annotations": annotations}, "spec": {"updateStrategy": {"paused": False}}}


async def test_nobody_adopts_in_the_name_of_another(people: People) -> None:
    async with people.acting(PATCHER) as kube:
        path = kube.path(CLONESETS)
        await kube.made(path, a_cloneset("plain", 0))
        for name, code in (("somebody", 403), (PATCHER, 200)):
            patch = {"metadata": {"annotations": {"apps.triton.io/adopted-by": name}}}
            answer = await kube.patch(kube.path(CLONESETS, "plain"), patch, dryRun="All")
            assert answer.code == code, answer.body
        assert (
            await kube.patch(kube.path(CLONESETS, "plain"), {"spec": {"replicas": 1}}, dryRun="All")
        ).code == 200


async def test_the_command_line_writes_the_name_of_its_account_and_releases_go_on(
    sandbox: Sandbox, people: People, here: Releases, elsewhere: Releases, tmp_path: Path
) -> None:
    await here.create("cli", 2)
    await elsewhere.create("innocent", 2)
    async with people.acting() as admin:
        account = f"/api/v1/namespaces/{HERE}/serviceaccounts"
        await admin.made(account, {"metadata": {"name": "ci"}})
        made = await admin.made(f"{account}/ci/token", {"spec": {}})
        name = f"system:serviceaccount:{HERE}:ci"
    await people.bind(name, OPERATOR)
    config = yaml.safe_load(sandbox.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": made["status"]["token"]}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))

    async def triton(*words: str) -> tuple[int, str, str]:
        command = [
            sys.executable,
            "-m",
            "cli.main",
            *words,
            "--kubeconfig",
            str(kubeconfig),
            "--namespace",
            HERE,
        ]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, "TRITON_SERVER": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, said = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode().strip(), said.decode()

    code, _, said = await triton("update", "cli", "--image", "nginx:2", "--requested-by", "somebody")
    assert code != 0
    assert f'but you are "{name}"' in said
    code, flow, said = await triton("update", "cli", "--image", "nginx:2", "--canary", "1")
    assert code == 0, said
    assert (await here.batch_is(flow, 1, "Smoked"))["requestedBy"] == name
    code, _, said = await triton("promote", flow)
    assert code == 0, said
    assert (await here.finished(flow, "Success"))["requestedBy"] == name
    await elsewhere.apply(deployflow("innocent-2", "innocent", image="nginx:2", replicas=2, batchSize=1))
    await elsewhere.finished("innocent-2", "Success")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planner(
    sandbox: Sandbox, people: People, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planner]:
    """A planner that asks for a login, while the policies are in force."""
    planner = Planner(Files.made(tmp_path_factory.mktemp("tls")), HERE)
    async with planner.running(sandbox, "planner-beside-policies"):
        yield planner


def _account(role: str, namespace: str = HERE) -> str:
    return f"system:serviceaccount:{namespace}:by-token-{role}"


async def _tokens(people: People, *roles: str, namespace: str = HERE) -> dict[str, str]:
    """Return the token of a new account for each role."""
    async with people.acting(namespace=namespace) as admin:
        accounts = Accounts(admin)
        for role in roles:
            await accounts.make(f"by-token-{role}")
            await accounts.bind(f"by-token-{role}", role)
        return {role: await accounts.token(f"by-token-{role}") for role in roles}


async def _posted(planner: Planner, token: str, path: str, body: Json, namespace: str = HERE) -> Json:
    """Return the answer of REST v2 with its status."""
    claimed = {"X-Requested-By": "somebody"}
    async with (
        planner.session(token) as session,
        session.post(f"/api/v2/namespaces/{namespace}/{path}", json=body, headers=claimed) as response,
    ):
        answer: Json = await response.json()
        return {"code": response.status, **answer}


async def test_a_token_gets_by_rest_and_grpc_what_its_role_allows_and_nothing_more(
    sandbox: Sandbox, people: People, here: Releases, planner: Planner
) -> None:
    tokens = await _tokens(people, VIEWER, OPERATOR, ADMIN, PATCHER)
    operator = tokens[OPERATOR]
    create = {"spec": deployflow("", "tokened", action="create", replicas=2)["spec"]}
    instance = apps.InstanceMeta(namespace=HERE, name="tokened")
    made: Json = {}

    async def created() -> bool:
        made.update(await _posted(planner, operator, "deployflows", create))
        return bool(made["code"] == 201)

    async with innocent_releases(sandbox, "beside-policies", ["innocent"]):
        # a new binding takes a moment
        await until("the operator releases", created)
        status = await here.finished(made["metadata"]["name"], "Success")
        assert (status["requestedBy"], status["requestedByClaimed"]) == (_account(OPERATOR), False)
        update = {"image": "nginx:2", "strategy": {"canary": 1, "batchSize": 1}}
        for role in (VIEWER, PATCHER):
            refused = await _posted(planner, tokens[role], "instances/tokened/updates", update)
            assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        flow = (await _posted(planner, operator, "instances/tokened/updates", update))["metadata"]["name"]
        await here.batch_is(flow, 1, "Smoked")

        # its approval, by each road
        following = flows.NextRequest(deploy=flows.DeployMeta(namespace=HERE, name=flow))
        for role in (VIEWER, PATCHER):
            said = await planner.call(tokens[role], "deployflow.DeployFlow/Next", following)
            assert said.code is grpc.StatusCode.PERMISSION_DENIED
            assert "deployflows/promote" in said.text
        code, message = await planner.ask(tokens[PATCHER], "PATCH", f"deployflows/{flow}", {"batches": 2})
        assert code == 403
        assert "deployflows/promote" in message
        async with people.acting(_account(PATCHER)) as kube:
            patch = {"spec": {"updateStrategy": {"batches": 2}}}
            answer = await kube.patch(kube.path(FLOWS, flow), patch)
            assert answer.code == 403
            assert "deployflows/promote" in answer.message
        said = await planner.call(operator, "deployflow.DeployFlow/Next", following)
        assert said.code is grpc.StatusCode.OK, said
        await here.batch_is(flow, 1, "Baking", "Baked")
        assert (await _posted(planner, operator, f"deployflows/{flow}/promote", {}))["code"] == 200
        assert (await here.finished(flow, "Success"))["requestedBy"] == _account(OPERATOR)

        # its end, by each road
        remove = apps.InstanceMetaRequest(instance=instance)
        said = await planner.call(operator, "application.Application/Delete", remove)
        assert (said.code, said.reason) == (grpc.StatusCode.PERMISSION_DENIED, "Forbidden")
        assert (await planner.ask(operator, "DELETE", "instances/tokened"))[0] == 403
        assert len(await here.pods("tokened")) == 2
        said = await planner.call(tokens[ADMIN], "application.Application/Delete", remove)
        assert said.code is grpc.StatusCode.OK, said
        (last,) = set(await here.names("tokened")) - {made["metadata"]["name"], flow}
        assert (await here.finished(last, "Success"))["requestedBy"] == _account(ADMIN)
        assert await here.pods("tokened") == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limits(elsewhere: Releases, people: People) -> AsyncIterator[None]:
    """The sample as it is: its namespaces are chosen by their label."""
    items = _rendered(SAMPLES)
    async with people.acting(namespace=ELSEWHERE) as admin:
        # of a release from before
        await elsewhere.apply(_paused("web-before"))
        label = {"metadata": {"labels": {"apps.triton.io/limits": "production"}}}
        assert (await admin.patch(f"/api/v1/namespaces/{ELSEWHERE}", label)).code == 200
        for item in items:
            await admin.made(_path(item), item)
        await _refusal(lambda: admin.post(admin.path(FLOWS), _flow("probe", "update"), dryRun="All"))
        yield
        for item in reversed(items):
            await admin.delete(f"{_path(item)}/{item['metadata']['name']}")


FIT: Final[Json] = {"batchSize": "25%", "bakeSeconds": 60, "canary": 1}


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    ("action", "strategy", "words"),
    [
        ("update", {}, ""),
        ("update", {"batchSize": 2}, ""),
        ("update", {"batchSize": 1}, ""),
        ("update", {"bakeSeconds": 600}, ""),
        ("update", {"batchSize": "26%"}, "batchSize: 3 of 8 pods at once, and this namespace allows 25%"),
        ("update", {"batchSize": 3}, "batchSize: 3 of 8 pods at once, and this namespace allows 25%"),
        ("update", {"batchSize": 0}, "batchSize: 8 of 8 pods at once, and this namespace allows 25%"),
        ("update", {"batchSize": None}, "batchSize: 8 of 8 pods at once, and this namespace allows 25%"),
        ("update", {"bakeSeconds": 59}, "bakeSeconds: 59, and this namespace needs at least 60"),
        ("update", {"bakeSeconds": None}, "bakeSeconds: 0, and this namespace needs at least 60"),
        ("update", {"canary": None}, "canary: this namespace needs one in every update"),
        ("update", {"canary": 8}, "canary: this namespace needs one in every update"),
        ("restart", {"canary": None}, ""),
        ("restart", {"canary": None, "batchSize": 3}, "batchSize: 3 of 8 pods at once"),
        ("rollback", {"canary": None, "batchSize": None, "bakeSeconds": None}, ""),
        ("create", {"canary": None, "batchSize": None, "bakeSeconds": None}, ""),
        ("scale_in", {"canary": None, "batchSize": None, "bakeSeconds": None}, ""),
    ],
)
async def test_the_sample_of_limits(people: People, action: str, strategy: Json, words: str) -> None:
    body = _flow("web-limited", action)
    field = "updateStrategy" if action in ("create", "update", "rollback") else "nonUpdateStrategy"
    body["spec"][field] = {key: value for key, value in {**FIT, **strategy}.items() if value is not None}
    async with people.acting(namespace=ELSEWHERE) as kube:
        answer = await kube.post(kube.path(FLOWS), body, dryRun="All")
        if words:
            assert (answer.code, answer.reason) == (422, "Invalid")
            assert words in answer.message
        else:
            assert answer.code == 201, answer.body
    async with people.acting() as kube:
        # no label, no limits
        assert (await kube.post(kube.path(FLOWS), body, dryRun="All")).code == 201


@pytest.mark.usefixtures("limits")
async def test_limits_hold_for_changes_of_them_and_leave_a_release_from_before_alone(people: People) -> None:
    async with people.acting(namespace=ELSEWHERE) as kube:
        path = kube.path(FLOWS, "web-before")
        for fields, code in (
            ({"paused": False}, 200),
            ({"canceled": True}, 200),
            ({"mode": "auto"}, 200),
            ({"batchSize": 5}, 422),
            ({"batchSize": 2, "bakeSeconds": 60, "canary": 1}, 200),
        ):
            answer = await kube.patch(path, {"spec": {"updateStrategy": fields}}, dryRun="All")
            assert answer.code == code, (fields, answer.body)


@pytest.mark.usefixtures("limits")
async def test_a_command_beyond_the_limits_is_refused_over_kafka_too(
    sandbox: Sandbox, here: Releases, elsewhere: Releases
) -> None:
    await OtherSystem.makes_topic(sandbox.kafka_bootstrap)
    await here.create("beside", 2)
    spec = _flow("", "update")["spec"] | {"updateStrategy": {**FIT, "batchSize": 8}}
    command = {"id": "limits-1", "type": "deploy", "namespace": ELSEWHERE, "replyTo": REPLIES, "spec": spec}
    async with OtherSystem(sandbox.kafka_bootstrap) as paas:
        await paas.ask("web", command)
        (reply,) = await paas.replies("limits-1")
    assert (reply["result"], reply["reason"]) == ("refused", "Invalid")
    assert "this namespace allows 25%" in reply["message"]
    assert await elsewhere.names("web") == ["web-before"]
    await here.apply(deployflow("beside-2", "beside", image="nginx:2", replicas=2, batchSize=1))
    await here.finished("beside-2", "Success")


@pytest.mark.usefixtures("limits")
async def test_a_call_beyond_the_limits_is_refused_by_rest_and_grpc(
    people: People, elsewhere: Releases, planner: Planner
) -> None:
    token = (await _tokens(people, OPERATOR, namespace=ELSEWHERE))[OPERATOR]
    # the limits are no matter of a create
    await elsewhere.create("limited", 2)
    path = "instances/limited/restarts"
    refused: Json = {}

    async def reviewed() -> bool:
        refused.update(await _posted(planner, token, path, {"strategy": {"batchSize": 2}}, ELSEWHERE))
        return bool(refused["code"] != 403)

    # a new binding takes a moment
    await until("the operator may restart", reviewed)
    assert (refused["code"], refused["reason"]) == (400, "Invalid")
    assert "batchSize: 2 of 2 pods at once, and this namespace allows 25%" in refused["detail"]
    restart = apps.RestartRequest(instance=apps.InstanceMeta(namespace=ELSEWHERE, name="limited"))
    said = await planner.call(token, "application.Application/Restart", restart)
    assert said.code is grpc.StatusCode.INVALID_ARGUMENT, said
    assert "batchSize: 2 of 2 pods at once, and this namespace allows 25%" in said.text
    assert await elsewhere.names("limited") == ["limited-first"]
