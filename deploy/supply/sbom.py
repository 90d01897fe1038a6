"""Check that an SBOM (CycloneDX, JSON) lists what a requirements file pins, no more and no less.

The SBOM itself is made by cyclonedx-py, see `make sbom`. A tool that skips a requirement which it can't read would
otherwise leave a gap that nobody sees.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.supply.pins import Pin, normalized, pins_of


def problems(sbom: dict[str, Any], pins: dict[str, Pin]) -> list[str]:
    """Return how the components of the SBOM differ from the pins, one line for each package; empty if nowhere."""
    if sbom.get("bomFormat") != "CycloneDX":
        return ["not an SBOM of CycloneDX: bomFormat is missing"]
    components = {
        normalized(component["name"]): component
        for component in sbom.get("components", [])
        if str(component.get("purl", "")).startswith("pkg:pypi/")
    }
    return [
        *(line for name, pin in sorted(pins.items()) for line in _differences(pin, components.get(name))),
        *(f"{name}: in the SBOM, but not pinned" for name in sorted(components.keys() - pins.keys())),
    ]


def _differences(pin: Pin, component: dict[str, Any] | None) -> Iterator[str]:
    if component is None:
        yield f"{pin.name}: pinned as {pin.version}, but not in the SBOM"
        return
    if component.get("version") != pin.version:
        yield f"{pin.name}: pinned as {pin.version}, but {component.get('version')} in the SBOM"
    hashes = {
        digest["content"]
        for holder in (component, *component.get("externalReferences", []))
        for digest in holder.get("hashes", [])
        if digest["alg"] == "SHA-256"
    }
    if lacking := len(pin.hashes - hashes):
        yield f"{pin.name}: {lacking} of {len(pin.hashes)} hashes are not in the SBOM"


def main(requirements: Path, path: Path) -> int:
    """Print what is wrong with the SBOM at this path, and return the exit code."""
    pins = pins_of(requirements)
    found = problems(json.loads(path.read_text()), pins)
    for line in found:
        print(f"error: {path}: {line}", file=sys.stderr)
    if not found:
        print(f"{path}: all {len(pins)} packages of {requirements}, each with its version and hashes")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
