"""docs/campaign.md has every kind of disturbance, and every check."""

from __future__ import annotations

import re
from typing import Final

from bench.campaigns import player, rest_checks, running_checks
from bench.campaigns.kinds import KINDS
from bench.campaigns.story import GOOD
from tests.docs.blocks import ROOT

TEXT: Final = (ROOT / "docs" / "campaign.md").read_text()


def test_every_kind_of_disturbance_is_described_as_the_help_does() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([a-z]+) \| (.*?)(?: \(real parts only\))? \|$", TEXT, re.MULTILINE)
    assert [(name, group, text) for name, group, text in rows] == [
        (kind.name, kind.group, kind.meaning) for kind in KINDS.values()
    ]


def test_every_check_is_described() -> None:
    checks = {
        value
        for module in (running_checks, rest_checks, player)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z]+(-[a-z]+)*", value)
    }
    described = set(re.findall(r"^\| `([\w-]+)` \| [^|\d][^|]*\|$", TEXT, re.MULTILINE))
    assert described == checks - {GOOD}
