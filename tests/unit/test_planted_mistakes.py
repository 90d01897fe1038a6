"""The mistakes that `make planted-mistakes` plants still have their places in the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted_mistakes import MISTAKES, ROOT, Mistake, Ran, plant, run_tests, try_one, without_a_mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.what for mistake in MISTAKES])
def test_a_mistake_can_be_planted(mistake: Mistake) -> None:
    text = (ROOT / mistake.file).read_text()
    planted = plant(mistake, text)
    assert planted != text
    compile(planted, mistake.file, "exec")
    assert all((ROOT / tests).exists() for tests in mistake.tests.split())


def test_the_place_of_a_mistake_that_is_gone_is_named() -> None:
    with pytest.raises(ValueError, match=r"guards\.py.*stands 0 times: adapt MISTAKES"):
        plant(MISTAKES[0], "")


RIGHT = "def double(n):\n    return n * 2\n"
TEST = """
from double import double


def test_it_doubles():
    number = double(2)
    while number == 2:
        pass
    assert number == 4
"""


def _mistake(wrong: str) -> Mistake:
    return Mistake("it is not doubled", "double.py", "n * 2", wrong, "test_double.py")


def _lay_out(folder: Path, right: str = RIGHT) -> None:
    (folder / "double.py").write_text(right)
    (folder / "test_double.py").write_text(TEST)


def test_a_mistake_is_found_by_the_test_that_fails_with_it(tmp_path: Path) -> None:
    _lay_out(tmp_path)
    assert run_tests("test_double.py", tmp_path) == Ran()
    found = try_one(1, _mistake("n * 3"), tmp_path)
    assert (found.test, found.problem) == ("test_double.py::test_it_doubles", "")
    assert (tmp_path / "double.py").read_text() == RIGHT
    assert try_one(1, _mistake("n + n"), tmp_path).problem == "no test failed"


def test_tests_that_fail_without_the_mistake_find_none(tmp_path: Path) -> None:
    _lay_out(tmp_path, "def double(n):\n    return n * 3\n")
    found = without_a_mistake(1, _mistake("n"), run_tests("test_double.py", tmp_path))
    assert found is not None
    assert found.problem == "test_double.py::test_it_doubles fails without the mistake"
    assert not found.test
    assert without_a_mistake(1, _mistake("n"), Ran()) is None


def test_a_run_that_does_not_end_is_ended(tmp_path: Path) -> None:
    _lay_out(tmp_path, "def double(n):\n    return n\n")
    assert run_tests("test_double.py", tmp_path, 2) == Ran(problem="the tests did not end within 2 s")
