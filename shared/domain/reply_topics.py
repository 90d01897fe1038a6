"""The topics on which Triton answers deploy commands.

The sender names the topic, and Triton may write to topics that the sender may not: so only those are answered that the
operator allows by `TRITON_REPLY_TOPICS`, and never one whose records other programs act on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from shared.domain import topics
from shared.domain.deploy_commands import TOPIC_NAME

REPLY_TO_REFUSED: Final = "ReplyToNotAllowed"
REPLY_NOT_DELIVERED: Final = "ReplyNotDelivered"
"""The reason in the dead letters of an answer that its topic did not take, as one that does not exist."""
DEFAULT: Final = ("*.replies",)
"""By its name such a topic is there for answers; no topic of Triton or of Kafka itself has such a name."""
PATTERN: Final = r"[A-Za-z0-9._*-]{1,249}"
"""The name of a topic, in which `*` is any text."""
_OF_ANY_TRITON: Final = frozenset(topics.ALL)


def refuse_topic(topic: str, *, prefix: str, allowed: Sequence[str]) -> str:
    """Return why Triton does not answer on a topic, with what to do about it; empty where it does.

    `prefix`: of this Triton's own topics. `allowed`: patterns as `TRITON_REPLY_TOPICS` has them.
    """
    if not re.fullmatch(TOPIC_NAME, topic):
        return f"{topic[:249]!r} is no name of a topic"
    if topic.startswith("_"):
        return f"{topic} is an internal topic: name one that is made for answers"
    if topic.startswith(f"{prefix}."):
        return f"{topic} is a topic of Triton's own: name one that is made for answers"
    if topic.rpartition(".")[2] in _OF_ANY_TRITON:
        return f"{topic} has the name of a topic of another Triton: name one that is made for answers"
    if not any(fnmatchcase(topic, pattern) for pattern in allowed):
        which = f"only on {', '.join(allowed)}" if allowed else "on no topic"
        return f"this Triton answers {which}, not on {topic}: name another topic, or allow it in TRITON_REPLY_TOPICS"
    return ""
