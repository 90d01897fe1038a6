"""`triton log`: the story that a person reads."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC
from typing import Any, Final

import pytest
import typer
import yaml
from typer.testing import CliRunner

from cli.exits import BadInput, Failure
from cli.log_command import log
from cli.log_text import LogText, Tone
from services.events.documents import documents
from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.messages import FlowRef, Message, PodGone
from shared.event_store import Document, open_store
from shared.settings import Settings
from tests.unit.events.samples import (
    START,
    came,
    cloneset_event,
    cluster_event,
    container_log,
    flow_event,
    pod,
    pods_seen,
)

NEWER = FlowRef(name="web-zzzzz", uid="flow-2")


def release() -> list[Message]:
    """A canary of one pod and one more batch; each event half a second after the one before."""
    name = "web-x7k2p"
    steps: list[tuple[str, dict[str, Any]]] = [
        (
            "Received",
            {"message": "update of web", "batch": 0, "phase": FlowPhase.PENDING, "command": "deploy"},
        ),
        ("BatchStarted", {"message": "canary 1 of 2: 1 new pods", "batches": 2}),
        ("started", {}),
        ("containers-ready", {}),
        (
            "BatchSmoked",
            {
                "message": "canary 1 of 2 is Smoked",
                "batch_phase": BatchPhase.SMOKED,
                "duration_ms": 1500,
                "batches": 2,
            },
        ),
        (
            "GoAhead",
            {
                "message": "operator pressed next: batch 1 takes traffic",
                "batch_phase": BatchPhase.SMOKED,
                "batches": 2,
                "command": "next",
                "requested_by": "operator",
            },
        ),
        ("ready", {}),
        (
            "BatchFinished",
            {
                "message": "canary 1 of 2 is finished",
                "batch_phase": BatchPhase.BAKED,
                "phase": FlowPhase.BATCH_FINISHED,
                "batches": 2,
            },
        ),
    ]
    messages: list[Message] = []
    for number, (what, fields) in enumerate(steps):
        at = START + number * 500
        if what.islower():
            step = came(what, at=at, since=at - 400)
            messages.append(pods_seen(pod(name, created_at=START + 600, transitions=[step]), at=at))
        else:
            messages.append(flow_event(number, at=at, reason=what, **fields))
    return messages


def finished(number: int = 50, **changes: Any) -> Message:
    fields = {
        "at": START + 60_000,
        "phase": FlowPhase.SUCCESS,
        "reason": "Success",
        "message": "update ended as Success",
    }
    return flow_event(number, **fields | {"batch": 0, "batches": 2, "batch_phase": None} | changes)


CLAIMED: Final = {"requested_by_claimed": True}


def documents_of(*messages: Message) -> list[Document]:
    return [document for number, message in enumerate(messages) for document in documents(message, number)]


def log_lines(*messages: Message) -> list[str]:
    story = LogText(UTC)
    lines = [line.text for document in documents_of(*messages) for line in story.add(document.source)]
    return lines + [line.text for line in story.end()]


def test_a_release_is_shown_line_by_line_with_the_seconds_since_its_start() -> None:
    assert log_lines(
        *release(),
        finished(),
        pods_seen(gone=[PodGone(uid="uid-web-x7k2p", name="web-x7k2p")], at=START + 60_500),
    ) == [
        "web-kvn6b: update of shop/web (deploy-demo-hello, app 12122, group 10010), 2025-11-21, by deployer",
        "10:13:20.000      +0.0  update of web",
        "10:13:20.500      +0.5  canary 1 of 2: 1 new pods",
        "10:13:21.000      +1.0    pod web-x7k2p runs, its containers are starting (took 0.4 s)",
        "10:13:21.500      +1.5    pod web-x7k2p has all containers ready (1.5 s after its creation)",
        "10:13:22.000      +2.0  canary 1 of 2 is Smoked (took 1.5 s)",
        "10:13:22.500      +2.5  operator pressed next: batch 1 takes traffic",
        "10:13:23.000      +3.0    pod web-x7k2p is Ready and takes traffic (took 0.4 s)",
        "10:13:23.500      +3.5  canary 1 of 2 is finished",
        "10:14:20.000     +60.0  update ended as Success",
        "10:14:20.500     +60.5    pod web-x7k2p is gone",
        "web-kvn6b: Success after 60.0 s; 1 of 2 batches finished (1: 3.0 s); 1 pod started, the slowest in 1.5 s",
    ]


def test_a_name_that_nobody_checked_is_shown_as_claimed() -> None:
    headline, *_ = log_lines(*(message.model_copy(update=CLAIMED) for message in release()[:1]))
    assert headline.endswith(", by deployer (claimed)")


def test_documents_of_an_older_version_are_shown_too() -> None:
    story = LogText(UTC)
    older = documents_of(flow_event(1, app_id=0, group_id=0, app_name=""), *release()[2:4])
    for document in older:
        document.source["triton"].pop("age_ms", None)
    lines = [line.text for document in older for line in story.add(document.source)]
    assert lines[0].startswith("web-kvn6b: update of shop/web (-, app 0, group 0)")
    assert lines[-1].endswith("pod web-x7k2p has all containers ready")


def test_a_release_that_goes_on_says_so_at_the_end() -> None:
    assert log_lines(*release())[-1].startswith(
        "web-kvn6b: BatchFinished, not finished after 3.5 s; 1 of 2 batches finished"
    )


def test_a_failure_names_its_reason_and_counts_its_pods() -> None:
    crash = came("failed", reason="CrashLoopBackOff", message="exit code 1", at=START + 900)
    crashed = pod(phase=PodPhase.FAILED, restarts=2, transitions=[crash])
    failed = flow_event(
        9,
        at=START + 950,
        batch_phase=BatchPhase.SMOKE_FAILED,
        reason="CrashLoopBackOff",
        message="1 pod failed",
    )
    lines = log_lines(flow_event(1), pods_seen(crashed), failed)
    assert lines[2].endswith("pod web-x7k2p failed: CrashLoopBackOff: exit code 1 (0.9 s after its creation)")
    assert lines[3].endswith("CrashLoopBackOff: 1 pod failed")
    assert lines[-1].endswith("1 pod failed")


def test_the_next_release_of_an_instance_begins_after_the_summary_of_the_last() -> None:
    lines = log_lines(flow_event(1), finished(), flow_event(60, flow=NEWER, at=START + 90_000, id="flow-2:1"))
    assert [line.split(":")[0] for line in lines if line.startswith("web-")] == [
        "web-kvn6b",
        "web-kvn6b",
        "web-zzzzz",
        "web-zzzzz",
    ]
    assert "     +0.0  BatchStarted" in lines[-2]


def test_success_and_failure_have_their_colours() -> None:
    story = LogText(UTC)
    (document,) = documents(flow_event(batch_phase=BatchPhase.SMOKE_FAILED), 0)
    assert [line.tone for line in story.add(document.source)] == [Tone.HEAD, Tone.BAD]


# --- the command, on the sandbox's store -------------------------------------------------------------------


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setenv("TRITON_EVENT_STORE", settings.event_store)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    app = typer.Typer()
    app.command()(log)

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    return invoke


def stored(settings: Settings, *messages: Message) -> None:
    async def write() -> None:
        store = open_store(settings)
        await store.prepare()
        await store.write(documents_of(*messages))
        await store.close()

    asyncio.run(write())


def test_log_prints_the_story_of_a_release_and_ends_with_its_summary(settings: Settings, run: Any) -> None:
    stored(settings, *release(), finished())
    result = run("web-kvn6b", "-n", "shop")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 11
    assert lines[-1].startswith("web-kvn6b: Success after 60.0 s")


def some_pod(name: str, at: int, flow: FlowRef | None = None) -> Message:
    return pods_seen(pod(name, transitions=[came(at=at)], flow=flow), at=at)


def test_pods_of_other_times_and_of_other_releases_do_not_belong_to_the_story(
    settings: Settings, run: Any
) -> None:
    others = [
        some_pod("web-early", START - 5_000),
        some_pod("web-later", START + 70_000),
        some_pod("web-next", START + 60_100, NEWER),
    ]
    wanted = [some_pod("web-mine", START + 65_000, pod().flow), some_pod("web-nobodys", START + 3_000)]
    stored(settings, *others, *release(), finished(), *wanted)
    story = run("web-kvn6b", "-n", "shop").output
    assert [name for name in ("early", "later", "next") if f"web-{name}" in story] == []
    assert [name for name in ("mine", "nobodys") if f"web-{name}" in story] == ["mine", "nobodys"]
    assert "web-later" in run("web", "-n", "shop").output


def test_what_only_repeats_other_facts_is_shown_on_request(settings: Settings, run: Any) -> None:
    normal = cluster_event(warning=False, reason="Pulled", message="Container image", id="event-2:1")
    stored(settings, flow_event(1), cloneset_event(), cluster_event(), normal, container_log(), finished())
    story = run("web-kvn6b", "-n", "shop").output
    assert "Pod web-x7k2p: FailedScheduling: 0/3 nodes are available" in story
    assert "panic: no database" in story
    assert "Pulled" not in story
    assert "CloneSet web" not in story
    everything = run("web-kvn6b", "-n", "shop", "--all").output
    assert "Pod web-x7k2p: Pulled: Container image" in everything
    assert "CloneSet web: SpecChanged: replicas 3 → 4" in everything


def test_a_cloneset_that_somebody_else_changed_is_shown(settings: Settings, run: Any) -> None:
    stored(settings, flow_event(1), cloneset_event(message="replicas 9, partition 0 by somebody else"))
    assert "replicas 9, partition 0 by somebody else" in run("web-kvn6b", "-n", "shop").output


def test_who_let_a_pod_into_traffic_stands_with_it() -> None:
    let = pod(transitions=[came("pulled-in")])
    assert log_lines(flow_event(1), pods_seen(let))[2].endswith(
        "pod web-x7k2p is pulled in (batch 1, approved by deployer)"
    )


@pytest.mark.parametrize(
    ("option", "shown", "not_shown"),
    [
        (["--failures"], "pod web-x7k2p failed", "ended as Success"),
        (["--commands"], "operator pressed next: batch 1 takes traffic", "pod web-x7k2p"),
        (["--pod", "web-other"], "canary 1 of 2 is Smoked", "pod web-x7k2p"),
        (["--batch", "2"], "batch 2 began", "canary 1 of 2"),
    ],
    ids=lambda case: case[0] if isinstance(case, list) else None,
)
def test_only_what_was_requested_is_shown(
    settings: Settings, run: Any, option: list[str], shown: str, not_shown: str
) -> None:
    crash = came("failed", at=START + 9000, reason="CrashLoopBackOff")
    second = flow_event(30, at=START + 5000, batch=2, message="batch 2 began")
    crashed = pods_seen(pod(phase=PodPhase.FAILED, transitions=[crash]))
    stored(settings, *release(), second, crashed, finished())
    story = run("web-kvn6b", "-n", "shop", *option).output.splitlines()
    lines = "\n".join(line for line in story if not line.startswith("web-"))
    assert shown in lines
    assert not_shown not in lines


def test_without_pods_only_the_release_speaks(settings: Settings, run: Any) -> None:
    stored(settings, *release(), finished())
    assert "pod web-x7k2p" not in run("web", "-n", "shop", "--no-pods").output


def test_since_leaves_out_what_is_older_but_counts_from_the_start(settings: Settings, run: Any) -> None:
    stored(settings, *release(), finished())
    lines = run("web-kvn6b", "-n", "shop", "--since", "2025-11-21T10:14:00+00:00").output.splitlines()
    assert [line.split()[1] for line in lines] == ["+60.0", "Success"]


def test_since_leaves_out_releases_that_were_over_before(settings: Settings, run: Any) -> None:
    later = flow_event(60, flow=NEWER, at=START + 90_000, id="flow-2:1")
    stored(settings, *release(), finished(), later)
    lines = run("web", "-n", "shop", "--since", "2025-11-21T10:14:40+00:00").output.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("web-")] == ["web-zzzzz", "web-zzzzz"]


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_documents_themselves_for_programs(settings: Settings, run: Any, form: str, parse: Any) -> None:
    stored(settings, *release())
    parsed = parse(run("web-kvn6b", "-n", "shop", "-o", form).output)
    assert [item["event"]["id"] for item in parsed][:2] == ["flow-1:0", "flow-1:1"]


def test_follow_ends_when_the_release_is_finished(settings: Settings, run: Any) -> None:
    stored(settings, *release(), finished())
    result = run("web-kvn6b", "-n", "shop", "--follow")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith("web-kvn6b: Success")


def test_followed_documents_come_one_a_line(settings: Settings, run: Any) -> None:
    stored(settings, *release(), finished())
    lines = run("web-kvn6b", "-n", "shop", "-f", "-o", "json").output.splitlines()
    assert [json.loads(line)["event"]["action"] for line in lines][-1] == "success"


def test_an_unknown_name_is_a_failure_that_names_it(settings: Settings, run: Any) -> None:
    stored(settings, *release())
    error = run("nobody", "-n", "shop").exception
    assert isinstance(error, Failure)
    assert "no events of nobody in namespace shop" in str(error)


def test_a_store_that_is_not_there_is_a_failure_that_says_what_to_do(run: Any) -> None:
    error = run("web", "-n", "shop").exception
    assert isinstance(error, Failure)
    assert "triton sandbox" in str(error)


def test_an_event_store_of_an_unknown_kind_is_bad_input(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_EVENT_STORE", "mysql://x")
    assert isinstance(run("web", "-n", "shop").exception, BadInput)


def test_a_since_that_is_no_time_is_a_usage_error(run: Any) -> None:
    result = run("web", "--since", "yesterday")
    assert result.exit_code == 2
    assert "yesterday" in result.output
