"""The demo's checks fail when the release was not what it promises."""

from __future__ import annotations

from pathlib import Path

import yaml

from cli.demo import applications, checks
from cli.demo.checks import EVENTS, FAILED_EVENTS
from cli.demo.witness import Seen
from shared.domain.json_types import Json


def _log(*events: tuple[int, str]) -> list[Json]:
    return [{"triton": {"batch": batch, "reason": reason}} for batch, reason in events]


def test_batches_that_went_their_road_pass() -> None:
    documents = _log(*((batch, reason) for batch in (1, 2) for reason in EVENTS))
    assert checks.batches_in_order("web", documents, 2).holds


def test_a_batch_that_skipped_a_phase_is_named() -> None:
    road = [(1, reason) for reason in EVENTS if reason != "BatchSmoked"]
    check = checks.batches_in_order("web", _log(*road), 1)
    assert not check.holds
    assert check.seen == "event 3 is BatchBaking of batch 1, wanted BatchSmoked of batch 1"


def test_a_batch_that_began_before_the_last_one_was_finished_fails() -> None:
    road = [*((1, reason) for reason in EVENTS[:-1]), (2, "BatchStarted"), (1, "BatchFinished")]
    assert not checks.batches_in_order("web", _log(*road), 2).holds


def test_a_log_that_ends_early_fails() -> None:
    assert not checks.batches_in_order("web", _log((1, "BatchStarted")), 1).holds


def test_a_failing_release_must_stop_at_its_first_batch() -> None:
    failed = [(1, reason) for reason in FAILED_EVENTS]
    assert checks.stopped_at_first_batch("web", _log(*failed)).holds
    assert not checks.stopped_at_first_batch("web", _log(*failed, (2, "BatchStarted"))).holds


def _history(*pods: str) -> list[Seen]:
    return [Seen(float(at), frozenset(names)) for at, names in enumerate(pods)]


def test_one_moment_with_too_few_ready_endpoints_fails() -> None:
    assert checks.never_below("update", _history("ab", "abc", "bc"), 2).holds
    assert not checks.never_below("update", _history("ab", "b", "bc"), 2).holds
    assert not checks.never_below("update", [], 1).holds


def test_a_crashing_pod_in_traffic_is_named() -> None:
    images = {"a": "good", "b": "bad"}
    assert checks.never_in_endpoints(_history("a", "a"), images, "bad").holds
    check = checks.never_in_endpoints(_history("a", "ab", "a"), images, "bad")
    assert not check.holds
    assert check.seen == "in the endpoints: b"


def test_without_a_crashing_pod_the_check_proves_nothing() -> None:
    assert not checks.never_in_endpoints(_history("a"), {"a": "good"}, "bad").holds


def test_the_demos_application_is_the_examples_but_for_the_interval() -> None:
    example = Path(__file__).parents[4] / "examples" / "nginx-deployflow.yaml"
    flow, service = yaml.safe_load_all(example.read_text())
    assert flow["spec"]["updateStrategy"].pop("batchIntervalSeconds") == 10
    shown, shown_service = applications.nginx()
    assert shown["spec"]["updateStrategy"].pop("batchIntervalSeconds") == applications.INTERVAL_SECONDS
    assert (shown, shown_service) == (flow, service)
