"""A line of the log is one JSON object, whatever the texts of other people have in them."""

from __future__ import annotations

import json
import logging

from shared.observability.logs import LONGEST, JsonFormatter

HOSTILE = "\x1b[2J\x00\n\u202e\x9b\u2028\ud800"


def logged(message: str, *args: object, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "args": args, "levelname": "INFO", **extra})
    return JsonFormatter("triton-planner").format(record)


def test_texts_of_others_stay_in_their_line_and_harm_no_terminal() -> None:
    line = logged("refused %s", HOSTILE, **{"triton.key": HOSTILE})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"refused {HOSTILE}"
    assert json.loads(line)["triton.key"] == HOSTILE


def test_a_huge_message_is_shortened() -> None:
    assert len(json.loads(logged("refused %s", "x" * 1_000_000))["message"]) == LONGEST
