"""Texts of other people, made safe for a terminal, a log and a page; and settings without their login.

Names, messages, reasons, annotations and log lines are written by whoever may write them. ESC and its relatives
steer a terminal, a line break forges a line, a right-to-left mark turns the rest of a line around, a lone surrogate
cannot be written at all. Each such character is shown as its escape, so that a reader sees that it is there.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_UNSAFE: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, among them ESC, NUL and line breaks
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, or of direction
    "\ud800-\udfff"  # lone surrogates, which UTF-8 does not have
    "\U000e0000-\U000e007f"  # tags: text that nobody sees
    "]"
)


def visible(text: str) -> str:
    r"""Return the text as one line: each unsafe character as its escape (`\x1b`, `\n`, `\u202e`), tabs as spaces."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text.expandtabs())


def visible_lines(text: str) -> list[str]:
    """Return the lines of the text, each safe."""
    return [visible(line) for line in text.splitlines()]


def shortened(text: str, most: int) -> str:
    """Return the text with at most so many characters; where some are missing, it ends with `…`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Write JSON that equals the value, with unsafe characters escaped as JSON escapes them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    # `\n` here is the layout: in a string it is escaped already
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def has_unsafe(text: str) -> bool:
    return bool(_UNSAFE.search(text))


def quoted_escapes(text: str) -> str:
    r"""Escape the unsafe characters, except line breaks `\n`, as double-quoted strings of YAML do."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\U{ord(found[0]):08X}", text)


def without_login(setting: str) -> str:
    """Return the setting of a server, or of several, without user, password and query.

    It may be no valid address, so what could belong to a login is left out too.
    """
    # a password may have a comma: only one before another scheme separates addresses
    return ",".join(_address(each) for each in re.split(r",(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)", setting))


def _address(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    before, _, query = rest.partition("?")
    if "@" in query:
        # the question mark is part of a password, or the query has a password with an @
        return f"{scheme}{mark}…"
    return scheme + mark + before.rpartition("@")[2]


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
