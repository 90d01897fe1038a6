"""The README explains its words before it uses them, and the glossary has all of them."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT

README = ROOT / "README.md"
GLOSSARY = ROOT / "docs" / "glossary.md"
TITLE = "## The words\n"
WORDS = (
    "canary",
    "surge",
    "smoke",
    "bake",
    "gate",
    "pull in",
    "pull out",
    "retire",
    "hold",
    "partition",
    "revision",
    "sequence",
)
FORMS = re.compile(
    r"\b(canar(y|ies)|surg(e[sd]?|ing)|smok(e[sd]?|ing)|bak(e[sd]?|ing)|gates?|pull(s|ed|ing)?[ -](in|out)"
    r"|retir(e[sd]?|ing)|holds?|partitions?|revisions?|sequences?)\b",
    re.IGNORECASE,
)


def _short_form() -> str:
    _, _, rest = README.read_text().partition(TITLE)
    return rest.partition("\n## ")[0]


def _explained() -> list[str]:
    return re.findall(r"\*\*([^*]+)\*\*", _short_form())


def _glossary() -> list[str]:
    rows = re.findall(r"^\| (\*\*.+?) \|", GLOSSARY.read_text(), re.MULTILINE)
    return [word for row in rows for word in re.findall(r"\*\*([^*]+)\*\*", row)]


def test_the_readme_explains_each_of_these_words() -> None:
    assert set(WORDS) <= set(_explained())


def test_the_short_form_is_short() -> None:
    assert _short_form().count("\n- ") == 10


def test_the_glossary_has_every_word_that_the_readme_explains() -> None:
    assert not set(_explained()) - set(_glossary())


def test_the_glossary_is_in_alphabetical_order() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY.read_text(), re.MULTILINE)
    assert rows == sorted(rows, key=str.lower)


def test_no_word_is_used_before_it_is_explained() -> None:
    before, found, _ = README.read_text().partition(TITLE)
    assert found
    assert not FORMS.search(before), FORMS.search(before)


@pytest.mark.parametrize("word", WORDS)
def test_the_forms_cover_each_word(word: str) -> None:
    assert FORMS.fullmatch(word)
