"""The batch plan: how many batches a release has, and how many pods each makes and removes.

Pure arithmetic on counts, used to show the plan before anything starts and, batch by batch, to carry it out.
With T pods on the target revision and O others, a batch makes b pods and then removes v others, where v
brings the total to the wanted count.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.domain.deployflow import (
    Action,
    BatchPhase,
    DeployFlowSpec,
    Mode,
    NonUpdateStrategy,
    UpdateStrategy,
    count_of,
)

MAX_BATCHES: Final = 10_000
"""The limit of a plan that is shown."""
TOO_MANY_BATCHES: Final = f"more than {MAX_BATCHES} batches: make them larger"
OVER_EXISTING: Final = "25%"
"""The batches of a create that changes an existing instance, where its batch size covers all pods."""


class Current(NamedTuple):
    """The instance before the release.

    `updated`: pods that already have the target template. `stopped`: the replicas before a stop; 0 without one.
    """

    exists: bool
    replicas: int
    updated: int
    stopped: int = 0


class PlannedBatch(NamedTuple):
    """`gates`: where it waits for a person: `Start`, `Smoked`, `Baking`."""

    number: int
    surge: int
    retire: int
    canary: bool
    gates: tuple[str, ...]


class Plan(NamedTuple):
    """`wanted`: the replicas that it leads to."""

    batches: tuple[PlannedBatch, ...]
    to_process: int
    warnings: tuple[str, ...]
    wanted: int


class Counts(NamedTuple):
    """Pods by what they are for the release: on the target revision, and all others."""

    updated: int
    others: int


class Goal(NamedTuple):
    """The aim of an action other than create, update and rollback. `leaving`: how many pods are removed or replaced."""

    wanted: int
    leaving: int


def find_goal(action: str, replicas: int, current: Current, named: int) -> Goal | str:
    """Return the goal of an action on an existing instance, or the message why it is not possible.

    `replicas`: those of the spec; `named`: the number of pods that the spec names.
    """
    now = current.replicas
    match action:
        case Action.RESTART:
            return Goal(now, named or now)
        case Action.STOP | Action.DELETE:
            return Goal(0, 0)
        case Action.START:
            return Goal(max(now, current.stopped or replicas), 0)
        case Action.SCALE_OUT if replicas < now:
            return f"scale_out to {replicas}, but there are {now}: use scale_in"
        case Action.SCALE_IN if replicas > now:
            return f"scale_in to {replicas}, but there are {now}: use scale_out"
        case Action.SCALE_IN if named > now - replicas:
            return (
                f"podsToDelete names {_pods_text(named)}, but from {now} to {replicas} only {now - replicas} go: "
                f"make replicas {now - named}, or name fewer"
            )
    return Goal(replicas, named)


def _pods_text(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def percent_base(wanted: int, to_process: int, counts: Counts) -> int:
    """Return 100 % of a batch size in percent: the wanted pods or, where pods are only removed, all pods."""
    return wanted + to_process if counts.updated >= wanted else wanted


def size_batches(
    action: str, requested: int | str | None, wanted: int, to_process: int, counts: Counts
) -> int:
    """Return the size of a batch as the strategy requests it.

    A create that changes the pods of an existing instance never changes all of them at once.
    """
    base = percent_base(wanted, to_process, counts)
    size = count_of(requested, base)
    if action == Action.CREATE and counts.others and size >= base:
        return count_of(OVER_EXISTING, base)
    return size


def count_remaining(wanted: int, counts: Counts) -> int:
    """Return how many pods are still to be made or, when all are on the target revision, removed."""
    if counts.updated < wanted:
        return wanted - counts.updated
    return max(counts.updated + counts.others - wanted, 0)


def size_next_batch(wanted: int, counts: Counts, size: int) -> tuple[int, int]:
    """Return (surge, retire) of a batch of at most `size` pods; (0, 0) when nothing is left to do."""
    count = min(size, count_remaining(wanted, counts))
    if counts.updated < wanted:
        return count, count_retired(wanted, counts, count)
    return 0, count


def count_retired(wanted: int, counts: Counts, surge: int) -> int:
    """Return how many other pods are removed once `surge` new pods serve, so that the total is the wanted count."""
    return min(max(counts.updated + counts.others + surge - wanted, 0), counts.others)


def counts_after(counts: Counts, surge: int, retire: int) -> Counts:
    """Return the counts after a batch; removals beyond the other pods are taken from the updated ones."""
    others = max(counts.others - retire, 0)
    return Counts(counts.updated + surge - (retire - (counts.others - others)), others)


def count_batches(to_process: int, canary: int, size: int) -> int:
    """Return ceil((to process - first) / batch size) + 1; 0 when there is nothing to process."""
    if to_process <= 0:
        return 0
    first = canary or min(size, to_process)
    return -(-(to_process - first) // size) + 1


def size_canary(requested: int, to_make: int, size: int) -> int:
    """Return the size of the canary, or 0 for none: where no pods are made, nothing waits for traffic.

    A canary that covers all `to_make` pods has the batch size instead, and keeps its gates.
    """
    if not requested or to_make <= 0:
        return 0
    return requested if requested < to_make else min(size, to_make)


def plan_release(spec: DeployFlowSpec, current: Current) -> Plan:
    """Return the whole plan of a release that starts from `current`; raises `ValueError` where it is not possible."""
    strategy = spec.strategy
    wanted = spec.application.replicas
    counts = Counts(current.updated, current.replicas - current.updated)
    if not spec.updating:
        named = strategy.pods_to_delete or [] if isinstance(strategy, NonUpdateStrategy) else []
        aim = find_goal(spec.action, wanted, current, len(named))
        if isinstance(aim, str):
            raise ValueError(aim)
        wanted = aim.wanted
        counts = Counts(current.replicas - aim.leaving, aim.leaving)
    to_process = count_remaining(wanted, counts)
    size = size_batches(spec.action, strategy.batch_size, wanted, to_process, counts)
    requested = strategy.canary if isinstance(strategy, UpdateStrategy) else 0
    canary = size_canary(requested, wanted - counts.updated, size)
    batches: list[PlannedBatch] = []
    while count_remaining(wanted, counts):
        number = len(batches) + 1
        if number > MAX_BATCHES:
            raise ValueError(TOO_MANY_BATCHES)
        is_canary = bool(canary) and number == 1
        surge, retire = size_next_batch(wanted, counts, canary if is_canary else size)
        gates = _gates_of(number, strategy, has_canary=bool(canary))
        batches.append(PlannedBatch(number, surge, retire, is_canary, gates))
        counts = counts_after(counts, surge, retire)
    return Plan(tuple(batches), to_process, (), wanted)


def _gates_of(
    number: int, strategy: UpdateStrategy | NonUpdateStrategy, *, has_canary: bool
) -> tuple[str, ...]:
    stage = strategy.stage if isinstance(strategy, UpdateStrategy) else None
    held = stage if number == strategy.batches else None
    if (has_canary and number == 1) or held == BatchPhase.SMOKED:
        return (str(BatchPhase.SMOKED), str(BatchPhase.BAKING))
    if held == BatchPhase.BAKING:
        return (str(BatchPhase.BAKING),)
    beyond = stage is not None and number > strategy.batches
    if (has_canary and number == 2) or (strategy.mode == Mode.MANUAL and number > 1) or beyond:
        return ("Start",)
    return ()
