"""Count the pods that OpenKruise has still to remove after a cancel, and decide how long they are awaited. Pure.

A pod that was made again while the cancel was written is not named by it. While it lives, the CloneSet looks like a
mixture of two templates, and a mixture is left paused.
"""

from __future__ import annotations

from typing import Final

from services.planner.model.state import Instance

AWAITED_MS: Final = 60_000
"""A hook of the owner may hold such a pod for ever; the end of a release does not wait for that."""


def count_surplus(instance: Instance) -> int:
    """Return how many pods live beyond the count of the CloneSet."""
    live = sum(not pod.deleting for pod in instance.pods.values())
    return max(live - instance.cloneset.replicas, 0)


def surplus_end(instance: Instance) -> int:
    """Return until when the surplus pods of a cancel that was carried out are awaited; 0 where there are none."""
    if instance.pending is None or not count_surplus(instance):
        return 0
    return instance.pending.sent_at + AWAITED_MS
