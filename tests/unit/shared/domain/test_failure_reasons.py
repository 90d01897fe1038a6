"""A reason for which a batch fails is declared once, as `FailureReason`; rules, metrics, documents and alerts share it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.planner.views import metrics
from services.readiness.pod_facts import FAILED_WAITING
from shared.domain.deployflow import FailureReason, PullInStatus
from tests.docs.blocks import ROOT
from tests.docs.field_tables import DOCUMENT, tables

CODE = [path for folder in ("services", "shared", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]
DECLARED = ROOT / "shared" / "domain" / "deployflow.py"
SELECTED = re.compile(
    r"triton_(?:flow_failure_info|batch_failures_total)\{[^}]*\breason=~?\\?\"([A-Z][A-Za-z|]+)\\?\""
)
ALERTS = sorted(
    path
    for folder in ("prometheus", "grafana")
    for path in (ROOT / "deploy" / folder).rglob("*")
    if path.suffix in {".yml", ".yaml", ".json"}
)


def literals(path: Path) -> set[str]:
    """The texts of a module, without its documentation."""
    tree = ast.parse(path.read_text())
    stated = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in stated
    }


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_reason_is_written_in_words_nowhere_else(path: Path) -> None:
    if path == DECLARED:
        return
    others = set(FailureReason) - {FailureReason.OTHER}
    assert not literals(path) & others, f"{path}: use FailureReason of shared/domain/deployflow.py"


def test_the_rules_for_a_failure_make_up_no_reason_of_their_own() -> None:
    for name in ("failure_detection", "pod_failures"):
        path = ROOT / "services" / "planner" / "rules" / f"{name}.py"
        words = {text for text in literals(path) if re.fullmatch(r"([A-Z][a-z]+){2,}", text)}
        assert not words, f"{path}: declare it as a FailureReason in shared/domain/deployflow.py"


def test_the_metrics_distinguish_every_reason() -> None:
    counted = {
        (sample.labels["phase"], sample.labels["reason"])
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "triton_batch_failures_total"
    }
    assert {(str(phase), str(reason)) for phase in metrics.FAILURES for reason in FailureReason} <= counted
    assert [metrics.bounded(reason) for reason in FailureReason] == list(FailureReason)


def test_the_reasons_for_which_a_pod_counts_as_failed_are_among_them() -> None:
    assert set(FailureReason) >= FAILED_WAITING
    assert str(PullInStatus.FAILED) == str(FailureReason.PULL_IN_FAILED)


def test_the_documents_explain_every_reason() -> None:
    assert tables()["failures"] in DOCUMENT.read_text(), "docs/deployflow.md: run make documents"
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (?:SmokeFailed|BakeFailed) \| ([^|]*)\|", text, re.MULTILINE)
    assert rows
    named = {reason for row in rows for reason in re.findall(r"`(\w+)`", row)}
    assert named <= set(FailureReason), "docs/operations.md names a reason that there is not"


@pytest.mark.parametrize("path", ALERTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_alerts_and_dashboards_select_reasons_that_there_are(path: Path) -> None:
    named = {reason for found in SELECTED.findall(path.read_text()) for reason in found.split("|")}
    assert named <= set(FailureReason)
