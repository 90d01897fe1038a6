"""Which events of a release `kubectl describe` shows, and how."""

from __future__ import annotations

import re

from services.planner.views.kubernetes_events import LONGEST_MESSAGE, SHOWN, Weight, event_of
from shared.domain.deployflow import BatchPhase, FlowPhase
from shared.domain.messages import FlowEvent, FlowRef
from tests.docs.blocks import ROOT

LEFT_OUT = {
    # what `kubectl get` shows, and what is followed by another event at once
    *("Received", "BatchStarted", "Pending", "Initializing"),
    *(f"Batch{phase}" for phase in BatchPhase if "Failed" not in phase),
}


def flow_event(reason: str = "Success", key: str = "phase:Success", message: str = "it ended") -> FlowEvent:
    return FlowEvent(
        namespace="shop",
        instance="web",
        id=f"uid-1:{key}",
        at=1_763_720_000_999,
        flow=FlowRef(name="web-2", uid="uid-1"),
        app_id=1,
        group_id=2,
        app_name="web",
        action="update",
        reason=reason,
        message=message,
        phase=FlowPhase.SUCCESS,
    )


def test_an_event_is_about_its_deployflow_and_has_a_name_of_its_own() -> None:
    body = event_of(flow_event(), SHOWN["Success"])
    assert body["involvedObject"] == {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "namespace": "shop",
        "name": "web-2",
        "uid": "uid-1",
    }
    assert (body["type"], body["reason"], body["message"]) == ("Normal", "Deployed", "it ended")
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2025-11-21T10:13:20Z"
    assert body["metadata"] == event_of(flow_event(), SHOWN["Success"])["metadata"]
    assert body["metadata"] != event_of(flow_event(key="phase:Failed"), SHOWN["Failed"])["metadata"]


def test_names_and_texts_are_within_the_limits_of_kubernetes() -> None:
    event = flow_event(message="x" * 5000)
    long = event.model_copy(update={"flow": FlowRef(name=f"{'a' * 235}.{'b' * 17}", uid="uid-1")})
    body = event_of(long, SHOWN["Success"])
    assert len(body["message"]) <= LONGEST_MESSAGE
    assert len(body["metadata"]["name"]) <= 253
    assert re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", body["metadata"]["name"]
    )


def test_what_the_original_wrote_is_written_as_it_wrote_it() -> None:
    assert SHOWN["Success"].reason == "Deployed"
    for reason in ("BatchSmokeFailed", "BatchBakeFailed", "BatchFailed"):
        assert (SHOWN[reason].reason, SHOWN[reason].warning) == ("Unhealthy", True)


def test_each_event_of_a_release_is_shown_or_left_out() -> None:
    source = "".join(
        path.read_text()
        for path in (
            ROOT / "services/planner/views/flow_events.py",
            ROOT / "services/planner/rules/freeze_hold.py",
        )
    )
    named = set(re.findall(r'"([A-Z][a-z]+(?:[A-Z][a-z]+)*)"', source)) - {"Batch"}
    phases = {str(phase) for phase in FlowPhase} | {f"Batch{phase}" for phase in BatchPhase}
    assert named | phases == SHOWN.keys() | LEFT_OUT


def test_the_end_of_a_release_is_always_written() -> None:
    ends = {str(phase) for phase in FlowPhase if phase.finished}
    assert {reason for reason, shown in SHOWN.items() if shown.weight == Weight.END} == ends
