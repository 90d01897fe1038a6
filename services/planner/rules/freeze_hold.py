"""Releases that freeze windows hold back until they end. Pure.

Held back is what brings new code (create, update), and only its beginning: what is under way goes on, and a
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
    """Of a namespace. `unread`: what its annotation says that can't be read, and holds nothing back."""

    windows: tuple[FreezeWindow, ...]
    unread: str


NO_WINDOWS: Final = Windows((), "")


def apply_windows(instance: Instance, windows: Windows, now: int) -> Instance:
    """The instance with what holds its waiting releases back at `now` (ms since 1970)."""
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
    """The newer release that takes the place of one that waits: held back, it leaves those alone that are not."""
    newer = waiting[waiting.index(flow) + 1 :]
    takes = (g for g in reversed(newer) if g.updating and g.outcome is None)
    return next((g for g in takes if flow.held_back or not g.held_back), None)


def record_override(flow: Flow) -> Flow:
    """The release as it begins; a window that it begins in stays on record."""
    if flow.frozen is None:
        return flow
    return replace(
        flow, frozen=None, overridden=f"{flow.frozen}, overridden by {flow.overridden_by}: {flow.override}"
    )


def freeze_ends(instance: Instance) -> Iterator[int]:
    """When to look again at what is held back (ms)."""
    return (flow.frozen.until for flow in instance.waiting if flow.frozen is not None)


def explain_freeze(flow: Flow) -> tuple[str, str]:
    return "Frozen", (
        f"held back by {flow.frozen}: it begins by itself then; "
        f"to let it begin now, say why in its annotation {FREEZE_OVERRIDE}"
    )


def freeze_events(old: Flow | None, new: Flow) -> Iterator[tuple[str, str, str]]:
    """What there is to tell of it, each as id, reason and text."""
    if new.held_back and new.frozen is not None and not (old and old.frozen == new.frozen and old.held_back):
        yield f"frozen:{new.frozen.until}", "Frozen", f"held back by {new.frozen}"
    if new.overridden and not (old and old.overridden):
        yield "freeze-overridden", "FreezeOverridden", f"begun in {new.overridden}"
