"""Prometheus' own checker takes the rules, and by its tests each alert fires and clears (Debian's `prometheus`)."""

from __future__ import annotations

import subprocess

from tests.contract.conftest import ROOT

RULES = ROOT / "deploy" / "prometheus"


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], check=False, capture_output=True, text=True, timeout=60)


def test_the_rules_and_the_configuration_are_taken() -> None:
    done = promtool("check", "rules", *map(str, sorted(RULES.glob("*.yml"))))
    assert done.returncode == 0, done.stderr
    done = promtool("check", "config", "--syntax-only", str(ROOT / "deploy/compose/prometheus.yml"))
    assert done.returncode == 0, done.stderr


def test_alerts_fire_and_clear() -> None:
    files = sorted((RULES / "tests").glob("*.yml"))
    assert [file.name for file in files] == [file.name for file in sorted(RULES.glob("*.yml"))]
    done = promtool("test", "rules", *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr
