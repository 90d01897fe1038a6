"""An SBOM that lacks a package, or has another version or other files of it, is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.supply.pins import Pin
from deploy.supply.sbom import main, problems

A, B, C = "a" * 64, "b" * 64, "c" * 64
PINS: Final = {
    "redis": Pin("redis", "8.0", frozenset({A, B}), everywhere=True),
    "typing-extensions": Pin("typing-extensions", "4.16.0", frozenset({C}), everywhere=True),
}


def component(name: str, version: str, *hashes: str) -> dict[str, Any]:
    """Return a component as cyclonedx-py makes it."""
    files = {"type": "distribution", "hashes": [{"alg": "SHA-256", "content": one} for one in hashes]}
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "externalReferences": [files],
    }


SBOM: Final[dict[str, Any]] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [component("redis", "8.0", A, B), component("typing_extensions", "4.16.0", C)],
}


def changed(number: int, **fields: Any) -> dict[str, Any]:
    sbom = copy.deepcopy(SBOM)
    sbom["components"][number] |= fields
    return sbom


def test_an_sbom_of_exactly_the_pins_is_right() -> None:
    assert problems(SBOM, PINS) == []


def test_hashes_may_be_at_the_component_itself() -> None:
    hashes = [{"alg": "SHA-256", "content": C}]
    assert problems(changed(1, externalReferences=[], hashes=hashes), PINS) == []


@pytest.mark.parametrize(
    ("sbom", "problem"),
    [
        (SBOM | {"components": SBOM["components"][:1]}, "typing-extensions: pinned as 4.16.0, but not in the SBOM"),
        (SBOM | {"components": [*SBOM["components"], component("rich", "15.0", A)]}, "rich: in the SBOM, but not pinned"),
        (changed(0, version="7.9"), "redis: pinned as 8.0, but 7.9 in the SBOM"),
        (changed(0, externalReferences=[]), "redis: 2 of 2 hashes are not in the SBOM"),
        (SBOM | {"components": [component("redis", "8.0", A), SBOM["components"][1]]}, "redis: 1 of 2 hashes are not in the SBOM"),
        ({}, "not an SBOM of CycloneDX: bomFormat is missing"),
    ],
)  # fmt: skip
def test_a_difference_is_named(sbom: dict[str, Any], problem: str) -> None:
    assert problems(sbom, PINS) == [problem]


@pytest.mark.parametrize(("version", "code"), [("8.0", 0), ("8.1", 1)])
def test_the_check_fails_where_there_is_a_difference(
    version: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"redis=={version} \\\n    --hash=sha256:{A}\n")
    sbom = tmp_path / "sbom.json"
    sbom.write_text(json.dumps(SBOM | {"components": [component("redis", "8.0", A)]}))
    assert main(requirements, sbom) == code
    printed = capsys.readouterr()
    if code:
        assert printed.err == f"error: {sbom}: redis: pinned as 8.1, but 8.0 in the SBOM\n"
        assert not printed.out
    else:
        assert printed.out == f"{sbom}: all 1 packages of {requirements}, each with its version and hashes\n"
