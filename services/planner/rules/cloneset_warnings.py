"""What OpenKruise could not do: its warning Event about a CloneSet, for the words of a release that waits or failed."""

from __future__ import annotations

from services.planner.model.state import Flow, Instance


def describe_warning(instance: Instance, flow: Flow) -> str:
    """Return `; OpenKruise: FailedCreate: …` since the release's last batch began; empty where there is none."""
    cloneset, batch = instance.cloneset, flow.batch
    if batch is None or not cloneset.warning or cloneset.warned_at < batch.started_at:
        return ""
    return f"; OpenKruise: {cloneset.warning}"
