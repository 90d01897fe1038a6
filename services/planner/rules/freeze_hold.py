"""Hold back waiting releases while a freeze window is in force. Pure.

Only the beginning of a release with new code (create, update) is held back: a release under way continues, and a
rollback, a restart or a scale begins at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.planner.model.state import Flow, Instance
from shared.domain.deployflow import FREEZE_OVERRIDE
from shared.domain.freeze_windows import HELD_BACK, FreezeWindow, in_force


class Windows(NamedTuple):
    """The freeze windows of a namespace. `unread`: the warning about a part of its annotation that can't be read."""

    windows: tuple[FreezeWindow, ...]
    unread: str


NO_WINDOWS: Final = Windows((), "")


def apply_windows(instance: Instance, windows: Windows, now: int) -> Instance:
    """Return the instance with the freeze windows in force for its waiting releases at `now` (ms since 1970)."""
    waiting = tuple(_apply_to_flow(instance, flow, windows, now) for flow in instance.waiting)
    unchanged = all(new is old for new, old in zip(waiting, instance.waiting, strict=True))
    return instance if unchanged else replace(instance, waiting=waiting)


def _apply_to_flow(instance: Instance, flow: Flow, windows: Windows, now: int) -> Flow:
    if flow.action not in HELD_BACK:
        return flow
    frozen = in_force(windows.windows, instance.namespace, (instance.name, flow.app_name), now)
    warnings = flow.warnings
    if windows.unread and windows.unread not in warnings:
        warnings = (*warnings, windows.unread)
    if frozen == flow.frozen and warnings is flow.warnings:
        return flow
    return replace(flow, frozen=frozen, warnings=warnings)


def find_successor(waiting: Sequence[Flow], flow: Flow) -> Flow | None:
    """Return the newer release that replaces a waiting one; one that is held back replaces only held-back ones."""
    newer = waiting[waiting.index(flow) + 1 :]
    takes = (g for g in reversed(newer) if g.updating and g.outcome is None)
    return next((g for g in takes if flow.held_back or not g.held_back), None)


def record_override(flow: Flow) -> Flow:
    """Return the release as it begins; a freeze window that it overrides stays on record."""
    if flow.frozen is None:
        return flow
    return replace(
        flow, frozen=None, overridden=f"{flow.frozen}, overridden by {flow.overridden_by}: {flow.override}"
    )


def freeze_ends(instance: Instance) -> Iterator[int]:
    """Yield when the freeze windows of waiting releases end (ms since 1970)."""
    return (flow.frozen.until for flow in instance.waiting if flow.frozen is not None)


def explain_freeze(flow: Flow) -> tuple[str, str]:
    return "Frozen", (
        f"held back by {flow.frozen}: it begins automatically then; "
        f"to begin it now, state the reason in its annotation {FREEZE_OVERRIDE}"
    )


def freeze_events(old: Flow | None, new: Flow) -> Iterator[tuple[str, str, str]]:
    """Yield the events about freezes between two states of a release: id, reason and text."""
    if new.held_back and new.frozen is not None and not (old and old.frozen == new.frozen and old.held_back):
        yield f"frozen:{new.frozen.until}", "Frozen", f"held back by {new.frozen}"
    if new.overridden and not (old and old.overridden):
        yield "freeze-overridden", "FreezeOverridden", f"begun in {new.overridden}"
