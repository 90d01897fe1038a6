"""Every action with every way in which a release of it can go: which of them exist, and how many were run whole."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from shared.domain.deployflow import NAMING, SHRINKING, UPDATING, Action

SUCCESS: Final = "success"
SMOKE_FAILURE: Final = "smoke-failure"
BAKE_FAILURE: Final = "bake-failure"
CANCEL_SMOKING: Final = "cancel-Smoking"
CANCEL_SMOKED: Final = "cancel-Smoked"
CANCEL_BAKING: Final = "cancel-Baking"
CANCEL_BAKED: Final = "cancel-Baked"
CANCEL_BETWEEN: Final = "cancel-BatchFinished"

OUTCOMES: Final = (
    SUCCESS,
    SMOKE_FAILURE,
    BAKE_FAILURE,
    CANCEL_SMOKING,
    CANCEL_SMOKED,
    CANCEL_BAKING,
    CANCEL_BAKED,
    CANCEL_BETWEEN,
)
OF_FRESH_PODS: Final = (SMOKE_FAILURE, BAKE_FAILURE, CANCEL_SMOKING, CANCEL_SMOKED, CANCEL_BAKING)
"""What can only happen to pods that a batch made."""
ACTIONS: Final = (
    Action.CREATE,
    Action.UPDATE,
    Action.ROLLBACK,
    Action.RESTART,
    Action.SCALE_OUT,
    Action.SCALE_IN,
    Action.STOP,
    Action.START,
    Action.DELETE,
)
ADDING: Final = (Action.CREATE, Action.SCALE_OUT, Action.START)
"""The actions that only make pods."""
_MAKES_NONE: Final = "it makes no pod: nothing is smoked or baked, its batches begin where others are Baked"
_RETIRES_NONE: Final = (
    "no pod goes: a batch is over as soon as it is Baked, there is no pull-out wait to cancel in"
)


class Cell(NamedTuple):
    """`named`: another release of the same cell, of pods that the release names."""

    action: Action
    outcome: str
    named: bool = False

    def __str__(self) -> str:
        return f"{self.action}-{self.outcome}{'-named' if self.named else ''}"


class Way(NamedTuple):
    """What an action does to an instance: how many pods there are before and after it, one in a batch; `least`: how
    many are Ready at every moment, in whatever it ends.
    """

    before: int
    after: int
    least: int


WAYS: Final = {
    Action.CREATE: Way(0, 2, 0),
    Action.UPDATE: Way(2, 2, 2),
    Action.ROLLBACK: Way(2, 2, 2),
    Action.RESTART: Way(2, 2, 2),
    Action.SCALE_OUT: Way(2, 4, 2),
    Action.SCALE_IN: Way(4, 2, 2),
    Action.STOP: Way(2, 0, 0),
    Action.START: Way(0, 2, 0),
    Action.DELETE: Way(2, 0, 0),
}

REASONS: Final = {
    **{Cell(action, outcome): _MAKES_NONE for action in SHRINKING for outcome in OF_FRESH_PODS},
    **{Cell(action, CANCEL_BAKED): _RETIRES_NONE for action in ADDING},
}
"""Why a cell is empty."""
CELLS: Final = [
    *(cell for action in ACTIONS for outcome in OUTCOMES if (cell := Cell(action, outcome)) not in REASONS),
    *(Cell(action, SUCCESS, named=True) for action in NAMING),
]


def strategy_field(action: Action) -> str:
    return "updateStrategy" if action in UPDATING else "nonUpdateStrategy"


class Tally:
    """The whole releases of a test run that went as they should, and what was measured on the way."""

    def __init__(self) -> None:
        self.whole: Counter[Cell] = Counter()
        self.measured: list[str] = []

    def count(self, action: Action, outcome: str) -> None:
        self.whole[Cell(action, outcome)] += 1

    def lines(self) -> list[str]:
        """The matrix as it is printed; nothing where no release of it was run."""
        if not self.whole:
            return self.measured
        notes = {reason: chr(ord("a") + n) for n, reason in enumerate(dict.fromkeys(REASONS.values()))}
        rows = [["", *(outcome.replace("-", " ", 1) for outcome in OUTCOMES)]]
        for action in ACTIONS:
            row = [str(action)]
            for outcome in OUTCOMES:
                cell = Cell(action, outcome)
                row.append(f"- {notes[REASONS[cell]]}" if cell in REASONS else str(self.whole[cell]))
            rows.append(row)
        widths = [max(len(row[n]) for row in rows) for n in range(len(OUTCOMES) + 1)]
        table = [
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows
        ]
        return [
            *table,
            *(f"  - {letter}: {reason}" for reason, letter in notes.items()),
            f"{sum(self.whole.values())} whole releases, with those that the others began from",
            *self.measured,
        ]


TALLY: Final = Tally()
"""Of this test run."""
