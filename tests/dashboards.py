"""Grafana's dashboards as Grafana reads them: their panels, what these ask Prometheus, and what they show of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from shared.domain.json_types import Json

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "grafana"
_VARIABLE: Final = re.compile(r"\$\{(\w+)[^}]*\}|\$(\w+)")
_SELECTED: Final = re.compile(r"\{([^}]*)\}")
_GROUPED: Final = re.compile(r"\b(?:by|on|group_left|without|ignoring) \(([^)]*)\)")
_TEXT: Final = re.compile(r'"[^"]*"')
_METRIC: Final = re.compile(r"\b(?:triton_\w+|process_\w+|ALERTS|up)\b")


class Query(NamedTuple):
    """`where`: dashboard, panel and letter of the query. `table`: its labels are columns."""

    where: str
    expression: str
    legend: str
    instant: bool
    table: bool

    def with_values(self, values: Mapping[str, str]) -> str:
        """The expression as Grafana sends it. Raises `KeyError` for a variable that has no value."""
        return _VARIABLE.sub(lambda found: values[found[1] or found[2]], self.expression)

    @property
    def metrics(self) -> set[str]:
        """Without the `_bucket`, `_count` and `_sum` of a histogram."""
        return {re.sub(r"_(bucket|count|sum)$", "", name) for name in _METRIC.findall(self.expression)}

    @property
    def labels(self) -> set[str]:
        """By which it selects or groups, or of which its legend speaks."""
        selected = [
            name
            for inside in _SELECTED.findall(self.expression)
            for name in re.findall(r"(\w+)(?:=~|!~|!=|=)", _TEXT.sub("", inside))
        ]
        return {*selected, *self.grouped, *self.legend_labels}

    @property
    def grouped(self) -> set[str]:
        bare = _TEXT.sub("", self.expression)
        return {name for names in _GROUPED.findall(bare) for name in re.split(r",\s*", names)}

    @property
    def legend_labels(self) -> set[str]:
        return set(re.findall(r"\{\{(\w+)\}\}", self.legend))


class Dashboard(NamedTuple):
    file: str
    body: Json

    def __str__(self) -> str:
        return self.file

    @property
    def panels(self) -> list[Json]:
        """Those that show something: no rows."""
        return [panel for panel in self.body["panels"] if panel["type"] != "row"]

    @property
    def variables(self) -> dict[str, Json]:
        return {variable["name"]: variable for variable in self.body["templating"]["list"]}

    def queries(self) -> Iterator[Query]:
        for panel in self.panels:
            yield from queries(self.file, panel)


def queries(file: str, panel: Json) -> list[Query]:
    return [
        Query(
            f"{file}: {panel['title']}: {target['refId']}",
            target["expr"],
            target["legendFormat"],
            target.get("instant", False),
            target.get("format") == "table",
        )
        for target in panel.get("targets", [])
    ]


def used(text: str) -> set[str]:
    """The names of the variables in a text."""
    return {plain or braced for braced, plain in _VARIABLE.findall(text)}


DASHBOARDS: Final = [
    Dashboard(path.name, json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))
]
