"""How `triton describe` shows the pods that failed a batch."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from cli import rendering
from shared.domain.json_types import Json

NOW = datetime(2026, 1, 1, 10, 5, tzinfo=UTC)


def described(flow: Json, **pod: Any) -> list[str]:
    flow = copy.deepcopy(flow)
    condition = flow["status"]["conditions"][0]
    condition |= {"phase": "SmokeFailed", "message": "1 of 1 pods failed"}
    condition["pods"][0] |= {"phase": "Failed", **pod}
    return rendering.describe(flow, NOW)


def test_a_failed_pod_is_shown_with_exit_code_since_when_last_event_and_log(flow: Json) -> None:
    since = "2026-01-01T10:00:03Z"
    lines = described(
        flow,
        reason="CrashLoopBackOff",
        message="container web: back-off (exit code 1, Error)",
        event="BackOff: Back-off restarting failed container web",
        log="starting\npanic: no database",
        since=since,
    )
    local = datetime.fromisoformat(since).astimezone().strftime("%H:%M:%S")
    assert lines[-5:] == [
        f"  7-web-aaaaa: CrashLoopBackOff: container web: back-off (exit code 1, Error), since {local}",
        "    last event: BackOff: Back-off restarting failed container web",
        "    last lines of its log:",
        "      starting",
        "      panic: no database",
    ]


def test_of_a_failed_pod_of_which_nothing_more_is_known_there_is_its_row_alone(flow: Json) -> None:
    lines = described(flow, reason="ImagePullBackOff")
    assert "ImagePullBackOff" in lines[-1]
    assert lines[-2].split() == ["POD", "PHASE", "IP", "PULL-IN", "REASON"]
