"""The mistakes that `make planted-mistakes` plants still have their places in the code."""

from __future__ import annotations

import pytest

from tests.planted_mistakes import MISTAKES, ROOT, Mistake, plant


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.what for mistake in MISTAKES])
def test_a_mistake_can_be_planted(mistake: Mistake) -> None:
    text = (ROOT / mistake.file).read_text()
    planted = plant(mistake, text)
    assert planted != text
    compile(planted, mistake.file, "exec")
    assert all((ROOT / tests).exists() for tests in mistake.tests.split())


def test_the_place_of_a_mistake_that_is_gone_is_named() -> None:
    with pytest.raises(ValueError, match=r"guards\.py.*stands 0 times: adapt MISTAKES"):
        plant(MISTAKES[0], "")
