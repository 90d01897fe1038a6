"""YAML and JSON of files, read within bounds: in size, in depth, and in values once aliases are followed.

Ten lines of aliases of aliases stand for a billion values, and ten thousand brackets for a stack overflow. Both are
refused where they are found, before anything is made of them, with line and column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from shared.domain.object_bounds import DEEPEST, TOO_DEEP, json_in

MOST_BYTES: Final = 8 << 20
"""The size of a file: what a cluster takes in one object is below 3 MiB."""
MOST_VALUES: Final = 250_000
"""Keys and values of a file, with those that aliases repeat."""
LONGEST_NUMBER: Final = 400
"""Digits of a number: the largest float has 309."""

try:
    from yaml.cyaml import CParser as _Events  # type: ignore[attr-defined]
except ImportError:  # a PyYAML without libyaml: ten times slower

    class _Events(Reader, Scanner, Parser):  # type: ignore[no-redef]
        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)


class Unreadable(ValueError):
    """The text is no YAML, or beyond the bounds; says where, and what to do."""


def read_all(data: bytes) -> list[Any]:
    """Return the documents of a YAML or JSON text in UTF-8; raise `Unreadable`.

    Of a longer file it is enough to pass one byte more than `MOST_BYTES`.
    """
    if len(data) > MOST_BYTES:
        msg = f"it has more than {MOST_BYTES >> 20} MiB: split it into several files"
        raise Unreadable(msg)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        msg = "it is not UTF-8 text"
        raise Unreadable(msg) from error
    # JSON has escapes that YAML lacks, as those of emoji
    if text.lstrip()[:1] in {"{", "["} and (value := _json(text)) is not None:
        return [value]
    try:
        return list(_documents(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        # not `str(error)`: it quotes the line, which may have a token
        raise Unreadable(f"{at}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error


def _json(text: str) -> Any:
    """Return the one JSON value of the text; None where it is none, or is beyond the bounds."""
    try:
        value = json_in(text)
    except ValueError:
        return None
    return None if _has_too_many(value) else value


def _has_too_many(value: Any) -> bool:
    level, values = [value], 1
    while level and values <= MOST_VALUES:
        level = [inner for outer in level for inner in _inner(outer)]
        values += len(level)
    return values > MOST_VALUES


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _documents(text: str) -> Iterator[Any]:
    loader: Any = _Loader(text)
    try:
        while loader.check_data():
            yield loader.get_data()
    finally:
        loader.dispose()


class _Loader(Composer, _Events, SafeConstructor, Resolver):
    """Makes values of events, and counts them before that. A parser of events has no depth to run out of."""

    def __init__(self, text: str) -> None:
        _Events.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._values = 0
        self._open: list[int] = []
        """The height of each open object and list, from the outermost to the innermost."""
        self._anchored: dict[str, tuple[int, int]] = {}
        """The number of values and the height of what each anchor of the document names."""

    def compose_document(self) -> Any:
        self._anchored = {}
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._anchored:
                raise _refused(event, f"*{event.anchor} is inside of itself")
            values, height = self._anchored.get(str(event.anchor), (0, 0))
            self._add(event, values, height)
            return super().compose_node(parent, index)
        self._add(event, 1, 0)
        before = self._values - 1
        self._open.append(0)
        node = super().compose_node(parent, index)
        height = self._open.pop() + 1
        if self._open:
            self._open[-1] = max(self._open[-1], height)
        if event.anchor:
            self._anchored[event.anchor] = (self._values - before, height)
        return node

    def _add(self, event: Any, values: int, height: int) -> None:
        """Count a node; raise where it goes beyond a bound."""
        self._values += values
        if self._values > MOST_VALUES:
            text = f"it has more than {MOST_VALUES:,} values, aliases followed: split the file, or use fewer aliases"
            raise _refused(event, text)
        if len(self._open) + height > DEEPEST:
            raise _refused(event, TOO_DEEP)
        if self._open:
            self._open[-1] = max(self._open[-1], height)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            # of a date like 2026-13-01, or of a value that is not what its tag says
            kind = str(node.tag).rpartition(":")[2]
            raise _refused(node, f"no valid {kind}: correct it, or put it in quotes") from error


def _number(loader: Any, node: Any) -> Any:
    # longer ones take quadratic time
    if len(node.value) > LONGEST_NUMBER:
        raise _refused(node, f"a number of more than {LONGEST_NUMBER} digits: put it in quotes")
    make = SafeConstructor.yaml_constructors[node.tag]
    return make(loader, node)


def _refused(at: Any, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, at.start_mark)


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Loader.add_constructor(_tag, _number)
