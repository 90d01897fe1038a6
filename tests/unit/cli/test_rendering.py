"""What a person reads of a release: tables, lines, and what it waits for."""

from __future__ import annotations

import copy
import io
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cli import rendering
from cli.live_picture import Size, picture
from cli.watching import PlainScreen
from shared.domain.json_types import Json

NOW = datetime(2026, 1, 1, 10, 5, tzinfo=UTC)


def _failed(flow: Json) -> Json:
    flow = copy.deepcopy(flow)
    flow["status"] |= {
        "reason": "SmokeFailed",
        "message": "1 of 1 pods failed: ImagePullBackOff",
        "paused": True,
    }
    condition = flow["status"]["conditions"][0]
    condition |= {"phase": "SmokeFailed", "message": "ImagePullBackOff", "failedReplicas": 1}
    condition["pods"][0] |= {"phase": "Failed", "reason": "ImagePullBackOff"}
    return flow


def _finished(flow: Json) -> Json:
    flow = copy.deepcopy(flow)
    flow["status"] |= {
        "phase": "Success",
        "finished": True,
        "finishedBatches": 3,
        "finishedReplicas": 4,
        "reason": "",
        "message": "",
    }
    flow["status"]["conditions"][0] |= {"phase": "Baked", "finishedAt": "2026-01-01T10:00:05.500Z"}
    flow["status"]["conditions"][0]["pods"][0]["phase"] = "Ready"
    return flow


def test_a_waiting_release_says_what_to_press(flow: Json) -> None:
    assert rendering.waits_for(flow).endswith("press next to send it traffic → triton next 7-web-bcdfg")


def test_a_failed_batch_says_why_and_how_to_end_it(flow: Json) -> None:
    waits = rendering.waits_for(_failed(flow))
    assert waits == (
        "stopped, SmokeFailed: 1 of 1 pods failed: ImagePullBackOff → "
        "triton retry 7-web-bcdfg, triton cancel 7-web-bcdfg or triton rollback 7-web"
    )


def test_a_paused_release_says_how_to_resume_it(flow: Json) -> None:
    flow["status"] |= {"reason": "Paused", "message": "paused: resume it to continue"}
    assert rendering.waits_for(flow).endswith("→ triton resume 7-web-bcdfg")


def test_a_release_that_waits_its_turn_says_behind_which(flow: Json) -> None:
    flow["status"] = {
        "phase": "Pending",
        "reason": "WaitingItsTurn",
        "message": "waits until other is finished",
    }
    assert rendering.waits_for(flow) == "waits until other is finished"


@pytest.mark.parametrize("reason", ["", "Warning"])
def test_a_release_that_moves_waits_for_nothing(flow: Json, reason: str) -> None:
    flow["status"] |= {"reason": reason, "message": "canary 9 is not below the 4 pods"}
    assert rendering.waits_for(flow) == ""


def test_a_finished_release_waits_for_nothing(flow: Json) -> None:
    assert rendering.waits_for(_finished(flow)) == ""


def test_the_counters_count_every_pod_once(flow: Json) -> None:
    pods = flow["status"]["conditions"][0]["pods"]
    pods += [
        {"name": name, "phase": phase}
        for name, phase in [
            ("a", "Pending"),
            ("b", "Running"),
            ("c", "Ready"),
            ("d", "Ready"),
            ("e", "Failed"),
        ]
    ]
    view = rendering.progress(flow)
    assert rendering.counted(view) == "Pending 1  Running 2  Ready 2  Failed 1"


def test_the_table_has_a_line_a_release(flow: Json) -> None:
    lines = rendering.flow_table([flow, _finished(flow)], NOW)
    assert lines[0].split() == [
        "NAME",
        "ACTION",
        "INSTANCE",
        "PHASE",
        "BATCHES",
        "PODS",
        "WAITING",
        "FOR",
        "AGE",
        "IMAGES",
    ]
    assert lines[1].split() == [
        "7-web-bcdfg",
        "update",
        "7-web",
        "BatchStarted",
        "0/3",
        "0/4",
        "WaitingForNext",
        "5m",
        "web:1,",
        "proxy:1",
    ]
    assert lines[2].split()[3:7] == ["Success", "3/3", "4/4", "-"]


def test_a_release_that_nobody_has_looked_at_yet_can_be_shown(flow: Json) -> None:
    del flow["status"]
    assert "Pending" in rendering.flow_table([flow], NOW)[1]
    assert any(line.startswith("Phase:") and "Pending" in line for line in rendering.describe(flow, NOW))


def test_describe_shows_images_times_and_each_pod(flow: Json) -> None:
    text = "\n".join(rendering.describe(_finished(flow), NOW))
    assert "Images:       web:1, proxy:1" in text
    assert "Canary 1, 1 pod: Baked, finished" in text
    assert "took 4.5 s" in text
    assert "7-web-aaaaa" in text


def test_plain_lines_report_only_what_changed(flow: Json) -> None:
    before, after = rendering.progress(flow), rendering.progress(_finished(flow))
    assert rendering.changes(before, before) == []
    assert rendering.changes(before, after) == [
        "7-web-bcdfg (update of 7-web): Success, 3 of 3 batches, 4 of 4 pods",
        "canary 1 of 3: Baked, 1 of 1 pods",
        "canary 1 of 3: finished",
        "  7-web-aaaaa: Ready",
    ]


def test_plain_lines_name_the_reason_of_a_failed_pod(flow: Json) -> None:
    lines = rendering.changes(None, rendering.progress(_failed(flow)))
    assert "canary 1 of 3: SmokeFailed, 1 of 1 pods" in lines
    assert sum("1 of 1 pods failed: ImagePullBackOff" in line for line in lines) == 1
    assert "  7-web-aaaaa: Failed (ImagePullBackOff)" in lines


def test_a_plain_screen_says_nothing_twice(flow: Json) -> None:
    lines: list[str] = []
    screen = PlainScreen(lines.append)
    screen.show(flow)
    count = len(lines)
    screen.show(flow)
    assert count > 0
    assert len(lines) == count


def _drawn(flow: Json) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(picture(rendering.progress(flow), Size(120, 30)))
    return out.getvalue()


def test_the_live_picture_has_a_bar_a_batch_and_what_to_press(flow: Json) -> None:
    drawn = _drawn(flow)
    assert "canary 1  ███████████░░░░░░░░░░░░░ Smoked" in drawn
    assert "batch 2   not started" in drawn
    assert "batch 3   not started" in drawn
    assert "Pending 0  Running 1  Ready 0  Failed 0" in drawn
    assert "triton next 7-web-bcdfg" in drawn


def test_the_live_picture_of_a_big_batch_always_shows_the_failed_pods(flow: Json) -> None:
    condition = flow["status"]["conditions"][0]
    condition["batchSize"] = 100
    condition["pods"] = [{"name": f"good-{n}", "phase": "Running"} for n in range(99)]
    condition["pods"].append({"name": "bad", "phase": "Failed", "reason": "CrashLoopBackOff"})
    drawn = _drawn(flow)
    assert "bad  Failed CrashLoopBackOff" in drawn
    assert re.search(r"and \d\d more$", drawn, re.MULTILINE)
