"""The packages that a requirements file pins, as `uv pip compile --generate-hashes` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Pin(NamedTuple):
    """One pinned package; its name is normalized (PEP 503)."""

    name: str
    version: str
    hashes: frozenset[str]
    """SHA-256 of each file that may be installed, in hexadecimal."""
    everywhere: bool
    """Whether it is installed on every platform: it has no environment marker."""


_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?P<marker>[^\\\n]*)"
    r"(?P<hashes>(?:\\\n\s*--hash=sha256:[0-9a-f]{64}\s*)+)",
    re.MULTILINE,
)


def normalized(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, Pin]:
    """Return the pins of a requirements file by their names.

    Raises ValueError if a requirement is not pinned with a version and SHA-256 hashes.
    """
    pins = {}
    for found in _PIN.finditer(text):
        name = normalized(found["name"])
        hashes = frozenset(re.findall(r"sha256:([0-9a-f]{64})", found["hashes"]))
        pins[name] = Pin(name, found["version"], hashes, everywhere=";" not in found["marker"])
    requirements = {
        normalized(name) for name in re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", text, re.MULTILINE)
    }
    if loose := requirements - set(pins):
        message = f"not pinned with a version and hashes: {', '.join(sorted(loose))}; run make requirements"
        raise ValueError(message)
    return pins


def pins_of(path: Path) -> dict[str, Pin]:
    """Return the pins of the requirements file at this path."""
    return read_pins(path.read_text())
