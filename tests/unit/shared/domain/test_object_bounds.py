"""The bounds of values: what is too deep, too long or no number is found without a stack."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.object_bounds import TooDeep, count_in, cut, is_deeper, json_in

VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)


def shallow(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [shallow(inner, levels - 1) for inner in value]
    return {key: shallow(inner, levels - 1) for key, inner in value.items()}


@given(VALUES, st.integers(0, 6))
def test_a_value_is_deeper_than_fewer_levels(value: Any, levels: int) -> None:
    assert is_deeper(value, levels) is (depth_of(value) > levels)


@given(VALUES, st.integers(0, 6), st.sampled_from([None, 1]))
def test_what_is_too_deep_is_cut_and_nothing_else(value: Any, levels: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert json.loads(cut(text, levels)) == shallow(value, levels)


def test_a_text_of_any_depth_is_cut() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert depth_of(json.loads(cut(deep))) == 150
    assert cut(b'{"a":' * 100_000)[-5:] == b'{"a":'


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 101 + "]" * 101, '{"a":' * 2_000 + "1" + "}" * 2_000])
def test_a_text_that_is_too_deep_is_no_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"inside each other|Expecting|JSON"):
        json_in(text)


def test_the_reason_is_a_type_of_its_own() -> None:
    with pytest.raises(TooDeep):
        json_in("[" * 101 + "]" * 101)
    assert json_in("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    ("text", "count"),
    [("7", 7), ("", None), (None, None), ("-1", None), ("²", None), ("9" * 18, 10**18 - 1), ("9" * 19, None)],
)
def test_a_count_is_a_short_whole_number(text: str | None, count: int | None) -> None:
    assert count_in(text) == count


def test_a_number_of_thousands_of_digits_is_none() -> None:
    assert count_in("9" * 5_000) is None
