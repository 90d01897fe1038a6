"""`make audit` is red for a vulnerability, and calls nothing clean that its database did not answer for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.supply import audit
from deploy.supply.audit import SECONDS, Ended, Outcome, judge
from deploy.supply.pins import Pin

ROOT: Final = Path(__file__).parents[3]
HASH: Final = "a" * 64
PINS: Final = {
    "redis": Pin("redis", "8.0", frozenset({HASH}), everywhere=True),
    "rich": Pin("rich", "15.0", frozenset({HASH}), everywhere=True),
    "colorama": Pin("colorama", "0.4.6", frozenset({HASH}), everywhere=False),
}
REDIS: Final[dict[str, Any]] = {"name": "redis", "version": "8.0", "vulns": []}
RICH: Final[dict[str, Any]] = {"name": "rich", "version": "15.0", "vulns": []}
COLORAMA: Final[dict[str, Any]] = {"name": "colorama", "version": "0.4.6", "vulns": []}
SKIPPED: Final = {
    "name": "rich",
    "skip_reason": "Dependency not found on PyPI and could not be audited: rich (15.0)",
}
HOLE: Final = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-1"],
    "fix_versions": ["8.0.1", "8.1"],
    "description": "…",
}
NO_FIX: Final = HOLE | {"aliases": [], "fix_versions": []}
VULNERABLE: Final = REDIS | {"vulns": [HOLE]}
PIP_AUDIT_SAYS: Final = "No known vulnerabilities found"


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize("packages", [(REDIS, RICH), (REDIS, RICH, COLORAMA)])
def test_it_is_clean_if_every_package_has_an_answer(packages: tuple[dict[str, Any], ...]) -> None:
    finding = judge(Ended(0, report(*packages), PIP_AUDIT_SAYS), PINS)
    assert finding == (Outcome.CLEAN, [f"no known vulnerability in {len(packages)} packages"])


@pytest.mark.parametrize("other", [RICH, SKIPPED])
def test_a_vulnerability_is_an_error_also_if_another_package_has_no_answer(other: dict[str, Any]) -> None:
    finding = judge(Ended(1, report(other, VULNERABLE), "Found 1 known vulnerability in 1 package"), PINS)
    line = "error: redis 8.0: PYSEC-2026-1, CVE-2026-1; fixed in 8.0.1, 8.1"
    assert finding == (Outcome.VULNERABLE, [line])


def test_a_vulnerability_without_a_fix_is_an_error() -> None:
    finding = judge(Ended(1, report(REDIS | {"vulns": [NO_FIX]}, RICH), ""), PINS)
    assert finding == (Outcome.VULNERABLE, ["error: redis 8.0: PYSEC-2026-1; fixed in no version yet"])


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (Ended(0, report(REDIS, SKIPPED), PIP_AUDIT_SAYS), f"1 of 2 packages were NOT audited for known vulnerabilities: {SKIPPED['skip_reason']}"),
        (Ended(0, report(REDIS), PIP_AUDIT_SAYS), "1 of 2 packages were NOT audited for known vulnerabilities: no answer for rich"),
        (Ended(0, report(), PIP_AUDIT_SAYS), "2 of 2 packages were NOT audited for known vulnerabilities: no answer for redis"),
        (Ended(1, "", "Traceback\nConnectionError: no such host\n"), "3 of 3 packages were NOT audited for known vulnerabilities: ConnectionError: no such host"),
        (Ended(0, "", ""), "3 of 3 packages were NOT audited for known vulnerabilities: it printed nothing"),
        (Ended(0, "[]", "odd"), "3 of 3 packages were NOT audited for known vulnerabilities: odd"),
        (Ended(None, "", ""), f"3 of 3 packages were NOT audited for known vulnerabilities: no answer within {SECONDS} s"),
    ],
)  # fmt: skip
def test_what_was_not_asked_is_a_note_and_never_clean(ended: Ended, line: str) -> None:
    assert judge(ended, PINS) == (Outcome.NOT_AUDITED, [f"note: {line}"])


def test_a_call_that_pip_audit_does_not_understand_is_an_error() -> None:
    finding = judge(Ended(2, "", "usage: pip-audit\npip-audit: error: unrecognized arguments: --what"), PINS)
    line = "error: pip-audit ended with 2: pip-audit: error: unrecognized arguments: --what"
    assert finding == (Outcome.BROKEN, [line])


@pytest.mark.parametrize(
    ("does", "code", "printed"),
    [
        (f"print({report(REDIS)!r})", 0, "no known vulnerability in 1 packages"),
        (f"print({report(VULNERABLE)!r}); sys.exit(1)", 1, "error: redis 8.0: PYSEC-2026-1, CVE-2026-1; fixed in 8.0.1, 8.1"),
        ("sys.exit('ConnectionError: no such host')", 0, "note: 1 of 1 packages were NOT audited for known vulnerabilities: ConnectionError: no such host"),
        ("sys.exit(2)", 2, "error: pip-audit ended with 2: it printed nothing"),
    ],
)  # fmt: skip
def test_the_exit_code_and_the_output_are_those_of_the_outcome(
    does: str, code: int, printed: str, tmp_path: Path
) -> None:
    (tmp_path / "pip_audit.py").write_text(f"import sys\n{does}\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"redis==8.0 \\\n    --hash=sha256:{HASH}\n")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.supply.audit", str(requirements), str(tmp_path / "cache")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (code, printed), done.stderr


def test_a_database_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip_audit.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(audit, "SECONDS", 0.2)
    assert audit.run(tmp_path / "requirements.txt", tmp_path / "cache").exit_code is None


def test_ci_gives_the_audit_the_time_to_end_by_itself() -> None:
    (limit,) = re.findall(
        r'^step (\d+) "make audit" make audit$', (ROOT / ".ci/run").read_text(), re.MULTILINE
    )
    assert SECONDS + 10 <= int(limit) <= 60
