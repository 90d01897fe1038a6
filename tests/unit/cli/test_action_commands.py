"""The verbs: what each asks for, from what there is of the instance."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cli.connection import SELF_REVIEWS, Cluster, Place
from shared.domain.deployflow import MANAGED_BY
from shared.domain.json_types import Json
from shared.kube import client as k8s
from shared.kube.client import ApiError, Resource

WEB, IMAGE = "7-web", "web:1"
IDENTITY = {"appID": 7, "groupID": 8, "appName": "web", "instanceName": WEB}


class Server:
    """The API server of one namespace, as far as the verbs ask it."""

    server = "http://test"

    def __init__(self) -> None:
        self.flows: list[Json] = []
        self.cloneset: Json | None = None
        self.pods: list[str] = []
        self.made: list[Json] = []
        self.namespaces = {"default"}

    async def list(self, resource: Resource, namespace: str, *, labels: str = "") -> list[Json]:
        if resource is k8s.PODS:
            assert labels == f"app.kubernetes.io/instance={WEB}"
            return [{"metadata": {"name": name}} for name in self.pods]
        return copy.deepcopy(self.flows)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        if resource is k8s.NAMESPACES:
            if name in self.namespaces:
                return {"metadata": {"name": name}}
            raise ApiError(404, "NotFound", f"{name} not found")
        if resource is k8s.CLONESETS and self.cloneset is not None and name == WEB:
            return self.cloneset
        found = [flow for flow in self.flows if flow["metadata"]["name"] == name]
        if resource is k8s.CLONESETS or not found:
            raise ApiError(404, "NotFound", f"{name} not found")
        return copy.deepcopy(found[0])

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        if resource is SELF_REVIEWS:
            return {"status": {"userInfo": {"username": "shop:ci"}}}
        self.made.append(body)
        return body

    async def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        self.made.append(body)
        return body

    # --- what there is ---

    def runs(self, replicas: int, *, ours: bool = True, **annotations: str) -> None:
        marks = {f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
        self.cloneset = {
            "metadata": {
                "name": WEB,
                "namespace": "default",
                "annotations": marks,
                "labels": MANAGED_BY if ours else {},
            },
            "spec": {"replicas": replicas},
        }
        self.pods = [f"{WEB}-{number}" for number in range(replicas)]

    def had(
        self, name: str, phase: str = "Success", *, image: str = IMAGE, action: str = "update", **more: Any
    ) -> None:
        """One release more."""
        over = phase in {"Success", "Canceled", "Failed", "Aborted"}
        template = {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}
        self.flows.append(
            {
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "creationTimestamp": f"2026-01-01T10:00:{len(self.flows):02}Z",
                    "resourceVersion": "1",
                },
                "spec": {
                    "action": action,
                    "application": {**IDENTITY, "replicas": more.pop("replicas", 4), **template},
                    "updateStrategy" if action == "update" else "nonUpdateStrategy": more,
                },
                "status": {"phase": phase, "finished": over, "startedAt": "2026-01-01T10:00:00Z"},
            }
        )

    @property
    def spec(self) -> Json:
        """Of the one DeployFlow that was made."""
        (made,) = self.made
        spec: Json = made["spec"]
        return spec


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """An instance of four pods with one release."""
    made = Server()
    made.had("first")
    made.runs(4)

    @contextlib.asynccontextmanager
    async def connect(place: Place) -> AsyncIterator[Cluster]:
        yield Cluster(made, place.namespace)  # type: ignore[arg-type]

    monkeypatch.setattr("cli.connection.connect", connect)
    return made


def test_without_a_name_the_requester_is_the_account_of_the_cluster(
    server: Server, triton: Callable[..., Any]
) -> None:
    assert triton("restart", WEB).code == 0
    assert server.made[0]["metadata"]["annotations"]["apps.triton.io/requested-by"] == "shop:ci"


@pytest.mark.parametrize(
    ("arguments", "action", "replicas", "plan"),
    [
        (["restart"], "restart", 4, "4 pods in 2 batches, auto, 5 s between batches"),
        (["scale", "--replicas", "6"], "scale_out", 6, "2 pods in 1 batch, auto"),
        (["scale", "--replicas", "3"], "scale_in", 3, "1 pod in 1 batch, auto"),
        (["stop"], "stop", 0, "4 pods in 2 batches, auto, 5 s between batches"),
        (["start"], "start", 4, "no pod is replaced, made or deleted"),
        (["delete", "--yes"], "delete", 0, "4 pods in 2 batches, auto, 5 s between batches"),
    ],
)
def test_a_verb_makes_a_release_that_goes_by_itself_and_prints_its_name(
    arguments: list[str], action: str, replicas: int, plan: str, server: Server, triton: Callable[..., Any]
) -> None:
    verb, *options = arguments
    result = triton(verb, WEB, *options, "--batch-size", "2", "--interval", "5", "--requested-by", "deployer")
    assert (result.code, result.err) == (0, f"plan: {plan}\n")
    assert server.spec == {
        "action": action,
        "application": {**IDENTITY, "replicas": replicas},
        "nonUpdateStrategy": {"mode": "auto", "batchSize": 2, "batchIntervalSeconds": 5},
    }
    assert result.out == f"{server.made[0]['metadata']['name']}\n"
    assert server.made[0]["metadata"]["annotations"]["apps.triton.io/requested-by"] == "deployer"


def test_the_release_can_be_had_as_json(server: Server, triton: Callable[..., Any]) -> None:
    assert json.loads(triton("restart", WEB, "-o", "json").out) == server.made[0]


def test_pods_that_are_named_are_those_that_go(server: Server, triton: Callable[..., Any]) -> None:
    triton("scale", WEB, "--replicas", "2", "--pod", "7-web-1", "--pod", "7-web-3")
    assert server.spec["nonUpdateStrategy"]["podsToDelete"] == ["7-web-1", "7-web-3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restart", WEB, "--pod", "7-web-9"], "--pod: 7-web has no pod 7-web-9; its pods: 7-web-0, 7-web-1"),
        (
            ["scale", WEB, "--replicas", "9", "--pod", "7-web-1"],
            "--pod: action scale_out names no pods",
        ),
        (["stop", WEB, "--batch-size", "0"], "--batch-size: a batch has at least one pod"),
        (["stop", WEB, "--mode", "fast"], "--mode: must be auto or manual (received: 'fast')"),
        (
            ["rollback", WEB, "--batch-size", "many"],
            "--batch-size: must be a whole number or a percentage from 1% to 100% (received: 'many')",
        ),
        (["rollback", WEB, "--to", "nope"], "--to: 7-web has no release nope"),
        (
            ["rollback", WEB, "--to", "grown"],
            "--to: grown is a scale_out, it brought no template to go back to",
        ),
        (["delete", WEB], "--yes is required: there is no terminal to ask on"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_made(
    arguments: list[str], said: str, server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", image="web:2")
    server.had("grown", action="scale_out")
    result = triton(*arguments)
    assert (result.code, result.err.count("\n"), server.made) == (2, 1, [])
    assert said in result.err


@pytest.mark.parametrize("verb", [["restart"], ["scale", "--replicas", "1"], ["stop"], ["delete", "--yes"]])
def test_an_instance_that_does_not_exist_is_said(
    verb: list[str], server: Server, triton: Callable[..., Any]
) -> None:
    server.cloneset = None
    result = triton(verb[0], WEB, *verb[1:])
    assert (result.code, server.made) == (1, [])
    assert "7-web does not exist" in result.err


def test_a_scale_to_what_there_is_says_so(server: Server, triton: Callable[..., Any]) -> None:
    result = triton("scale", WEB, "--replicas", "4")
    assert (result.code, result.out, server.made) == (0, "", [])
    assert result.err == "7-web has 4 replicas already: nothing to do\n"


def test_a_start_comes_back_to_the_count_before_the_stop(server: Server, triton: Callable[..., Any]) -> None:
    server.runs(0, stopped_replicas="7")
    triton("start", WEB)
    assert server.spec["application"]["replicas"] == 7


@pytest.mark.parametrize("verb", ["restart", "stop", "start"])
def test_an_application_that_starts_slowly_may_do_so_in_every_release(
    verb: str, server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", startupTimeoutSeconds=1800, noPullIn=True, batchSize=1)
    triton(verb, WEB)
    assert server.spec["nonUpdateStrategy"] == {"mode": "auto", "startupTimeoutSeconds": 1800}


# --- update and rollback ---


def test_an_update_after_a_scale_does_not_scale_back(server: Server, triton: Callable[..., Any]) -> None:
    server.runs(9)
    assert triton("update", WEB, "--image", "web:2").code == 0
    assert server.spec["application"]["replicas"] == 9


def test_a_rollback_says_where_it_goes_and_keeps_the_count(
    server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", image="web:2")
    server.runs(9)
    result = triton("rollback", WEB)
    assert result.code == 0
    assert result.out == f"{server.made[0]['metadata']['name']}\n"
    assert result.err == (
        "7-web goes back to first (update, web:1)\n"
        "plan: 9 pods in 1 batch, auto\n"
        "warning: all 9 serving pods are replaced in one batch, which nobody approves\n"
    )
    application = server.spec["application"]
    assert (server.spec["action"], application["replicas"]) == ("rollback", 9)
    assert application["template"]["spec"]["containers"][0]["image"] == "web:1"
    assert server.spec["updateStrategy"] == {"mode": "auto"}


@pytest.mark.parametrize("phase", ["Pending", "BatchStarted", "BatchFinished", "Failed", "Canceled"])
def test_a_rollback_works_whatever_the_release_does(
    phase: str, server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", phase, image="web:2", replicas=6)
    assert "goes back to first" in triton("rollback", WEB, "--batch-size", "25%").err
    assert server.spec["updateStrategy"] == {"mode": "auto", "batchSize": "25%"}


def test_a_rollback_to_a_release_that_failed_says_so(server: Server, triton: Callable[..., Any]) -> None:
    server.had("second", "Canceled", image="web:2")
    assert triton("rollback", WEB, "--to", "second").err.startswith(
        "7-web goes back to second (update, web:2, Canceled)\n"
    )


def test_there_may_be_nothing_to_go_back_to(server: Server, triton: Callable[..., Any]) -> None:
    result = triton("rollback", WEB)
    assert (result.code, server.made) == (1, [])
    assert "has no earlier successful release to go back to" in result.err


# --- delete ---


@pytest.mark.parametrize(("answer", "code", "made"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_a_delete_asks_on_a_terminal(
    answer: str,
    code: int,
    made: int,
    server: Server,
    triton: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    result = triton("delete", WEB)
    assert (result.code, len(server.made)) == (code, made)
    assert "Delete 7-web and its 4 pods for good?" in result.err + result.out


# --- adopt ---


def test_a_cloneset_is_adopted_with_its_application(server: Server, triton: Callable[..., Any]) -> None:
    server.runs(4, ours=False)
    result = triton(
        "adopt", WEB, "--app-id", "7", "--group-id", "8", "--app-name", "web", "--requested-by", "ann"
    )
    assert (result.code, result.err) == (0, "")
    assert result.out == "cloneset.apps.kruise.io/7-web adopted\n"
    (made,) = server.made
    assert made["metadata"]["annotations"] == {
        "apps.triton.io/adopt": "true",
        "apps.triton.io/adopted-by": "ann",
    }
    assert made["metadata"]["labels"] == {
        "app": "7",
        "group": "8",
        "app.kubernetes.io/name": "web",
        "app.kubernetes.io/instance": WEB,
        "managed-by": "triton-io",
    }
    assert "spec" not in made


def test_what_can_not_be_adopted_is_named_and_left_alone(server: Server, triton: Callable[..., Any]) -> None:
    assert server.cloneset is not None
    server.cloneset["spec"]["updateStrategy"] = {"type": "InPlaceOnly"}
    result = triton("adopt", WEB)
    assert (result.code, result.err.count("\n"), server.made) == (1, 1, [])
    assert "can't be adopted: spec.updateStrategy.type" in result.err


def test_a_cloneset_that_does_not_exist_is_not_adopted(server: Server, triton: Callable[..., Any]) -> None:
    server.cloneset = None
    result = triton("adopt", WEB)
    assert (result.code, result.err) == (1, "error: CloneSet default/7-web does not exist\n")


# --- retry and promote ---


def test_retry_starts_the_failed_batch_again(server: Server, triton: Callable[..., Any]) -> None:
    server.had("second", "BatchStarted", mode="auto")
    server.flows[1]["status"]["conditions"] = [{"batch": 1, "batchSize": 2, "phase": "SmokeFailed"}]
    result = triton("retry", WEB)
    assert result.out == "second starts its failed batch again\n"
    assert server.spec == {"updateStrategy": {"retries": 1}}


def test_retry_of_what_has_not_failed_is_refused(server: Server, triton: Callable[..., Any]) -> None:
    server.had("second", "BatchStarted")
    result = triton("retry", "second")
    assert (result.code, server.made) == (1, [])
    assert "second has no failed batch (BatchStarted): nothing to retry" in result.err


def test_promote_lets_it_go_past_every_gate(server: Server, triton: Callable[..., Any]) -> None:
    server.had("second", "BatchStarted", mode="manual", canary=1)
    assert triton("promote", WEB).out.startswith("second is approved to its end")
    assert server.spec == {"updateStrategy": {"mode": "auto", "batches": 2, "stage": None}}
