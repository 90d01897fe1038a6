"""`triton get`: what it lists, in which order, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.exits import BadInput
from cli.get_command import by_path, is_in, sorted_by
from cli.main import _verb_first
from cli.output import table
from shared.domain.json_types import Json


def _release(name: str, namespace: str = "shop", **status: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"action": "update", "application": {"instanceName": name.partition("-")[0]}},
        "status": status,
    }


DONE, FAILED, WAITING, STANDING = (
    _release("b-1", "a", phase="Success", finished=True),
    _release("a-2", "c", phase="Aborted", finished=True),
    _release("c-3", "b", phase="BatchStarted", reason="WaitingForNext"),
    _release(
        "d-4",
        "b",
        phase="BatchStarted",
        reason="SmokeFailed",
        paused=True,
        conditions=[{"batch": 1, "batchSize": 1, "phase": "SmokeFailed"}],
    ),
)
ALL = [DONE, FAILED, WAITING, STANDING]
"""Oldest first."""


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("age", ["d-4", "c-3", "a-2", "b-1"]),
        ("name", ["a-2", "b-1", "c-3", "d-4"]),
        ("instance", ["a-2", "b-1", "c-3", "d-4"]),
        ("namespace", ["b-1", "d-4", "c-3", "a-2"]),
        ("phase", ["a-2", "c-3", "d-4", "b-1"]),
    ],
)
def test_the_unfinished_and_newest_come_first_else_the_column_sorts(column: str, names: list[str]) -> None:
    assert [flow["metadata"]["name"] for flow in sorted_by(column, ALL)] == names


@pytest.mark.parametrize(
    ("phase", "names"),
    [
        ("Success", ["b-1"]),
        ("Failed", ["d-4"]),
        ("BatchStarted", ["c-3", "d-4"]),
        ("waiting", ["c-3"]),
        ("running", []),
    ],
)
def test_a_phase_is_one_of_the_table_or_of_the_status(phase: str, names: list[str]) -> None:
    assert [flow["metadata"]["name"] for flow in ALL if is_in(flow, phase)] == names


LIST = {
    "items": [{"metadata": {"name": "a", "labels": {"app": "7"}}}, {"metadata": {"name": "b"}}],
    "n": [1, 2],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].metadata.name}={.items[-1].metadata.name}", "a=b"),
        ("{.items[*].metadata.labels['app']}", "7"),
        ("{.items[0].metadata.labels}", '{"app": "7"}'),
        ("{.n[5]}{.nothing.there}", ""),
        ("{items[1].metadata.name}", "b"),
    ],
)
def test_paths_are_kubectls(template: str, text: str) -> None:
    assert by_path(LIST, template) == text


def test_what_a_path_can_not_say_is_refused() -> None:
    with pytest.raises(BadInput, match="is no path of fields"):
        by_path(LIST, "{.items[?(@.x==1)].y}")


@pytest.mark.parametrize("width", [80, 60, 50])
def test_a_table_fits_the_terminal(width: int) -> None:
    rows = [
        (
            "web-with-a-very-long-name-bcdfg",
            "update",
            "web-with-a-very-long-name",
            "BatchStarted",
            "WaitingForNext",
            "5m",
        )
    ]
    header = ("NAME", "ACTION", "INSTANCE", "PHASE", "WAITING FOR", "AGE")
    lines = table(header, rows, width=width)
    assert max(map(len, lines)) <= width
    assert lines[1].endswith("5m")
    assert table(header, rows)[1].startswith("web-with-a-very-long-name-bcdfg   update")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-n", "shop", "get", "web"], ["get", "-n", "shop", "web"]),
        (["-nshop", "get"], ["get", "-nshop"]),
        (
            ["--namespace=shop", "--context", "prod", "next", "web"],
            ["next", "--namespace=shop", "--context", "prod", "web"],
        ),
        (["get", "-n", "shop"], ["get", "-n", "shop"]),
        (["--help"], ["--help"]),
        (["-n", "shop"], ["-n", "shop"]),
    ],
)
def test_options_of_the_place_may_stand_before_the_verb(before: list[str], after: list[str]) -> None:
    assert _verb_first(before) == after


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["web", "-A"], "use only one of them"),
        (["-w", "-o", "json"], "--watch shows a table"),
        (["--phase", "Done"], "'Done' is none of "),
        (["--sort-by", "size"], "'size' is none of age, name"),
        (["-o", "jsonpath=name"], "write a path in braces"),
        (["--context", "prod", "--server", "http://x"], "--server and --context: use only one of them"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_option(
    arguments: list[str], said: str, triton: Callable[..., Any]
) -> None:
    result = triton("get", *arguments)
    assert result.code == 2
    assert said in result.err
