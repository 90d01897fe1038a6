"""Texts of other people as lines of a terminal and of a log, and settings without their login."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deployflow import DeployFlowSpec, problems
from shared.domain.safe_text import json_text, shortened, visible, without_login

TEXTS = st.text(st.characters(), max_size=60)
SECRET = "s3cret"


def harms(text: str) -> set[str]:
    """The characters that a terminal or a reader takes for something else than a letter."""
    return {
        c
        for c in text
        if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in "\u202e\u2066\u200f\ufeff"
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("deployer", "deployer"),
        ("Zoë 发布 ✓", "Zoë 发布 ✓"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\x00b", r"a\x00b"),
        ("ok\nerror: forged", r"ok\nerror: forged"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(TEXTS)
def test_every_text_becomes_one_harmless_line(text: str) -> None:
    line = visible(text)
    assert not harms(line)
    line.encode()
    assert visible(line) == line


@given(
    st.recursive(
        TEXTS | st.integers() | st.none(), lambda some: st.lists(some) | st.dictionaries(TEXTS, some)
    )
)
def test_json_equals_its_value_and_harms_no_terminal(value: object) -> None:
    assert json.loads(json_text(value)) == value
    assert not harms(json_text(value))
    assert not harms(json_text(value, indent=2).replace("\n", ""))


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (f"redis://:{SECRET}@redis:6379/0", "redis://redis:6379/0"),
        (f"redis://me:{SECRET}/+?#@redis:6379/0", "redis://…"),
        (f"redis://me:{SECRET}/@#@redis:6379/0", "redis://redis:6379/0"),
        (f"redis://redis:6379/0?password={SECRET}", "redis://redis:6379/0"),
        (f"redis://redis:6379/0?password=1@{SECRET}", "redis://…"),
        (f"redis:/me:{SECRET}@redis", "redis"),
        (f"https://me:{SECRET}@one:9200, https://me:{SECRET}@two:9200", "https://one:9200, https://two:9200"),
        (f"https://me:a,{SECRET}@one:9200", "https://one:9200"),
        (f"me:{SECRET}@kafka:9092,me:{SECRET}@kafka-2:9092", "kafka-2:9092"),
        ("kafka:9092,kafka-2:9092", "kafka:9092,kafka-2:9092"),
        ("sqlite:///var/events.db", "sqlite:///var/events.db"),
    ],
)
def test_a_setting_is_shown_without_its_login(setting: str, shown: str) -> None:
    assert without_login(setting) == shown


def test_an_invalid_value_is_named_by_its_beginning() -> None:
    with pytest.raises(ValueError, match="action") as error:
        DeployFlowSpec.model_validate({"action": "x" * 1_000_000, "y" * 1_000_000: 1})
    text = problems(error.value)
    assert "action: " in text
    assert len(text) <= 4000


def test_a_shortened_text_says_that_it_is() -> None:
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"
