"""Makes stories: the same seed and number, the same story. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.campaigns.kinds import KINDS
from bench.campaigns.story import (
    AFTER_FAILURE,
    AT_ONCE,
    GOOD,
    NEVER_READY,
    PHASES,
    SICK_LATER,
    Disturbance,
    Release,
    Story,
)
from shared.domain.deployflow import UPDATING, Action
from shared.domain.json_types import Json

RELEASES: Final = (3, 6)
REPLICAS: Final = (1, 5)
EVERYWHERE: Final = 0.12
"""How many of the disturbances, at most, disturb all instances: each costs every one of them a second or more."""
MEETS: Final = 0.8
"""How many of the releases are made so that a disturbance meets the phase that it waits for."""
_RUNNING: Final = {
    Action.UPDATE: 12,
    Action.ROLLBACK: 2,
    Action.RESTART: 4,
    Action.SCALE_OUT: 3,
    Action.SCALE_IN: 3,
    Action.STOP: 1,
    Action.DELETE: 1,
}
_STOPPED: Final = {Action.START: 3, Action.UPDATE: 1, Action.DELETE: 1}
_SERVICES: Final = ("planner", "planner", "executor", "executor", "readiness", "readiness", "events")


def story(seed: int, number: int, kinds: Sequence[str], releases: int | None = None) -> Story:
    """Return a story with disturbances of these kinds; `releases`: how many, drawn where it is not said."""
    # a string as the seed: the same numbers on every machine and in every process
    draw = random.Random(f"{seed}/{number}")
    count = releases or draw.randint(*RELEASES)
    made = [_release(draw, Action.CREATE, kinds)]
    actions = _RUNNING
    while len(made) < count and not _has_last(made[-1]):
        action = draw.choices(list(actions), list(actions.values()))[0]
        made.append(_release(draw, action, kinds))
        match action:
            case Action.DELETE:
                actions = {Action.CREATE: 1}
            case Action.STOP:
                actions = _STOPPED
            case _:
                actions = _RUNNING
    return Story(seed, number, draw.randint(*REPLICAS), tuple(made))


def _has_last(release: Release) -> bool:
    return any(KINDS[disturbance.kind].last for disturbance in release.disturbances)


def _release(draw: random.Random, action: Action, kinds: Sequence[str]) -> Release:
    around = _disturbances(draw, kinds)
    image = GOOD
    may_fail = action in {Action.CREATE, Action.UPDATE}
    fails = any(disturbance.phase == "Failed" for disturbance in around)
    if may_fail and draw.random() < (MEETS if fails else 0.1 if action == Action.CREATE else 0.2):
        image = draw.choice([*NEVER_READY, *NEVER_READY, *SICK_LATER])
    strategy = _strategy(draw, action, image)
    for disturbance in around:
        if draw.random() < MEETS:
            strategy |= _lingering(draw, action, disturbance.phase)
    return Release(
        action,
        change=_change(draw, action),
        image=image,
        strategy=strategy,
        after_failure=draw.choice(AFTER_FAILURE),
        disturbances=around,
    )


def _lingering(draw: random.Random, action: Action, phase: str) -> Json:
    """Return fields with which the release stays in that phase for a while."""
    updating = action in UPDATING
    match phase:
        case "Smoked" if updating:
            return draw.choice([{"canary": 1}, {"stage": "Smoked"}])
        case "Baking":
            return {"canary": 1} if updating and draw.random() < 0.5 else {"bakeSeconds": 2}
        case "Baked":
            return {"pullOutSeconds": 2}
        case "BatchFinished":
            return {"batchSize": 1, **draw.choice([{"mode": "manual"}, {"batchIntervalSeconds": 2}])}
    return {}


def _change(draw: random.Random, action: Action) -> int:
    match action:
        case Action.SCALE_OUT:
            return draw.randint(1, 3)
        case Action.SCALE_IN:
            return -draw.randint(1, 2)
        case Action.UPDATE:
            return draw.choice([0, 0, 0, 0, 1, 2, -1])
    return 0


def _strategy(draw: random.Random, action: Action, image: str) -> Json:
    """Return fields of the strategy; what has its default is left out mostly, so that a story stays short."""
    fields: Json = {"mode": draw.choice(["auto", "auto", "manual"])}
    choices: dict[str, list[Any]] = {
        "batchSize": [None, 1, 1, 2, 2, "50%"],
        "bakeSeconds": [0, 0, 1, 2],
        "pullOutSeconds": [0, 0, 1],
        "batchIntervalSeconds": [0, 0, 0, 1],
        "onFailure": [None, None, None, "cancel", "rollback"],
        "progressDeadlineSeconds": [None, None, 120],
    }
    if action in UPDATING:
        choices["canary"] = [0, 0, 1]
        choices["stage"] = [None] * 7 + ["Smoked"]
    for name, values in choices.items():
        if value := draw.choice(values):
            fields[name] = value
    if image in {"hang", "never-ready"}:
        fields["startupTimeoutSeconds"] = draw.choice([2, 4])
    if image in SICK_LATER:
        fields["pullInTimeoutSeconds"] = draw.choice([2, 4])
    return fields


def _disturbances(draw: random.Random, kinds: Sequence[str]) -> tuple[Disturbance, ...]:
    own = [name for name in kinds if not KINDS[name].everywhere]
    everywhere = [name for name in kinds if KINDS[name].everywhere]
    found = []
    for _ in range(draw.choice([0, 1, 1, 1, 2, 2, 3]) if own else 0):
        found.append(_disturbance(draw, _pick(draw, own)))
        if KINDS[found[-1].kind].last:
            break
    if everywhere and draw.random() < (EVERYWHERE if own else 0.5):
        found.append(_disturbance(draw, _pick(draw, everywhere)))
    return tuple(found)


def _pick(draw: random.Random, names: Sequence[str]) -> str:
    return draw.choices(names, [KINDS[name].weight for name in names])[0]


def _disturbance(draw: random.Random, kind: str) -> Disturbance:
    phase = draw.choice([*PHASES[:-2], AT_ONCE, "Smoking"])
    if kind == "retry" or draw.random() < 0.05:
        phase = "Failed"
    elif draw.random() < 0.05:
        phase = "Ending"
    delay = round(draw.choice([0, 0, draw.uniform(0, 0.5), draw.uniform(0, 2)]), 2)
    arguments = _ARGUMENTS.get(kind)
    return Disturbance(kind, phase, delay, arguments(draw) if arguments else {})


def _seconds(draw: random.Random) -> float:
    return round(draw.uniform(0.3, 3), 1)


def _pod(draw: random.Random) -> Json:
    return {"which": draw.choice(["new", "new", "old", "any"]), "index": draw.randrange(4)}


_EDITS: Final[Sequence[Json]] = (
    {"mode": "auto"},
    {"mode": "manual"},
    {"bakeSeconds": 2},
    {"bakeSeconds": 0},
    {"pullOutSeconds": 1},
    {"batchIntervalSeconds": 1},
    {"onFailure": "pause"},
    {"onFailure": "cancel"},
    {"startupTimeoutSeconds": 30},
    {"progressDeadlineSeconds": 200},
)
_ARGUMENTS: Final[dict[str, Callable[[random.Random], Json]]] = {
    "pause": lambda draw: {"seconds": _seconds(draw)},
    "second-release": lambda draw: {
        "image": draw.choice([GOOD, GOOD, GOOD, "crash"]),
        "change": draw.choice([0, 0, 1, -1]),
        "mode": draw.choice(["auto", "manual"]),
        "batchSize": draw.choice([1, 2, "50%"]),
    },
    "batch-size": lambda draw: {"batchSize": draw.choice([1, 2, 3, "50%", "100%"])},
    "strategy-edit": lambda draw: dict(draw.choice(_EDITS)),
    "scale": lambda draw: {"change": draw.choice([-2, -1, 0, 0, 1, 2])},
    "hpa": lambda draw: {
        "change": draw.choice([-1, 0, 0, 1]),
        "times": draw.randint(2, 5),
        "seconds": round(draw.uniform(0.3, 1), 1),
    },
    "scale-zero": lambda draw: {"seconds": _seconds(draw)},
    "pod-deletion": _pod,
    "eviction": _pod,
    "label-off": _pod,
    "drain": lambda draw: {"index": draw.randrange(5), "seconds": _seconds(draw)},
    "cloneset-labels": lambda draw: {"seconds": _seconds(draw)},
    "cloneset-deletion": lambda draw: {"propagation": draw.choice(["Background", "Foreground"])},
    "quota": lambda draw: {"seconds": _seconds(draw)},
    "policy": lambda draw: {"seconds": _seconds(draw)},
    "webhook": lambda draw: {"seconds": _seconds(draw)},
    "kill": lambda draw: {"service": draw.choice(_SERVICES)},
    "stop": lambda draw: {"service": draw.choice(_SERVICES), "seconds": _seconds(draw)},
    "gone-storm": lambda draw: {"seconds": _seconds(draw)},
    "conflict-storm": lambda draw: {"seconds": _seconds(draw)},
    "busy-storm": lambda draw: {"seconds": _seconds(draw)},
}
