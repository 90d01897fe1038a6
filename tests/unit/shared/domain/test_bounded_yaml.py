"""Files of a few lines that stand for a billion values, or for a stack overflow: refused at once, with the place."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.bounded_yaml import MOST_BYTES, Unreadable, read_all
from shared.domain.object_bounds import DEEPEST


def aliases(levels: int, width: int, form: str = "[{}]") -> str:
    """So many levels, each of which repeats the one before it so often."""
    lines = ["a0: &a0 {k: v}"]
    for level in range(1, levels + 1):
        repeated = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} {form.format(repeated)}")
    return "\n".join(lines)


HOSTILE = {
    "aliases of aliases": (aliases(9, 9), "line 7, .*more than 250,000 values"),
    "merged aliases": (aliases(9, 9, "{{<<: [{}]}}"), "more than 250,000 values"),
    "a chain of aliases": (aliases(1500, 1), "more than 100 objects and lists"),
    "an alias of itself": ("a: &a [*a]", r"line 1, column 8: \*a is inside of itself"),
    "brackets": ("[" * 100_000, "line 1, column 102: more than 100 objects and lists"),
    "closed brackets": ("[" * 5000 + "]" * 5000, "more than 100 objects and lists"),
    "nested JSON": ('{"a":' * 5000 + "1" + "}" * 5000, "more than 100 objects and lists"),
    "nested lines": ("\n".join(f"{' ' * depth}a:" for depth in range(2000)), "line 101, .*more than 100"),
    "dashes": ("- " * 10_000 + "x", "more than 100 objects and lists"),
    "a long number": ("a: " + "9" * 5000, "line 1, column 4: a number of more than 400 digits"),
    "a long number of base 60": ("a: 1" + ":1" * 200_000, "a number of more than 400 digits"),
    "a long number in JSON": ('{"a": ' + "9" * 5000 + "}", "a number of more than 400 digits"),
    "no such date": ("a: 1\nb: 2026-13-45", "line 2, column 4: no valid timestamp"),
    "no int": ('a: !!int ""', "no valid int"),
    "no bool": ("a: !!bool maybe", "no valid bool"),
    "code": ("a: !!python/object:os.system {}", "line 1, column 4: could not determine a constructor"),
    "no UTF-8": ("\udcff", "not UTF-8"),
    "a large file": ("a" * (MOST_BYTES + 1), "more than 8 MiB: split it"),
    "many values": ("[" + "1," * 300_000 + "]", "more than 250,000 values"),
    "broken YAML": ("a: [", r"line \d, column \d: "),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_with_place_and_cause(case: str) -> None:
    text, problem = HOSTILE[case]
    began = time.process_time()
    with pytest.raises(Unreadable, match=problem):
        read_all(text.encode(errors="surrogateescape"))
    assert time.process_time() - began < 20


def test_an_error_does_not_quote_the_file() -> None:
    with pytest.raises(Unreadable) as error:
        read_all(b"token: [s3cret\nother: x")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("a: &x {b: 1}\nc: *x\n---\n[1]\n---\n", [{"a": {"b": 1}, "c": {"b": 1}}, [1], None]),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", [{"a": {"b": 1}, "c": {"b": 1, "d": 2}}]),
        ('{"a": "\\ud83d\\ude00"}', [{"a": "😀"}]),
        ("{a: 1}\n---\n{a: 2}", [{"a": 1}, {"a": 2}]),
        ("[" * DEEPEST + "]" * DEEPEST, None),
        ("", []),
    ],
)
def test_an_ordinary_file_is_read(text: str, documents: object) -> None:
    found = read_all(text.encode())
    assert documents is None or found == documents


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_was_written_is_read(value: object) -> None:
    if isinstance(value, dict | list):
        assert read_all(json.dumps(value).encode()) == [value]
    assert read_all(yaml.safe_dump(value).encode()) == [value]
