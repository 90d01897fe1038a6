"""The bounds within which objects of the cluster are read, so that the value of one harms no other.

An API server takes 10,000 objects and lists inside each other, which ends Python's parsers, comparisons and serializers
at depths of their own. So what is too deep is found where an object becomes a value, and nowhere else.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

DEEPEST: Final = 100
"""Objects and lists inside each other that a file, a request or a DeployFlow may have: the schema of a CRD with a whole
pod template has 60."""
DEEPEST_READ: Final = 150
"""What is deeper in an object of the cluster is read as null. More than `DEEPEST`, so that its reader can refuse it; and
parsers of our messages end at 200, in which the object is some levels down."""
LONGEST_COUNT: Final = 18
"""Digits of a count in a text: those of a number of 64 bits. Python refuses to convert some thousands."""
TOO_DEEP: Final = f"more than {DEEPEST} objects and lists inside each other, nest them less"

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class TooDeep(ValueError):
    """More objects and lists are inside each other than is allowed."""

    def __init__(self) -> None:
        super().__init__(TOO_DEEP)


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether more than `levels` objects and lists are inside each other."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return bool(level)


def cut(data: bytes, levels: int = DEEPEST_READ) -> bytes:
    """Return a JSON text in which whatever is inside of more than `levels` objects and lists is null.

    It needs no stack. It takes a second for some 10 MB: only for a text that nothing else reads.
    """
    kept: list[bytes] = []
    depth = begin = 0
    for token in _TOKEN.finditer(data):
        match token[0]:
            case b"{" | b"[":
                depth += 1
                if depth == levels + 1:
                    kept.append(data[begin : token.start()])
            case b"}" | b"]":
                if depth == levels + 1:
                    kept.append(b"null")
                    begin = token.end()
                depth -= 1
    if depth > levels:
        # no whole JSON: its reader says so
        begin = len(data)
    kept.append(data[begin:])
    return b"".join(kept)


def count_in(text: str | None) -> int | None:
    """Return the whole number that a label or an annotation has; None for any other text, and for a longer one."""
    if not text or len(text) > LONGEST_COUNT or not text.isdecimal():
        return None
    return int(text)


def json_in(text: str) -> Any:
    """Return the JSON value that an annotation has; raise `ValueError` where it is none, `TooDeep` among them."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise TooDeep from error
    if is_deeper(value, DEEPEST):
        raise TooDeep
    return value


def _no_constant(name: str) -> None:
    msg = f"{name} is no JSON"
    raise ValueError(msg)
