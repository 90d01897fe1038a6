"""Refuses what a web page sends through the browser of somebody on this machine, where nobody has to log in.

Such a server listens on this machine alone, but a browser on it sends requests for every page that it shows: across
sites, some without asking the server first, and by a name of the page's own that was made to lead to 127.0.0.1, with
which the page may also read the answers. A browser says in three headers where a request comes from, and a page cannot
change them: `Host`, `Origin` and `Sec-Fetch-Site`. Other programs send only the first, and no foreign one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from shared.settings import on_this_machine

_REMEDY: Final = "Without a login only this machine may call (TRITON_API_AUTH=kubernetes has one)"


class Refusal(NamedTuple):
    """`reason` is one CamelCase word for programs, the text is for people."""

    reason: str
    text: str


def refusal_of(headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
    """Return why a request with these headers, their names in lower case, is refused; None where it is not."""
    for name, raw in headers:
        value = raw.decode("latin-1").strip()
        match name:
            case b"host" if not _is_local(f"//{value}"):
                text = f"Host: {value[:253]!r} is no name of this machine: call localhost or 127.0.0.1. {_REMEDY}"
                return Refusal("ForeignHost", text)
            case b"origin" if not _is_local(value):
                text = f"Origin: {value[:253]!r}: a page of another site must not call. {_REMEDY}"
                return Refusal("CrossSite", text)
            case b"sec-fetch-site" if value.lower() == "cross-site":
                text = f"Sec-Fetch-Site: {value}: a page of another site must not call. {_REMEDY}"
                return Refusal("CrossSite", text)
    return None


def _is_local(address: str) -> bool:
    """Decide whether an address (with or without scheme and port) is of this machine."""
    try:
        return on_this_machine(urlsplit(address).hostname or "")
    except ValueError:
        return False
