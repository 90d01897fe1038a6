"""Every alert has a page that says what to do, stands on metrics that there are, and is seen to fire and to clear."""

from __future__ import annotations

import re

import pytest
import yaml

from shared.domain.json_types import Json
from tests.docs.blocks import ROOT

RULES = ROOT / "deploy" / "prometheus"
PAGE = "docs/alerts.md"
FILES = sorted(path.name for path in RULES.glob("*.yml"))


def _groups(file: str) -> list[Json]:
    groups: list[Json] = yaml.safe_load((RULES / file).read_text())["groups"]
    return groups


def _rules() -> list[Json]:
    return [rule for file in FILES for group in _groups(file) for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}


def _sections() -> dict[str, str]:
    """By alert: what its section says."""
    page = (ROOT / PAGE).read_text()
    parts = re.split(r"^### (\w+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert set(_sections()) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    notes = rule["annotations"]
    assert rule["labels"]["severity"]
    assert notes["summary"]
    assert notes["description"]
    assert notes["runbook_url"] == f"{PAGE}#{name.lower()}"
    section = _sections()[name]
    for part in ("**Means:**", "**Check:**", "**Do:**"):
        assert part in section


def test_the_anchors_of_links_to_operations_are_there() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    wanted = re.findall(r"operations\.md#([\w-]+)", (ROOT / PAGE).read_text())
    assert wanted
    assert set(wanted) <= anchors


def test_rules_stand_on_metrics_that_there_are() -> None:
    described = set(
        re.findall(r"^\| `(triton_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    )
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    for rule in _rules():
        text = rule["expr"] + rule.get("annotations", {}).get("description", "")
        for name in re.findall(r"\btriton[_:][\w:]+", text):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in described | recorded, name


@pytest.mark.parametrize("file", FILES)
def test_every_alert_is_seen_to_fire_and_to_clear(file: str) -> None:
    fires: set[str] = set()
    clears: set[str] = set()
    for test in yaml.safe_load((RULES / "tests" / file).read_text())["tests"]:
        fired: set[str] = set()
        for case in test["alert_rule_test"]:
            if case.get("exp_alerts"):
                fired.add(case["alertname"])
            elif case["alertname"] in fired:
                clears.add(case["alertname"])
        fires |= fired
    alerts = {rule["alert"] for group in _groups(file) for rule in group["rules"] if "alert" in rule}
    assert fires == clears == alerts


def test_compose_has_the_rules() -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    (pattern,) = config["rule_files"]
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["volumes"]
    assert f"./deploy/prometheus:{pattern.removesuffix('/*.yml')}:ro" in mounts
