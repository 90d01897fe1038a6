"""Ask for known vulnerabilities in the packages of the image, by pip-audit, and never call clean what was not asked.

pip-audit itself prints "No known vulnerabilities found" also if its database has answered for no package at all. With
`--strict` it ends at the first package without an answer, and so hides the vulnerabilities of the others. This reads
its report instead: a vulnerability is an error, also if other packages have no answer; and a package without an answer
is a note, so that CI can run where the database is not reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from deploy.supply.pins import Pin, pins_of

SECONDS: Final = 45
"""For all packages together: `.ci/run` has 60 s. With an answer from the database, pip-audit needs a few seconds."""
SECONDS_FOR_ONE: Final = 10
"""For one answer of the database."""


class Outcome(Enum):
    """What is known about the packages."""

    VULNERABLE = 1
    CLEAN = 0
    NOT_AUDITED = "some or all packages have no answer"
    BROKEN = 2

    @property
    def exit_code(self) -> int:
        """Return 0 where CI may continue."""
        return self.value if isinstance(self.value, int) else 0


class Finding(NamedTuple):
    """An outcome and the lines that explain it."""

    outcome: Outcome
    lines: list[str]


class Ended(NamedTuple):
    """How pip-audit ended: without an exit code if it was stopped after `SECONDS`."""

    exit_code: int | None
    stdout: str
    stderr: str


def judge(ended: Ended, pins: dict[str, Pin]) -> Finding:
    """Return what pip-audit's report means for these pins."""
    if ended.exit_code is None:
        return _not_audited(len(pins), len(pins), f"no answer within {SECONDS} s")
    last = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    if ended.exit_code not in {0, 1}:
        # its own errors, and those of the database, are 1
        return Finding(Outcome.BROKEN, [f"error: pip-audit ended with {ended.exit_code}: {last}"])
    report = _report(ended.stdout)
    if report is None:
        return _not_audited(len(pins), len(pins), last)
    vulnerable = [_described(package, found) for package in report for found in package.get("vulns", [])]
    if vulnerable:
        return Finding(Outcome.VULNERABLE, [f"error: {line}" for line in vulnerable])
    answered = {package["name"] for package in report if "vulns" in package}
    asked = {pin.name for pin in pins.values() if pin.everywhere} | {package["name"] for package in report}
    if missing := sorted(asked - answered):
        reasons = {package["name"]: package.get("skip_reason") for package in report}
        return _not_audited(
            len(missing), len(asked), reasons.get(missing[0]) or f"no answer for {missing[0]}"
        )
    return Finding(Outcome.CLEAN, [f"no known vulnerability in {len(answered)} packages"])


def _report(text: str) -> list[dict[str, Any]] | None:
    try:
        packages: list[dict[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    return packages


def _described(package: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    names = ", ".join([vulnerability["id"], *vulnerability.get("aliases", [])])
    fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {names}; fixed in {fixed}"


def _not_audited(count: int, of: int, reason: str) -> Finding:
    line = f"note: {count} of {of} packages were NOT audited for known vulnerabilities: {reason}"
    return Finding(Outcome.NOT_AUDITED, [line])


def run(requirements: Path, cache: Path) -> Ended:
    """Run the pip-audit of this Python on a requirements file with hashes, without pip, for at most `SECONDS`."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json"),
        *("--disable-pip", "--require-hashes", "--requirement", str(requirements)),
        *("--timeout", str(SECONDS_FOR_ONE), "--cache-dir", str(cache)),
    ]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Ended(None, "", "")
    return Ended(done.returncode, done.stdout, done.stderr)


def main(requirements: Path, cache: Path) -> int:
    """Print what is known about the packages of a requirements file, and return the exit code."""
    finding = judge(run(requirements, cache), pins_of(requirements))
    print(*finding.lines, sep="\n")
    return finding.outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
