"""The topics on which Triton answers: those that are allowed, and never one whose records other programs act on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.domain import topics
from shared.domain.reply_topics import DEFAULT, refuse_topic
from shared.settings import Settings


@pytest.mark.parametrize("topic", ["paas.replies", "ci-2.build.replies"])
def test_a_topic_that_is_named_for_replies_is_answered_by_default(topic: str) -> None:
    assert refuse_topic(topic, prefix="triton", allowed=DEFAULT) == ""


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("_schemas", "internal topic"),
        ("__consumer_offsets", "internal topic"),
        ("_x.replies", "internal topic"),
        *((f"triton.{name}", "Triton's own") for name in topics.ALL),
        ("triton.replies", "Triton's own"),
        *((f"other.{name}", "another Triton") for name in topics.ALL),
        ("no topic!", "no name of a topic"),
        ("", "no name of a topic"),
    ],
)
def test_no_setting_allows_a_topic_that_programs_act_on(topic: str, words: str) -> None:
    assert words in refuse_topic(topic, prefix="triton", allowed=["*"])


@pytest.mark.parametrize(
    ("setting", "topic", "is_allowed"),
    [
        ("paas.answers, ci.*", "paas.answers", True),
        ("paas.answers, ci.*", "ci.nightly.done", True),
        ("paas.answers, ci.*", "paas.answers.old", False),
        ("paas.answers, ci.*", "paas.replies", False),
        ("", "paas.replies", False),
        ("*.replies", "orders", False),
    ],
)
def test_the_setting_names_topics_and_patterns(
    monkeypatch: pytest.MonkeyPatch, setting: str, topic: str, is_allowed: bool
) -> None:
    monkeypatch.setenv("TRITON_REPLY_TOPICS", setting)
    why = Settings().refuse_reply(topic)
    assert (why == "") == is_allowed
    assert is_allowed or "TRITON_REPLY_TOPICS" in why


def test_a_pattern_that_fits_no_topic_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_REPLY_TOPICS", "paas.[ab]")
    with pytest.raises(ValidationError, match="reply_topics"):
        Settings()
