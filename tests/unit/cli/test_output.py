"""What commands print of other people's texts: nothing of it steers the terminal or forges a line."""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cli.live_picture import Size, picture
from cli.output import WIDEST, Format, dump, table
from cli.rendering import progress
from services.events.documents import documents
from shared.domain.json_types import Json
from tests.unit.events.samples import container_log, flow_event

Triton = Callable[..., Any]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x00\nerror: forged\r\u202egnp\x9b31m\u2028\ud800"
HARMFUL = frozenset("\x1b\x07\x00\r\u202e\x9b\u2028\ud800\x85")
CLI = Path(__file__).parents[3] / "cli"
PRINTS = {"print", "echo", "secho", "print_json", "write", "writelines"}


def _hostile(value: Any) -> Any:
    """The same object with a hostile end of every text that somebody else writes."""
    if isinstance(value, dict):
        known = {"phase", "action", "mode", "stage", "dataset", "@timestamp", "type", "outcome", "kind"}
        return {
            key: one if key in known or key.endswith(("At", "Timestamp")) else _hostile(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_hostile(one) for one in value]
    return value + HOSTILE if isinstance(value, str) else value


class Backend:
    def __init__(self, flow: Json) -> None:
        self._flow = flow

    async def flow(self, name: str) -> Json:
        return self._flow

    async def flows(self, **_: Any) -> list[Json]:
        return [self._flow]

    async def follow(self, name: str) -> AsyncIterator[Json]:
        yield self._flow


class Log:
    def __init__(self, found: list[Json]) -> None:
        self._found = found

    async def search(self, query: Any) -> list[Json]:
        datasets = {f"triton.{stream}" for stream in query.streams}
        return [one for one in self._found if one["event"]["dataset"] in datasets]

    async def close(self) -> None:
        pass


@pytest.fixture
def hostile(flow: Json) -> Json:
    flow = copy.deepcopy(flow)
    flow["status"] |= {"requestedBy": "me", "updateRevision": "web-1", "finished": True}
    flow["status"]["conditions"][0] |= {"message": "failed", "phase": "SmokeFailed"}
    (found,) = flow["status"]["conditions"][0]["pods"]
    found |= {"phase": "Failed", "reason": "Error", "message": "m", "event": "e", "log": "one\ntwo"}
    changed: Json = _hostile(flow)
    return changed


@pytest.fixture
def triton(triton: Triton, hostile: Json, monkeypatch: pytest.MonkeyPatch) -> Triton:
    @contextlib.asynccontextmanager
    async def reach(where: Any) -> AsyncIterator[Backend]:
        yield Backend(hostile)

    messages = [
        flow_event(1, requested_by="me"),
        container_log(),
        flow_event(2, requested_by="me"),
    ]
    found = [document.source for n, message in enumerate(messages) for document in documents(message, n)]
    log = Log([_hostile(json.loads(json.dumps(one))) for one in found])
    monkeypatch.setattr("cli.reach.reach", reach)
    monkeypatch.setattr("cli.log_command.open_log", lambda where: log)
    monkeypatch.setattr("cli.history_command.open_log", lambda where: log)
    return triton


COMMANDS = [
    ("get",),
    ("describe", "web"),
    ("watch", "web"),
    ("log", "web", "-n", "shop", "--all"),
    ("history", "-n", "shop"),
]


@pytest.mark.parametrize("form", [(), ("-o", "json"), ("-o", "yaml")], ids=["text", "json", "yaml"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_prints_no_character_that_steers_the_terminal(
    command: tuple[str, ...], form: tuple[str, ...], triton: Triton
) -> None:
    result = triton(*command, *form)
    assert "owned" in result.out, result.err
    assert not HARMFUL & set(result.out + result.err)
    assert not any(line.startswith("error: forged") for line in result.out.splitlines())


def test_an_object_is_equal_after_its_escapes(hostile: Json) -> None:
    assert json.loads(dump(hostile, Format.JSON)) == hostile
    # YAML has no lone surrogates
    plain = json.loads(json.dumps(hostile).replace("\\ud800", ""))
    assert yaml.safe_load(dump(plain, Format.YAML)) == plain


def test_the_live_view_shows_escapes(hostile: Json) -> None:
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system=None).print(
        picture(progress(hostile), Size(200, 40))
    )
    assert r"\x1b]0;owned" in out.getvalue()
    assert not HARMFUL & set(out.getvalue())


def test_an_error_shows_escapes(triton: Triton, tmp_path: Path) -> None:
    result = triton("plan", "-f", f"{tmp_path}/\x1b[2J")
    assert result.code == 2
    assert r"\x1b[2J" in result.err
    assert "\x1b" not in result.err


def test_a_long_cell_does_not_pad_every_row() -> None:
    lines = table(
        ("ID", "KEY", "MESSAGE"), [("0:1", "k" * 30_000, "m" * 30_000), ("0:2", "shop/web", "short")]
    )
    assert len(lines[2]) < WIDEST + 50
    assert len(lines[1]) < 5_000
    assert lines[1].endswith("…")


def test_commands_print_by_the_functions_that_make_texts_safe() -> None:
    others = []
    for path in sorted(CLI.rglob("*.py")):
        if path == CLI / "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(CLI.parent)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and node.module in {"rich.text", "rich"}:
                others.append(where)
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
                on = ast.unparse(node.func)
                if name in PRINTS and on not in ALLOWED:
                    others.append(f"{where} {on}")
    assert others == []


ALLOWED = {"report.print", "self._console.print", "self._write"}
"""Of the demo, which passes on what `styled` made, and the writer of a screen, which is `say`."""
