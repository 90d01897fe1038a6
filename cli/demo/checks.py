"""What must be true of the demo's releases, judged on what the API server and the event store say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cli.demo.witness import Seen

Json = dict[str, Any]

ROAD: Final = ("BatchStarted", "BatchSmoking", "BatchSmoked", "BatchBaking", "BatchBaked", "BatchFinished")
"""What the log tells of a batch that goes well, in this order."""
FAILED_ROAD: Final = ("BatchStarted", "BatchSmoking", "BatchSmokeFailed")


class Check(NamedTuple):
    """One statement, whether it holds, and what was seen."""

    what: str
    holds: bool
    seen: str


def equal(what: str, found: object, wanted: object) -> Check:
    return Check(what, found == wanted, f"{found}" if found == wanted else f"{found}, wanted {wanted}")


def batches_in_order(flow: str, documents: Sequence[Json], count: int) -> Check:
    """From the release log: batches 1 to `count` one after another, each through all of its phases."""
    wanted = [(number, reason) for number in range(1, count + 1) for reason in ROAD]
    return _road(f"log of {flow}: {count} batches, phases in order", documents, wanted)


def stopped_at_first_batch(flow: str, documents: Sequence[Json]) -> Check:
    """From the release log: the first batch failed while smoking, and no other one began."""
    wanted = [(1, reason) for reason in FAILED_ROAD]
    return _road(f"log of {flow}: stopped at its first batch", documents, wanted)


def _road(what: str, documents: Sequence[Json], wanted: list[tuple[int, str]]) -> Check:
    told = {*ROAD, *FAILED_ROAD}
    found = [
        (triton["batch"], triton["reason"])
        for triton in (document["triton"] for document in documents)
        if triton.get("batch") and triton.get("reason") in told
    ]
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
    """The ready endpoints, over the whole history, were never fewer than wanted."""
    least = min((len(seen.pods) for seen in history), default=0)
    return Check(
        f"{what}: ready endpoints never under {wanted}",
        least >= wanted,
        f"least {least}, {len(history)} states seen",
    )


def never_in_endpoints(history: Sequence[Seen], images: dict[str, str], image: str) -> Check:
    """No pod of the image was ever a ready endpoint; there must have been such pods, else it proves nothing."""
    pods = {name for name, its in images.items() if its == image}
    guilty = sorted(pods & frozenset[str]().union(*(seen.pods for seen in history)))
    return Check(
        f"no pod of {image} ever in the endpoints",
        bool(pods) and not guilty,
        f"in the endpoints: {', '.join(guilty)}"
        if guilty
        else f"{len(pods)} such pods seen, none in traffic",
    )
