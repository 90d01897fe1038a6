"""The documents agree with the code: each table below a mark is compared with the code that it describes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from services.planner.views.kubernetes_events import SHOWN
from shared.domain import deploy_commands, deployflow, freeze_windows, graceful_exit, replies
from shared.kube import clonesets
from shared.settings import Settings
from tests.docs import commands_and_phases, field_tables
from tests.docs.blocks import ROOT, seen

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_MARK = re.compile(r"^<!-- ([a-z]+)(?:: (\w+))? -->\n(.*?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^<!-- example(?:: (\w+))? -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Table(NamedTuple):
    document: str
    mark: str
    argument: str
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return f"{self.document}-{self.mark}-{self.argument}"

    def column(self, number: int = 0) -> list[str]:
        return [row[number].strip("`") for row in self.rows]


def _tables() -> Iterator[Table]:
    for document in DOCUMENTS:
        for mark, argument, body in _MARK.findall(document.read_text()):
            lines = [line for line in body.splitlines() if line.startswith("|")]
            if lines:
                rows = tuple(tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines[2:])
                yield Table(document.stem, mark, argument, rows)


TABLES = list(_tables())


def _marked(mark: str) -> list[Table]:
    found = [table for table in TABLES if table.mark == mark]
    assert found, f"no table is marked {mark}"
    return found


def _only(mark: str) -> Table:
    (found,) = _marked(mark)
    return found


def test_every_marked_table_is_held_to_something() -> None:
    held = {
        *("fields", "failures", "phases", "annotations", "settings", "metrics", "texts", "reasons", "away"),
        *("differences", "events"),
    }
    assert {table.mark for table in TABLES} == held


def test_the_commands_and_phases_are_as_the_planner_decides() -> None:
    assert commands_and_phases.tables() in commands_and_phases.DOCUMENT.read_text(), (
        "docs/commands-and-phases.md is not what the planner does: "
        "run python -m tests.docs.commands_and_phases and read the difference"
    )


def test_the_tables_that_are_made_from_the_model_are_as_it_has_them() -> None:
    text = field_tables.DOCUMENT.read_text()
    assert text == field_tables.written(text), "run make documents"


@pytest.mark.parametrize("table", _marked("fields"), ids=str)
def test_every_field_is_described(table: Table) -> None:
    (model,) = (
        found
        for module in (deployflow, deploy_commands, freeze_windows, replies)
        if (found := vars(module).get(table.argument))
    )
    inherited: set[str] = set()
    if table.argument == "NonUpdateStrategy":
        inherited = set(deployflow.Strategy.model_fields)
    fields = {
        (field.alias or name): field.is_required()
        for name, field in model.model_fields.items()
        if name not in inherited
    }
    assert set(table.column()) == set(fields)
    required = {
        name for name, default in zip(table.column(), table.column(2), strict=True) if default == "required"
    }
    assert required == {name for name, needed in fields.items() if needed}


@pytest.mark.parametrize("table", _marked("phases"), ids=str)
def test_every_phase_is_described(table: Table) -> None:
    phases: type[StrEnum] = getattr(deployflow, table.argument)
    assert table.column() == list(phases)


def test_every_annotation_is_described() -> None:
    ours = {
        value
        for module in (clonesets, deployflow, graceful_exit)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("apps.triton.io/") and "/v" not in value
    }
    assert set(_only("annotations").column()) == ours - {deployflow.READINESS_GATE}


def test_every_event_of_kubernetes_is_described() -> None:
    table = _only("events")
    kinds = {shown.reason: "Warning" if shown.warning else "Normal" for shown in SHOWN.values()}
    assert dict(zip(table.column(), table.column(1), strict=True)) == kinds


def test_every_setting_is_described_with_its_default() -> None:
    table = _only("settings")
    described = dict(zip(table.column(), table.column(1), strict=True))

    def shown(default: Any) -> str:
        if default is None:
            return "not set"
        if isinstance(default, bool):
            return str(default).lower()
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        # a whole number of seconds is written without its fraction; a list or secret may be empty
        return re.sub(r"(\d)\.0$", r"\1", str(default or "")) or ("0" if default == 0 else "empty")

    assert described == {
        f"TRITON_{name.upper()}": shown(field.get_default(call_default_factory=True))
        for name, field in Settings.model_fields.items()
    }


def test_every_metric_is_described_with_its_labels() -> None:
    script = (
        "import pkgutil, importlib, json, services, shared\n"
        "for package in (services, shared):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "from prometheus_client import REGISTRY\n"
        "from prometheus_client.registry import Collector\n"
        "ours = {c for c in REGISTRY._collector_to_names if getattr(c, '_name', '').startswith('triton_')}\n"
        "found = {c.describe()[0].name: c._labelnames for c in ours}\n"
        "made = {c for c in Collector.__subclasses__() if c.__module__.startswith(('services.', 'shared.'))}\n"
        "found |= {family.name: family._labelnames for c in made for family in c.describe()}\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    exported = {name: set(labels) for name, labels in json.loads(done.stdout).items()}
    table = _only("metrics")
    described = {
        name.removesuffix("_total"): set(re.findall(r"`(\w+)`", row[1]))
        for name, row in zip(table.column(), table.rows, strict=True)
    }
    assert described == exported


def _texts_of_the_code() -> str:
    """Return every string of the code, one on each line, with `…` for its variable parts."""
    texts = []
    for folder in ("shared", "services", "cli", "sandbox"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                    texts.append("".join(str(part) for part in parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(re.sub(r"%[sdr]", "…", node.value))
    return "\n".join(text.replace("\n", " ") for text in texts)


def test_the_texts_of_the_troubleshooting_are_in_the_code() -> None:
    texts_of_the_code = _texts_of_the_code()
    unknown = [text for text in _only("texts").column() if not seen(text, texts_of_the_code)]
    assert not unknown


def test_the_reasons_for_a_dead_letter_are_those_of_the_code() -> None:
    texts_of_the_code = set(_texts_of_the_code().splitlines())
    # the API server's own words are not in our code
    assert not [reason for reason in _only("reasons").column() if reason not in texts_of_the_code]


def test_what_is_said_of_parts_that_are_away_has_a_case_of_its_own() -> None:
    cases = "".join(path.read_text() for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    for row in _only("away").rows:
        named = re.findall(r"`(test_\w+)`", row[-1])
        assert named, row
        assert not [name for name in named if f"def {name}(" not in cases]


def _examples() -> list[Any]:
    found = []
    for document in DOCUMENTS:
        for number, (argument, body) in enumerate(_FENCED.findall(document.read_text())):
            found.append(pytest.param(argument, body, id=f"{document.stem}-{number}"))
    return found


@pytest.mark.parametrize(("what", "body"), _examples())
def test_the_examples_are_valid(what: str, body: str) -> None:
    value = yaml.safe_load(body)
    match what:
        case "DeployCommand":
            deploy_commands.DeployCommand.model_validate(value)
        case "DeployCommandReply":
            replies.DeployCommandReply.model_validate(value, extra="forbid")
        case "freezeWindows":
            windows, problems = freeze_windows.read(body)
            assert windows
            assert not problems
        case "updateStrategy":
            deployflow.UpdateStrategy.model_validate(value)
        case _:
            deployflow.DeployFlowSpec.model_validate(value["spec"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]
