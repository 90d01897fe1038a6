"""What a command says and asks before it starts a release."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.domain.json_types import Json
from tests.unit.cli.test_action_commands import IDENTITY, WEB, Server, server

__all__ = ["server"]

GATES: Json = {"canary": 1, "batchSize": 2, "mode": "manual"}
UPDATE = ("update", WEB, "--image", "web:2")
FEWER = "warning: fewer approvals than the last request: "
AT_ONCE = "warning: all 8 serving pods are replaced in one batch, which nobody approves"


@pytest.fixture
def gated(server: Server) -> Server:
    """An instance of eight pods that was released with a canary and by hand."""
    server.had("second", replicas=8, **GATES)
    server.runs(8)
    return server


def at_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)


def run(triton: Callable[..., Any], *arguments: str) -> tuple[int, list[str]]:
    result = triton(*arguments)
    return result.code, result.err.splitlines()


# --- the plan ---------------------------------------------------------------------------------------------


def test_the_plan_is_one_line_and_a_release_as_careful_as_the_last_needs_no_answer(
    gated: Server, triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_terminal(monkeypatch, "")
    result = triton(*UPDATE)
    assert (result.code, result.err) == (0, "plan: 8 pods in 5 batches, canary 1, manual\n")
    assert result.out == f"{gated.made[0]['metadata']['name']}\n"


@pytest.mark.parametrize(
    ("options", "plan", "warnings"),
    [
        (["--mode", "auto"], "5 batches, canary 1, auto", [f"{FEWER}mode auto (was manual)"]),
        (["--canary", "0"], "4 batches, manual", [f"{FEWER}canary none (was 1)"]),
        (["--batch-size", "4"], "3 batches, canary 1, manual", [f"{FEWER}batch size 4 (was 2)"]),
        (
            ["--canary", "0", "--batch-size", "100%"],
            "1 batch, manual",
            [f"{FEWER}canary none (was 1), batch size 100% (was 2)", AT_ONCE],
        ),
        (["--batch-size", "1"], "8 batches, canary 1, manual", []),
        (["--interval", "5"], "5 batches, canary 1, manual, 5 s between batches", []),
    ],
)
def test_fewer_approvals_than_the_last_request_are_named(
    options: list[str], plan: str, warnings: list[str], gated: Server, triton: Callable[..., Any]
) -> None:
    assert run(triton, *UPDATE, *options) == (0, [f"plan: 8 pods in {plan}", *warnings])
    assert len(gated.made) == 1


def test_what_promoted_the_last_release_is_not_what_it_requested(
    gated: Server, triton: Callable[..., Any]
) -> None:
    last = gated.flows[-1]
    last["status"]["requestedStrategy"] = GATES
    last["spec"]["updateStrategy"] = {**GATES, "mode": "auto"}
    assert run(triton, *UPDATE) == (0, ["plan: 8 pods in 5 batches, canary 1, manual"])
    assert gated.spec["updateStrategy"] == GATES


@pytest.mark.parametrize("verb", [("rollback", WEB), ("restart", WEB)])
def test_all_pods_in_one_batch_are_named_whatever_the_action(
    verb: tuple[str, ...], gated: Server, triton: Callable[..., Any]
) -> None:
    gated.had("third", image="web:3", replicas=8)
    code, lines = run(triton, *verb)
    assert (code, lines[-2:]) == (0, ["plan: 8 pods in 1 batch, auto", AT_ONCE])
    assert run(triton, *verb, "--batch-size", "2")[1][-1] == "plan: 8 pods in 4 batches, auto"


@pytest.mark.parametrize("verb", [("stop", WEB), ("delete", WEB, "--yes"), ("scale", WEB, "--replicas", "9")])
def test_what_replaces_no_pods_needs_no_gates(
    verb: tuple[str, ...], gated: Server, triton: Callable[..., Any]
) -> None:
    code, lines = run(triton, *verb)
    assert (code, len(lines), "warning" in lines[0]) == (0, 1, False)


def test_one_pod_alone_cannot_be_split(server: Server, triton: Callable[..., Any]) -> None:
    server.runs(1)
    assert run(triton, *UPDATE) == (0, ["plan: 1 pod in 1 batch, manual"])


def test_a_plan_that_is_too_long_to_be_shown_stops_nothing(
    server: Server, triton: Callable[..., Any]
) -> None:
    server.had("second", replicas=20_000, mode="manual", batchSize=1)
    server.runs(20_000)
    assert run(triton, *UPDATE) == (0, [])
    assert run(triton, *UPDATE, "--batch-size", "50%") == (0, ["plan: 20000 pods in 2 batches, manual"])


# --- the question -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "code", "made"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_on_a_terminal_fewer_approvals_need_an_answer(
    answer: str,
    code: int,
    made: int,
    gated: Server,
    triton: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_terminal(monkeypatch, answer)
    result = triton(*UPDATE, "--mode", "auto")
    assert (result.code, len(gated.made)) == (code, made)
    assert "Start it? [y/N]" in result.err
    assert result.err.count("plan: ") == 1
    assert ("nothing is started" in result.err) is (made == 0)
    assert bool(result.out) is (made == 1)


def test_with_yes_nobody_is_asked(
    gated: Server, triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_terminal(monkeypatch, "")
    code, lines = run(triton, *UPDATE, "--mode", "auto", "--yes")
    assert (code, lines[-1], len(gated.made)) == (0, f"{FEWER}mode auto (was manual)", 1)


def test_the_answer_for_programs_stays_alone_on_stdout(gated: Server, triton: Callable[..., Any]) -> None:
    result = triton(*UPDATE, "--mode", "auto", "-o", "json")
    assert json.loads(result.out) == gated.made[0]
    assert result.err.startswith("plan: ")


# --- whose turn it is -------------------------------------------------------------------------------------


def running(server: Server, phase: str = "BatchStarted", **status: Any) -> None:
    server.had("third", phase, image="web:3", **GATES)
    server.flows[-1]["status"] |= status


def waiting(server: Server, action: str = "update") -> None:
    server.had("fourth", "Pending", action=action, image="web:4")
    del server.flows[-1]["status"]["startedAt"]


@pytest.mark.parametrize("verb", [UPDATE, ("rollback", WEB, "--batch-size", "1")])
def test_a_failed_release_that_is_taken_over_is_named(
    verb: tuple[str, ...], gated: Server, triton: Callable[..., Any]
) -> None:
    conditions = [{"batch": 1, "batchSize": 1, "phase": "SmokeFailed"}]
    running(gated, paused=True, conditions=conditions)
    code, lines = run(triton, *verb)
    assert code == 0
    assert "takes over third (SmokeFailed)" in lines


def test_a_release_that_waits_says_behind_which(gated: Server, triton: Callable[..., Any]) -> None:
    running(gated)
    assert run(triton, *UPDATE)[1][0] == "waits behind third (BatchStarted)"
    assert run(triton, "restart", WEB)[1][0] == "waits behind third (BatchStarted)"
    assert "takes over third (BatchStarted)" in run(triton, "rollback", WEB, "--batch-size", "1")[1]
    waiting(gated, "stop")
    assert run(triton, *UPDATE)[1][0] == "waits behind fourth (Pending)"


def test_an_update_that_has_not_begun_is_replaced(gated: Server, triton: Callable[..., Any]) -> None:
    running(gated)
    waiting(gated)
    assert run(triton, *UPDATE)[1][:2] == [
        "replaces fourth, which has not begun",
        "waits behind third (BatchStarted)",
    ]


def test_a_paused_release_is_taken_over_by_an_update_and_not_by_a_restart(
    gated: Server, triton: Callable[..., Any]
) -> None:
    running(gated, paused=True)
    assert run(triton, *UPDATE)[1][0] == "takes over third (paused)"
    assert run(triton, "restart", WEB)[1][0] == "waits behind third (paused)"


# --- what does not exist ----------------------------------------------------------------------------------


def test_an_update_of_what_was_deleted_is_refused(gated: Server, triton: Callable[..., Any]) -> None:
    gated.cloneset = None
    code, lines = run(triton, *UPDATE)
    assert (code, gated.made) == (1, [])
    assert lines == ["error: CloneSet 7-web does not exist: create the instance first (action create)"]
    # what is ahead of it may make the CloneSet
    running(gated)
    gated.flows[-1]["spec"]["action"] = "create"
    assert run(triton, *UPDATE) == (0, ["waits behind third (BatchStarted)"])


@pytest.mark.parametrize("verb", [("get",), ("describe", WEB), UPDATE, ("restart", WEB)])
def test_a_namespace_that_does_not_exist_is_named(
    verb: tuple[str, ...], server: Server, triton: Callable[..., Any]
) -> None:
    server.flows.clear()
    server.cloneset = None
    assert run(triton, *verb, "-n", "nowhere") == (1, ["error: namespace nowhere does not exist"])
    server.namespaces.add("nowhere")
    assert "namespace nowhere does not exist" not in run(triton, *verb, "-n", "nowhere")[1][0]


def test_an_empty_namespace_is_no_error(server: Server, triton: Callable[..., Any]) -> None:
    server.flows.clear()
    code, lines = run(triton, "get")
    assert (code, lines[0].startswith("no releases in this namespace")) == (0, True)


def document(name: str, **changes: Any) -> Json:
    template = {"spec": {"containers": [{"name": "web", "image": "web:5"}]}}
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": name},
        "spec": {
            "action": "update",
            "application": {**IDENTITY, "replicas": 8, "template": template},
            "updateStrategy": {"mode": "auto", "batchSize": 4},
            **changes,
        },
    }


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.manifests import Kind
    from shared.kube.client import DEPLOYFLOWS

    async def kind(*_: object) -> Kind:
        return Kind(DEPLOYFLOWS, namespaced=True)

    monkeypatch.setattr("cli.manifests._kind", kind)


@pytest.mark.usefixtures("kinds")
def test_a_file_is_planned_and_asked_about_release_by_release(
    gated: Server, triton: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "two.yaml"
    second = document("b", updateStrategy={**GATES})
    file.write_text(f"{json.dumps(document('a'))}\n---\n{json.dumps(second)}")
    at_terminal(monkeypatch, "y\n")
    result = triton("apply", "-f", str(file))
    assert result.code == 0
    assert [made["metadata"]["name"] for made in gated.made] == ["a", "b"]
    assert result.err.replace("[y/N] ", "[y/N]\n").splitlines() == [
        "plan: 8 pods in 2 batches, auto",
        f"{FEWER}mode auto (was manual), canary none (was 1), batch size 4 (was 2)",
        "Start it? [y/N]",
        "plan: 8 pods in 5 batches, canary 1, manual",
    ]
    assert result.out.splitlines() == [
        "deployflow.apps.triton.io/a created",
        "deployflow.apps.triton.io/b created",
    ]


@pytest.mark.usefixtures("kinds")
def test_a_file_that_aims_at_what_does_not_exist_is_refused(
    gated: Server, triton: Callable[..., Any], tmp_path: Path
) -> None:
    gated.cloneset = None
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(document("a")))
    result = triton("apply", "-f", str(file))
    assert (result.code, gated.made) == (1, [])
    assert "document 1 (DeployFlow a): CloneSet 7-web does not exist" in result.err
