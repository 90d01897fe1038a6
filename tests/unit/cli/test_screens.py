"""What people see of a release, character for character, on terminals of two sizes and in a pipe."""

from __future__ import annotations

import time

import pytest

from tests.unit.cli.screens import FOLDER, SIZES, screens


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_screens_are_as_they_were() -> None:
    """`python -m tests.unit.cli.screens` writes them again; look at the difference."""
    drawn = dict(screens())
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(drawn)
    for name, text in drawn.items():
        assert text == (FOLDER / f"{name}.txt").read_text(), name


def test_the_batch_under_way_and_what_it_waits_for_are_always_in_sight() -> None:
    for name, text in screens():
        size = next((size for size in SIZES if f"-{size.width}x{size.height}" in name), None)
        if size is None or name.endswith("color"):
            continue
        lines = text.splitlines()
        assert len(lines) < size.height, name
        assert max(map(len, lines)) <= size.width, name
        if "running" in name or "failed" in name:
            assert any(line.startswith("batch 12 ") for line in lines), name
        if "failed" in name:
            assert any("triton retry web-bcdfg" in line for line in lines), name
        if "canary" in name:
            assert lines[-1] == "→ triton next web-bcdfg", name
