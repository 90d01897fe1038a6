"""The same cases on the sandbox and on the real parts, or `make test` fails."""

from __future__ import annotations

from pathlib import Path

from tests.compare import compare, ran

REPORT = """<testsuites><testsuite>
  <testcase classname="tests.system.test_a" name="test_good[1]"/>
  <testcase classname="tests.system.test_a" name="test_bad"><failure message="no"/></testcase>
  <testcase classname="tests.system.test_a" name="test_left_out"><skipped message="not here"/></testcase>
</testsuite></testsuites>"""


def test_a_case_that_was_skipped_did_not_run(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert ran(report) == {"tests.system.test_a::test_good[1]", "tests.system.test_a::test_bad"}


def test_a_suite_that_never_came_to_its_end_ran_nothing(tmp_path: Path) -> None:
    assert ran(tmp_path / "none.xml") == set()
    (tmp_path / "half.xml").write_text(REPORT[:60])
    assert ran(tmp_path / "half.xml") == set()


def test_equal_numbers_of_different_cases_are_not_the_same() -> None:
    text, same = compare("system", {"a", "b"}, {"b", "c"})
    assert not same
    assert text.splitlines() == [
        "== suite system: 2 cases ran on the sandbox, 2 on the real parts",
        "error: ran on the sandbox only: a",
        "error: ran on the real parts only: c",
    ]


def test_the_same_cases_are_well() -> None:
    text, same = compare("contract", {"a", "b"}, {"b", "a"})
    assert same
    assert text == "== suite contract: 2 cases ran on the sandbox, 2 on the real parts"
