"""Runs every command of the README as it is printed there, in a terminal in the repository."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.docs.blocks import ROOT, Block, blocks, seen
from tests.docs.terminal import Terminal

README = ROOT / "README.md"
READY_SECONDS = 60
STOP_SECONDS = 20


def stop(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; returns the rest of what it printed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return process.communicate(timeout=STOP_SECONDS)[0]


def read_until(process: subprocess.Popen[str], enough: Callable[[str], bool]) -> str:
    """Return the output up to the first line after which `enough` accepts it."""
    assert process.stdout is not None
    output = ""
    deadline = time.monotonic() + READY_SECONDS
    for line in process.stdout:
        output += line
        if enough(output):
            return output
        assert time.monotonic() < deadline, output
    raise AssertionError(f"ended with {process.wait()}:\n{output}")


def block(mark: str, document: Path = README) -> Block:
    (found,) = [block for block in blocks(document) if block.mark == mark]
    return found


def recipe(target: str) -> list[str]:
    """The commands of a make target, without making .venv again in the middle of a test."""
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", target]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def sandbox(terminal: Terminal) -> Iterator[None]:
    """The sandbox of the README's first terminal, until the end of the tour; Ctrl-C has to end it well."""
    (step,) = block("sandbox").steps
    process = terminal.start(step.command)
    try:
        output = read_until(process, lambda output: "Ctrl-C stops it" in output)
        assert all(seen(shown, output) for shown in step.shown), output
        yield
    finally:
        rest = stop(process)
    assert process.returncode in {0, 130}, rest
    assert "stopped" in rest


def test_every_command_block_is_run_by_a_test() -> None:
    marks = [block.mark for block in blocks(README)]
    assert "" not in marks, "a block without a mark: put <!-- test: NAME --> above it, and NAME into TESTED"
    assert sorted(marks) == sorted(TESTED)


def test_the_demo_and_the_tests_are_targets_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [step.command for step in block("make").steps]
    assert commands == ["make demo", "make test"]
    for command in commands:
        assert recipe(command.removeprefix("make "))
        assert any(line.startswith("step") and line.endswith(command) for line in ci), command


@pytest.mark.usefixtures("sandbox")
def test_the_tour_of_the_readme(terminal: Terminal) -> None:
    for mark in ("first look", "next", "update", "failure", "actions"):
        outputs = terminal.follow(block(mark))
        if mark == "next":
            endpoints = outputs["kubectl get endpoints sample-12122-svc"].splitlines()[1].split()[1]
            assert len(endpoints.split(",")) == 3, endpoints
            assert "12122-sample-10010" in outputs["triton log 12122-sample-10010"]
            _wait_for_log(terminal, "triton log 12122-sample-10010", "Smoked", "Baking", "Baked", "Success")
        if mark == "update":
            assert "Success" in outputs["triton get"]
    terminal.run(
        "kubectl wait clonesets/20001-web-10010 --for=jsonpath='{.status.readyReplicas}'=10 --timeout=60s"
    )


def _wait_for_log(terminal: Terminal, command: str, *words: str) -> None:
    """Wait until the log, which is written a moment later, has all of the words."""
    deadline = time.monotonic() + READY_SECONDS
    while not all(word in (log := terminal.run(command)) for word in words):
        assert time.monotonic() < deadline, log


@pytest.mark.usefixtures("sandbox")
def test_make_install_puts_the_crd_into_the_cluster(terminal: Terminal) -> None:
    install, _ = block("install and run").steps
    assert install.command == "make install"
    # the cluster of the kubeconfig, as before a Triton runs there
    terminal.run("set -a; . ./sandbox-state/sandbox.env; set +a; unset TRITON_SERVER")
    (command,) = recipe("install")
    output = terminal.run(command)
    assert all(seen(shown, output) for shown in install.shown), output
    assert "deployflows" in terminal.run("kubectl api-resources --api-group=apps.triton.io")


def test_make_run_starts_the_four_services_and_says_what_they_wait_for(terminal: Terminal) -> None:
    _, run = block("install and run").steps
    assert run.command == "make run"
    (command,) = recipe("run")
    # nobody listens on the discard port
    process = terminal.start(f"env TRITON_KAFKA_BOOTSTRAP=127.0.0.1:9 {command}")
    services = ("planner", "executor", "readiness", "events")
    try:
        read_until(
            process,
            lambda output: all(
                seen(f"{service} | … waiting for Kafka: Kafka at 127.0.0.1:9 does not answer yet", output)
                for service in services
            ),
        )
    finally:
        rest = stop(process)
    assert process.returncode == 0, rest


def test_the_settings_of_the_readme_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    exports = dict(
        shlex.split(line.removeprefix("export "))[0].split("=", 1)
        for line in block("settings").text.splitlines()
    )
    for name, value in exports.items():
        monkeypatch.setenv(name, value)
    fields = {f"TRITON_{name.upper()}" for name in Settings.model_fields}
    assert set(exports) - {"KUBECONFIG"} <= fields
    assert Settings().namespaces == ["shop", "payments"]


TESTED = (
    "make",
    "sandbox",
    "first look",
    "next",
    "update",
    "failure",
    "actions",
    "settings",
    "install and run",
)
"""The blocks that the tests above run; one that is missing here has no way to be run."""
