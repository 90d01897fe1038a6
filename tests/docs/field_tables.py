"""The tables of docs/deployflow.md that are made from the model: the strategy's fields and the reasons of a failure.

`python -m tests.docs.field_tables` writes them, as `make documents` does.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from shared.domain import deployflow as df
from tests.docs.blocks import ROOT

DOCUMENT: Final = ROOT / "docs" / "deployflow.md"
_KINDS: Final = {
    "batchSize": "count from 1, or `1%` to `100%`",
    "failureThreshold": "count or percentage",
    "podsToDelete": "list of pod names",
    "stage": "a batch phase",
}
"""Where the type of a field has no words by itself."""
_NOT_SET: Final = {"batchSize": "all"}
_LINKS: Final = {"report their connections": "operations.md#graceful-exit"}
"""Words of a description that lead somewhere; the CRD has them without."""


def strategy_rows(*names: str) -> list[str]:
    """Return the rows of these fields of the strategy, by their Python names."""
    return [_row(df.STRATEGY_FIELDS[name]) for name in names]


def _row(info: FieldInfo) -> str:
    meaning = info.description or ""
    for words, target in _LINKS.items():
        meaning = meaning.replace(words, f"[{words}]({target})")
    return f"| `{info.alias}` | {_kind(info)} | {_default(info)} | {meaning} |"


def _kind(info: FieldInfo) -> str:
    alias = str(info.alias)
    if alias in _KINDS:
        return _KINDS[alias]
    kind = info.annotation
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        *others, last = (f"`{value}`" for value in kind)
        return f"{', '.join(others)} or {last}"
    if kind is bool:
        return "boolean"
    return f"integer from {_least(info)}"


def _least(info: FieldInfo) -> int:
    rules: list[Any] = [*info.metadata]
    for member in get_args(info.annotation):
        for rule in get_args(member)[1:]:
            rules += rule.metadata if isinstance(rule, FieldInfo) else [rule]
    (least,) = (rule.ge for rule in rules if hasattr(rule, "ge"))
    return int(least)


def _default(info: FieldInfo) -> str:
    if info.default is None:
        return _NOT_SET.get(str(info.alias), "not set")
    return str(info.default).lower() if isinstance(info.default, bool) else str(info.default)


_HEAD: Final = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]


def tables() -> dict[str, str]:
    """Return each table by the mark above it."""
    own = [name for name in df.NonUpdateStrategy.model_fields if name not in df.Strategy.model_fields]
    return {
        "fields: UpdateStrategy": "\n".join([*_HEAD, *strategy_rows(*df.UpdateStrategy.model_fields)]),
        "failures": "\n".join(
            ["| `reason` | meaning |", "| --- | --- |"]
            + [f"| `{reason}` | {reason.meaning} |" for reason in df.FailureReason]
        ),
        "fields: NonUpdateStrategy": "\n".join([*_HEAD, *strategy_rows(*own)]),
    }


def written(text: str) -> str:
    """Return `text` with the tables as they have to be."""
    for mark, table in tables().items():
        pattern = re.compile(rf"(?<=<!-- {mark} -->\n)(\|[^\n]*\n)+")
        before, *others = pattern.split(text)
        text = f"{before}{table}\n{others[-1]}" if others else text
        assert len(others) == 2, f"docs/deployflow.md has no table marked {mark}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
