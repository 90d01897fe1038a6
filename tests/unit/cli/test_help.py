"""What a person sees who asks the command for help, or mistypes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

COMMANDS = [
    "apply", "plan", "get", "describe", "watch", "status", "next", "continue", "pause", "resume", "cancel", "retry",
    "promote", "update", "rollback", "restart", "scale", "stop", "start", "delete", "adopt",
    "sandbox", "demo", "run", "planner", "executor", "readiness", "events", "crd",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example_of_itself(command: str, triton: Callable[..., Any]) -> None:
    result = triton(command, "--help")
    assert result.code == 0
    examples = result.out.partition("Example")[2].partition("Options:")[0]
    assert f"triton {command}" in examples


@pytest.mark.parametrize(
    "command",
    ["describe", "watch", "status", "next", "continue", "pause", "resume", "cancel", "retry", "promote"],
)
def test_commands_on_a_release_say_that_an_instance_may_be_named(
    command: str, triton: Callable[..., Any]
) -> None:
    text = " ".join(triton(command, "--help").out.split())
    assert "An instance: its current release" in text


def test_triton_alone_lists_every_command(triton: Callable[..., Any]) -> None:
    result = triton()
    assert result.code == 0
    assert [name for name in (*COMMANDS, "log", "dead-letters") if f"\n  {name} " not in result.out] == []


@pytest.mark.parametrize("command", [*COMMANDS, "log", "history", "dead-letters", "completion"])
def test_h_is_help_everywhere(command: str, triton: Callable[..., Any]) -> None:
    result = triton(command, "-h")
    assert result.code == 0
    assert result.out.startswith(f"Usage: triton {command}")


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("ls", "triton get"),
        ("abort", "triton cancel"),
        ("undo", "triton rollback"),
        ("lint", "triton plan"),
        ("approve", "triton next"),
        ("set", "triton update"),
        ("version", "triton --version"),
    ],
)
def test_the_words_of_other_tools_lead_to_ours(word: str, ours: str, triton: Callable[..., Any]) -> None:
    result = triton(word, "web")
    assert (result.code, result.out) == (2, "")
    assert f"error: triton has no {word}: use `{ours}" in result.err


def test_a_command_that_has_commands_names_its_own(triton: Callable[..., Any]) -> None:
    assert "No such command 'ls'" in triton("dead-letters", "ls").err


def test_the_version_is_said(triton: Callable[..., Any]) -> None:
    assert triton("--version").out == f"triton {version('triton-release')}\n"


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o default"), ("zsh", "#compdef triton"), ("fish", "complete ")]
)
def test_each_shell_gets_a_script(shell: str, mark: str, triton: Callable[..., Any]) -> None:
    script = triton("completion", shell).out
    assert mark in script
    assert "_TRITON_COMPLETE" in script
    assert triton("completion", "tcsh").code == 2


def test_commands_are_completed() -> None:
    asked = {"_TRITON_COMPLETE": "complete_bash", "COMP_WORDS": "triton de", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["describe", "delete", "dead-letters", "demo"]


def test_log_and_dead_letters_have_their_own_help(triton: Callable[..., Any]) -> None:
    assert "triton log" in triton("log", "--help").out
    assert "replay" in triton("dead-letters", "--help").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["relase"], "No such command 'relase'"),
        (["next"], "Missing argument 'NAME'"),
        (["get", "-o", "xml"], "'xml' is none of json, yaml, wide, name, jsonpath"),
        (["continue", "web"], "say how far: --batches N, --stage S, or both"),
        (["continue", "web", "--batches", "0"], "Invalid value for '--batches'"),
        (
            ["continue", "web", "--stage", "Half"],
            "'Half' is no phase to wait in: use one of Smoked, Baking, Baked",
        ),
        (["next", "web", "--stage", "Smoked"], "--stage needs --batch"),
        (["update", "web"], "Missing option '--image'"),
        (["scale", "web"], "Missing option '--replicas'"),
        (["restart", "web", "--interval", "-1"], "Invalid value for '--interval'"),
        (["delete", "web"], "--yes is required: there is no terminal to ask on"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line_that_says_what(
    arguments: list[str], said: str, triton: Callable[..., Any]
) -> None:
    result = triton(*arguments)
    assert result.code == 2
    assert said in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_help_loads_nothing_that_takes_long() -> None:
    check = (
        "import sys; sys.argv = ['triton', '--help']\n"
        "from cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('kubernetes', 'pydantic', 'aiokafka', 'rich', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
