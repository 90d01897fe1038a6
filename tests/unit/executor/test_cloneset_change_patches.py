"""`replacement_patch` is the inverse of a merge patch: held against one written down from RFC 7386."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.executor.cloneset_change import replacement_patch

SCALARS = st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x"])
NAMES = st.sampled_from(["a", "b", "c", "d"])
# a merge patch can't distinguish a null from a missing field, and no template has one that means something
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


@many
@given(OBJECTS, OBJECTS)
def test_the_patch_makes_of_any_template_exactly_the_wanted_one(live: Any, wanted: Any) -> None:
    assert merge_patch(live, replacement_patch(live, wanted)) == wanted


@many
@given(OBJECTS, OBJECTS)
def test_done_twice_it_is_done_once(live: Any, wanted: Any) -> None:
    patch = replacement_patch(live, wanted)
    assert merge_patch(merge_patch(live, patch), patch) == wanted


@many
@given(OBJECTS, OBJECTS)
def test_neither_template_is_touched_on_the_way(live: Any, wanted: Any) -> None:
    before = (repr(live), repr(wanted))
    replacement_patch(live, wanted)
    assert (repr(live), repr(wanted)) == before
