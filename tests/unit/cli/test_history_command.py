"""`triton history`: who released what, and who let it go on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.history_command import past_releases
from services.events.documents import documents
from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.messages import FlowRef, ImageChange, Message
from shared.event_store import open_store
from shared.settings import Settings
from tests.unit.events.samples import START, flow_event

SECOND = FlowRef(name="web-zzzzz", uid="flow-2")


def releases() -> list[Message]:
    begin: dict[str, Any] = {"batch": 0, "batch_phase": None, "command": "deploy"}
    over: dict[str, Any] = {"batch": 0, "batches": 2, "batch_phase": None}
    step: dict[str, Any] = {"reason": "GoAhead", "command": "next"}
    failed: dict[str, Any] = {"reason": "BatchSmokeFailed", "batch_phase": BatchPhase.SMOKE_FAILED}
    second: dict[str, Any] = {"flow": SECOND, "action": "rollback", "requested_by": "on-call"}
    return [
        flow_event(1, reason="Received", phase=FlowPhase.PENDING, **begin),
        flow_event(2, **step),
        flow_event(3, **step),
        flow_event(4, requested_by="release-manager", **step),
        flow_event(5, reason="BatchFinished", batches=2),
        flow_event(6, batch=2, batches=2, **failed),
        flow_event(7, at=START + 90_000, phase=FlowPhase.ABORTED, duration_ms=80_000, **over),
        flow_event(8, at=START + 90_001, id="flow-2:1", phase=FlowPhase.PENDING, **begin | second),
    ]


def stored(settings: Settings, *messages: Message) -> None:
    import asyncio

    async def store() -> None:
        events = open_store(settings)
        await events.prepare()
        await events.write([d for n, message in enumerate(messages) for d in documents(message, n)])
        await events.close()

    asyncio.run(store())


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    import typer

    from cli.history_command import history

    monkeypatch.setenv("TRITON_EVENT_STORE", settings.event_store)
    app = typer.Typer()
    app.command()(history)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_release_shows_how_it_went_and_who_requested_what() -> None:
    found = past_releases([d.source for n, message in enumerate(releases()) for d in documents(message, n)])
    first, second = found
    assert (first.name, first.by, first.phase, first.took) == ("web-kvn6b", "deployer", "Aborted", 80.0)
    assert (first.finished_batches, first.batches, first.failed_batches) == (1, 2, 1)
    assert list(first.commands.items()) == [
        (("next", "deployer", False, ""), 2),
        (("next", "release-manager", False, ""), 1),
    ]
    assert (second.name, second.action, second.by, second.took) == ("web-zzzzz", "rollback", "on-call", None)


def test_a_release_that_stands_at_a_failed_batch_is_failed_until_it_is_retried() -> None:
    failed = flow_event(2, reason="BatchSmokeFailed", batch_phase=BatchPhase.SMOKE_FAILED)
    retried = flow_event(3, reason="RetryRequested", command="retry", batch_phase=BatchPhase.SMOKE_FAILED)

    def result(*messages: Message) -> str:
        (one,) = past_releases([d.source for n, m in enumerate(messages) for d in documents(m, n)])
        return one.result

    assert result(flow_event(1), failed) == "Failed"
    assert result(flow_event(1), failed, retried) == "BatchStarted"


def test_a_release_shows_the_images_that_it_replaced() -> None:
    change = ImageChange(container="web", from_image="web:1", to_image="web:2")
    messages = [flow_event(1), flow_event(2, reason="Planned", images=[change])]
    (one,) = past_releases([d.source for n, m in enumerate(messages) for d in documents(m, n)])
    assert one.image == "web:1 → web:2"
    assert (one.as_json()["imagesFrom"], one.as_json()["imagesTo"]) == (["web:1"], ["web:2"])


def test_the_releases_are_a_table_oldest_first(settings: Settings, run: Any) -> None:
    stored(settings, *releases())
    header, first, second = run("web", "-n", "shop").output.splitlines()
    assert header.split()[:4] == ["RELEASE", "INSTANCE", "ACTION", "BY"]
    assert first.startswith("web-kvn6b   web")
    assert "80.0 s   Aborted   1/2" in first
    assert first.endswith("next ×2 by deployer, next by release-manager")
    assert second.startswith("web-zzzzz")


def test_a_release_is_found_by_who_requested_anything_of_it(settings: Settings, run: Any) -> None:
    stored(settings, *releases())
    found = json.loads(run("-n", "shop", "--by", "release-manager", "-o", "json").output)
    assert [one["name"] for one in found] == ["web-kvn6b"]
    assert found[0]["commands"] == [
        {"command": "next", "by": "deployer", "byClaimed": False, "via": "", "count": 2},
        {"command": "next", "by": "release-manager", "byClaimed": False, "via": "", "count": 1},
    ]
    assert json.loads(run("-n", "shop", "--by", "nobody", "-o", "json").output) == []


def test_a_name_that_nobody_checked_is_shown_as_claimed(settings: Settings, run: Any) -> None:
    stored(settings, *(message.model_copy(update={"requested_by_claimed": True}) for message in releases()))
    _, first, _ = run("web", "-n", "shop").output.splitlines()
    assert " deployer (claimed) " in first
    assert first.endswith("next ×2 by deployer (claimed), next by release-manager (claimed)")
    (found,) = json.loads(run("-n", "shop", "--by", "release-manager", "-o", "json").output)
    assert (found["requestedBy"], found["requestedByClaimed"]) == ("deployer", True)


def test_an_empty_history_says_so_and_is_no_failure(settings: Settings, run: Any) -> None:
    stored(settings)
    result = run("web", "-n", "shop")
    assert result.exit_code == 0
    assert "has no releases of web in namespace shop" in result.output


def test_the_server_is_queried_for_one_instance(run: Any) -> None:
    result = run("--server", "http://127.0.0.1:1")
    assert "name it" in str(result.exception)
