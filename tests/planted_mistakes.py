"""Plant mistakes in the planner, the executor and the readiness service, one at a time, and say which test finds each.

    python -m tests.planted_mistakes [--only N …] [-o json]

Each mistake is planted in a copy of the checkout, where the tests named for it run until the first one fails. These
tests run once without any mistake before: where one fails there, it would find nothing, and no mistake is planted for
them. Exit code 0: a test found every mistake; 1: one was not found. It takes some minutes: `make planted-mistakes`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
COPIED: Final = (
    "services",
    "shared",
    "sandbox",
    "cli",
    "triton_client",
    "tests",
    "deploy",
    "docs",
    "examples",
)
TEST_LIMIT: Final = 300
"""Seconds of a test: a mistake that makes it hang is found by it. The slowest ones take one minute."""
RUN_LIMIT: Final = 1800
"""Seconds of a run of tests, should the limit of a test not end it."""


class Mistake(NamedTuple):
    """`right` stands once in `file`; `wrong` is planted in its place; `tests` are to find it."""

    what: str
    file: str
    right: str
    wrong: str
    tests: str


_DECISION: Final = "services/planner/decision"
_PLANNER_TESTS: Final = "tests/unit/planner"

MISTAKES: Final = (
    Mistake(
        "the guard that fails a batch is removed",
        f"{_DECISION}/guards.py",
        "    _fail_batch,\n    # a pull_out",
        "    # a pull_out",
        _PLANNER_TESTS,
    ),
    Mistake(
        "a batch takes traffic without approval",
        f"{_DECISION}/steps.py",
        "if flow.paused or not may_reach(flow, batch.number, BatchPhase.BAKING):",
        "if flow.paused:",
        _PLANNER_TESTS,
    ),
    Mistake(
        "one old pod too many is removed",
        "services/planner/model/batch_plan.py",
        "return min(max(counts.updated + counts.others + surge - wanted, 0), counts.others)",
        "return min(max(counts.updated + counts.others + surge - wanted + 1, 0), counts.others)",
        _PLANNER_TESTS,
    ),
    Mistake(
        "an answer to an earlier command is taken for the answer to this one",
        f"{_DECISION}/apply_facts.py",
        "case _ if fact.sequence != pending.sequence:",
        "case _ if fact.sequence > pending.sequence:",
        _PLANNER_TESTS,
    ),
    Mistake(
        "a resumed batch keeps the start of its clocks from before the pause",
        "services/planner/rules/clocks.py",
        "        surged_at=now,\n        unready_since=now if batch.unready_since else 0,",
        "        unready_since=now if batch.unready_since else 0,",
        _PLANNER_TESTS,
    ),
    Mistake(
        "a command that came late is written over a later one",
        "services/executor/cloneset_change.py",
        "if live.sequence > command.sequence:",
        "if live.sequence > command.sequence + 1:",
        "tests/unit/executor",
    ),
    Mistake(
        "a halted CloneSet still deletes pods",
        "services/executor/cloneset_change.py",
        "return max(count, min(floor, live.spec.replicas))",
        "return min(floor, live.spec.replicas)",
        "tests/unit/executor",
    ),
    Mistake(
        "a change is written to a CloneSet that somebody else has changed since",
        "services/executor/guarded_write.py",
        '            _test("/metadata/generation", meta.generation),\n',
        "",
        "tests/unit/executor",
    ),
    Mistake(
        "the owner's update strategy is not restored",
        "services/executor/cloneset_change.py",
        '{**RELEASED_STRATEGY, **owner, "partition": 0, "paused": False}',
        '{**RELEASED_STRATEGY, "partition": 0, "paused": False}',
        "tests/unit/executor",
    ),
    Mistake(
        "the gate of a pod is opened though its release holds it",
        "services/readiness/gate_decisions.py",
        "return not of_batch or (cloneset.hold is None and not cloneset.owner)",
        "return not of_batch or not cloneset.owner",
        "tests/unit/readiness",
    ),
    Mistake(
        "a command that came late closes a gate that a later one has opened",
        "services/readiness/gate_decisions.py",
        "or pod.sequence > sequence:",
        "or pod.sequence > sequence + 1:",
        "tests/unit/readiness",
    ),
    Mistake(
        "a gate that a command closed is opened again without a command",
        "services/readiness/gate_decisions.py",
        "and runs and not pulled_out",
        "and runs",
        "tests/unit/readiness",
    ),
)


class Found(NamedTuple):
    """`test` is the first that failed, empty where none did; `problem` says why there is none."""

    number: int
    what: str
    test: str
    problem: str = ""


class Ran(NamedTuple):
    """How a run of tests ended: the first test that failed, or what kept the run from saying so."""

    test: str = ""
    problem: str = ""


def plant(mistake: Mistake, text: str) -> str:
    """Return the text of the file with the mistake; raise `ValueError` where its place is not found exactly once."""
    if text.count(mistake.right) != 1:
        msg = f"{mistake.file}: {mistake.right!r} stands {text.count(mistake.right)} times: adapt MISTAKES in {__name__}"
        raise ValueError(msg)
    return text.replace(mistake.right, mistake.wrong)


def run_tests(tests: str, folder: Path, seconds: float = RUN_LIMIT) -> Ran:
    """Run tests in a copy of the checkout until the first one fails."""
    limit = f"--timeout={TEST_LIMIT}"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", limit, *tests.split()]
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Ran(problem=f"the tests did not end within {seconds:g} s")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", ran.stdout, re.MULTILINE)
    if failed:
        return Ran(test=failed.group(1))
    return (
        Ran(problem=f"pytest ended with {ran.returncode}: {ran.stderr[-500:]}") if ran.returncode else Ran()
    )


def try_one(number: int, mistake: Mistake, copy: Path) -> Found:
    path = copy / mistake.file
    right = path.read_text()
    path.write_text(plant(mistake, right))
    try:
        ran = run_tests(mistake.tests, copy)
    finally:
        path.write_text(right)
    return Found(number, mistake.what, ran.test, ran.problem or ("" if ran.test else "no test failed"))


def without_a_mistake(number: int, mistake: Mistake, ran: Ran) -> Found | None:
    """Return that a mistake cannot be found where its tests do not pass without it, `None` where they do."""
    problem = f"{ran.test} fails without the mistake" if ran.test else ran.problem
    return Found(number, mistake.what, "", problem) if problem else None


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = range(1, len(MISTAKES) + 1)
    parser.add_argument("--only", type=int, nargs="+", choices=numbers, default=numbers, metavar="N")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="triton-planted-") as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in ROOT.glob("*.*"):
            if path.is_file():
                shutil.copy(path, copy)
        before: dict[str, Ran] = {}
        for number, mistake in enumerate(MISTAKES, start=1):
            if number not in arguments.only:
                continue
            if mistake.tests not in before:
                before[mistake.tests] = run_tests(mistake.tests, copy)
            result = without_a_mistake(number, mistake, before[mistake.tests]) or try_one(
                number, mistake, copy
            )
            found.append(result)
            print(
                f"{number:2} {mistake.file}: {mistake.what}\n   {result.test or f'NOT FOUND: {result.problem}'}",
                file=sys.stderr if arguments.output == "json" else sys.stdout,
                flush=True,
            )
    if arguments.output == "json":
        print(json.dumps([result._asdict() for result in found], indent=2))
    return int(any(not result.test for result in found))


if __name__ == "__main__":
    sys.exit(main())
