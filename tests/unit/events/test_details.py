"""What the log has of a pod in trouble beside its state."""

from __future__ import annotations

from services.events.documents import documents
from shared.deployflow import PodPhase
from shared.event_store import Stream
from shared.event_store.fitting import misfit
from shared.event_store.templates import fields
from tests.unit.events.samples import START, pod, pods_seen

CRASHED = pod(
    phase=PodPhase.FAILED,
    reason="CrashLoopBackOff",
    message="container main: back-off (exit code 1)",
    event="BackOff: Back-off restarting failed container main",
    log="starting\npanic: no database",
    since=START + 500,
)


def test_what_becomes_known_later_is_a_document_of_its_own_and_leaves_the_first_one_as_it_is() -> None:
    bare = CRASHED.model_copy(update={"event": "", "log": ""})
    (first,) = documents(pods_seen(bare), 1)
    again, details = documents(pods_seen(CRASHED, at=START + 2000), 2)
    assert again.id == first.id != details.id
    assert details.source["event"]["action"] == "pod-details"
    assert details.source["message"].endswith(
        "restarting failed container main\nstarting\npanic: no database"
    )
    assert details.source["triton"]["warning"] == "BackOff: Back-off restarting failed container main"
    assert details.source["triton"]["log"] == "starting\npanic: no database"
    assert details.source["triton"]["since"] == "2025-11-21T10:13:20.500Z"


def test_the_same_details_are_one_document_however_often_and_of_whatever_state_they_are_told() -> None:
    _, one = documents(pods_seen(CRASHED), 1)
    _, other = documents(pods_seen(CRASHED.model_copy(update={"restarts": 9, "at": START + 9999})), 2)
    _, news = documents(pods_seen(CRASHED.model_copy(update={"log": "panic: no disk"})), 3)
    assert one.id == other.id != news.id


def test_every_field_of_such_a_document_can_be_searched_and_is_taken() -> None:
    _, document = documents(pods_seen(CRASHED), 1)
    assert misfit(document) == ""
    known = fields(Stream.POD)
    assert {f"triton.{name}" for name in document.source["triton"]} <= known.keys()
