"""Shows what a new release will do, and asks before one that is less careful than the last.

The question comes between two connections (`release_commands.start`): one would wait for its answer, and so would
Ctrl-C.
"""

from __future__ import annotations

from cli.backend import Outlook
from cli.exits import Failure
from cli.output import note
from cli.planning import explain_lost_gates, explain_turn, plan_line
from services.planner.model.batch_plan import TOO_MANY_BATCHES
from shared.domain.deploy_commands import requested_strategy_of
from shared.domain.deployflow import DeployFlowSpec
from shared.releases.history import last_requested


class Unapproved(Exception):
    """A person has to say whether this release is to start."""

    def __init__(self, spec: DeployFlowSpec) -> None:
        super().__init__("not approved")
        self.spec = spec


class Approval:
    """`Approve` of one command: shows each release once, and stops where a person has to be asked about it."""

    def __init__(self, *, ask: bool) -> None:
        self._ask = ask
        self.approved: list[DeployFlowSpec] = []

    def __call__(self, outlook: Outlook) -> None:
        spec, plan, releases, where = outlook
        if spec in self.approved:
            return
        turn, refused = explain_turn(spec, releases), plan.get("refused")
        # what is ahead of it may still change that, and a plan that is too long to be shown is one
        if refused and not turn and refused != TOO_MANY_BATCHES:
            raise Failure(": ".join(filter(None, [where, refused])))
        for text in turn:
            note(text)
        if refused:
            return
        note(plan_line(spec, plan))
        last = last_requested(releases)
        lost = explain_lost_gates(spec, plan, requested_strategy_of(last) if last else None)
        for text in (*plan["warnings"], *lost):
            note(f"warning: {text}")
        if lost and self._ask:
            raise Unapproved(spec)
