"""The checks of the demo's releases, on data of the API server and the event store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cli.demo.witness import Seen
from shared.domain.json_types import Json

EVENTS: Final = ("BatchStarted", "BatchSmoking", "BatchSmoked", "BatchBaking", "BatchBaked", "BatchFinished")
"""The events of a batch that succeeds, in this order."""
FAILED_EVENTS: Final = ("BatchStarted", "BatchSmoking", "BatchSmokeFailed")


class Check(NamedTuple):
    """One statement, whether it holds, and what was observed."""

    what: str
    holds: bool
    seen: str


def equal(what: str, found: object, wanted: object) -> Check:
    return Check(what, found == wanted, f"{found}" if found == wanted else f"{found}, wanted {wanted}")


def batches_in_order(flow: str, documents: Sequence[Json], count: int) -> Check:
    """Check in the release log that batches 1 to `count` ran, each through all phases in their order."""
    wanted = [(number, reason) for number in range(1, count + 1) for reason in EVENTS]
    return _compare(f"log of {flow}: {count} batches, phases in order", documents, wanted)


def stopped_at_first_batch(flow: str, documents: Sequence[Json]) -> Check:
    """Check in the release log that the first batch failed while smoking, and that no other started."""
    wanted = [(1, reason) for reason in FAILED_EVENTS]
    return _compare(f"log of {flow}: stopped at its first batch", documents, wanted)


def _compare(what: str, documents: Sequence[Json], wanted: list[tuple[int, str]]) -> Check:
    counted = {*EVENTS, *FAILED_EVENTS}
    found = [
        (triton["batch"], triton["reason"])
        for triton in (document["triton"] for document in documents)
        if triton.get("batch") and triton.get("reason") in counted
    ]
    # a batch finishes when its old pods are gone: the next one has begun in the write that removes them
    found.sort(key=lambda event: event[0])
    if found == wanted:
        return Check(what, holds=True, seen=f"{len(found)} events")
    at = next(
        (n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
        min(len(found), len(wanted)),
    )
    return Check(what, holds=False, seen=f"event {at + 1} is {_nth(found, at)}, wanted {_nth(wanted, at)}")


def _nth(events: list[tuple[int, str]], at: int) -> str:
    return f"{events[at][1]} of batch {events[at][0]}" if at < len(events) else "none"


def never_below(what: str, history: Sequence[Seen], wanted: int) -> Check:
    """Check that there were never fewer ready endpoints than wanted."""
    least = min((len(seen.pods) for seen in history), default=0)
    return Check(
        f"{what}: ready endpoints never below {wanted}",
        least >= wanted,
        f"least {least}, {len(history)} states seen",
    )


def never_in_endpoints(history: Sequence[Seen], images: dict[str, str], image: str) -> Check:
    """Check that no pod of the image was ever a ready endpoint; without such pods the check fails."""
    pods = {name for name, its in images.items() if its == image}
    guilty = sorted(pods & frozenset[str]().union(*(seen.pods for seen in history)))
    return Check(
        f"no pod of {image} ever in the endpoints",
        bool(pods) and not guilty,
        f"in the endpoints: {', '.join(guilty)}"
        if guilty
        else f"{len(pods)} such pods seen, none in traffic",
    )
