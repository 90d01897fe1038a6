"""What each command does in each phase of a release, found by running the planner's own decisions.

`python -m tests.docs.commands_and_phases` writes the tables into `docs/commands-and-phases.md`; a test holds
the document to them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from services.planner.model.state import Flow
from shared.domain.deploy_commands import CommandType, DeployCommand, Refusal, Target, change
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from tests.simulation.cluster import NAMESPACE
from tests.simulation.world import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands-and-phases.md"
BEGIN, END = "<!-- made by tests/docs/commands_and_phases.py -->", "<!-- end -->"

RELEASE = "new"
REPLICAS, ADDED = 10, 5
SIZE, OTHER_SIZE = 2, 3
FINISH_SECONDS = 5_000


class State(NamedTuple):
    """A point that a release can be at. `phase` is the flow's, `batch` the phase of its last batch."""

    title: str
    phase: FlowPhase
    batch: str
    build: Callable[[], World]


def _begun(**strategy: Any) -> World:
    world = World(REPLICAS)
    world.apply(RELEASE, {"mode": "auto", "batchSize": SIZE, **strategy})
    return world


def _queued() -> World:
    world = World(REPLICAS)
    world.apply("first", {"mode": "auto", "batchSize": SIZE, "canary": 1})
    world.apply(RELEASE, {"mode": "auto", "batchSize": SIZE}, replicas=REPLICAS)
    return world


def _held(switch: str, **strategy: Any) -> World:
    """Start a release and hold back one thing of the world: a switch of it, or the answers to a command."""
    world = World(REPLICAS)
    if hasattr(world, switch):
        setattr(world, switch, False)
    else:
        world.silent.add(switch)
    world.apply(RELEASE, {"mode": "auto", "batchSize": SIZE, **strategy})
    return world


def _paused() -> World:
    world = _held("containers_start")
    world.change(RELEASE, {"paused": True})
    return world


def _failed(switch: str) -> World:
    world = _held(switch)
    world.fail()
    return world


def _ending() -> World:
    world = _held("containers_start")
    world.silent.add("cancel")
    world.change(RELEASE, {"canceled": True})
    return world


STATES = (
    State("waits for another release", FlowPhase.PENDING, "", _queued),
    State("reads the current pods", FlowPhase.INITIALIZING, "", lambda: _held("observe")),
    State("containers start", FlowPhase.BATCH_STARTED, "Smoking", lambda: _held("containers_start")),
    State("canary waits for `next`", FlowPhase.BATCH_STARTED, "Smoked", lambda: _begun(canary=1)),
    State("gates are being opened", FlowPhase.BATCH_STARTED, "Baking", lambda: _held("gates_move")),
    State(
        "canary waits for `next`",
        FlowPhase.BATCH_STARTED,
        "Baking",
        lambda: _begun(canary=1, batches=1, stage="Baking"),
    ),
    State("pull-out wait", FlowPhase.BATCH_STARTED, "Baked", lambda: _begun(pullOutSeconds=60)),
    State(
        "old pods are being deleted", FlowPhase.BATCH_STARTED, "Baked", lambda: _held("retire", mode="manual")
    ),
    State("waits for `next`", FlowPhase.BATCH_FINISHED, "Baked", lambda: _begun(mode="manual")),
    State("batch interval", FlowPhase.BATCH_FINISHED, "Baked", lambda: _begun(batchIntervalSeconds=600)),
    State("paused by a person", FlowPhase.BATCH_STARTED, "Smoking", _paused),
    State("failed", FlowPhase.BATCH_STARTED, "SmokeFailed", lambda: _failed("containers_start")),
    State("failed", FlowPhase.BATCH_STARTED, "BakeFailed", lambda: _failed("gates_move")),
    State("being canceled", FlowPhase.BATCH_STARTED, "Smoking", _ending),
    State("finished", FlowPhase.SUCCESS, "Baked", _begun),
)


def _command(kind: CommandType, **fields: Any) -> Callable[[State], str]:
    def cell(state: State) -> str:
        world = state.build()
        command = DeployCommand(id="1", type=kind, namespace=NAMESPACE, deploy_flow=RELEASE, **fields)
        try:
            changed = change(world.seen(RELEASE), command)
        except Refusal as refusal:
            return f"refused: {refusal.reason}"
        strategy = world.spec(RELEASE).strategy.model_dump(by_alias=True, mode="json")
        if changed is None or changed.items() <= strategy.items():
            return "no effect"
        return _effect(world, lambda: world.change(RELEASE, changed))

    return cell


def _effect(world: World, act: Callable[[], None]) -> str:
    """Return the immediate effect: the commands sent, and the phases that change."""
    # nothing answers, so that what is seen is this command's own doing
    world.gates_move = False
    world.silent = {"observe", "surge", "retire", "halt", "cancel", "finish"}
    issued, before = len(world.commands), world.flow(RELEASE)
    act()
    after = world.flow(RELEASE)
    effects = [f"`{command.model_dump()['type']}`" for command in world.commands[issued:]]
    if after.batch and (
        not before.batch
        or after.batch.phase != before.batch.phase
        or after.batch.number != before.batch.number
    ):
        effects.append(f"batch {after.batch.number} {after.batch.phase}")
    if after.phase.finished and not before.phase.finished:
        effects.append(after.phase)
    elif "`cancel`" in effects:
        world.catch_up()
        effects.append(f"{world.flow(RELEASE).phase}")
    if not effects:
        raised = (after.strategy.batches, after.strategy.mode) != (
            before.strategy.batches,
            before.strategy.mode,
        )
        return "noted" if raised else "done"
    return f"done: {', '.join(effects)}"


def _new_release(state: State, **kind: Any) -> str:
    world = state.build()
    world.apply("newer", {"mode": "auto", "batchSize": SIZE}, **kind)
    if state.phase.finished:
        return "starts"
    begins = world.flow("newer").phase != FlowPhase.PENDING
    if world.flow(RELEASE).phase == FlowPhase.ABORTED:
        return f"{'takes over' if begins else 'replaces it'}: this one becomes Aborted"
    if begins:
        raise AssertionError(f"{state}: two releases at once")
    return "waits until this one is finished"


def _batch_size(state: State) -> str:
    world = state.build()
    begun = len(world.flow(RELEASE).batches)
    if state.phase.finished:
        return "no effect"
    world.change(RELEASE, {"batchSize": OTHER_SIZE})
    flow = _retried(world)
    later = [batch.size for batch in flow.batches[begun:]]
    if OTHER_SIZE not in later:
        return "no effect"
    return "done: from the next batch on" if begun else "done: from the first batch on"


def _scaled(state: State) -> str:
    world = state.build()
    stopped = world.flow(RELEASE).failed or state.title == "being canceled"
    written = world.facts.replicas + ADDED
    world.scale(ADDED)
    flow = _retried(world)
    if flow.phase == FlowPhase.CANCELED and not stopped:
        return f"undone, and the batch fails: {flow.batches[-1].reason}"
    if world.facts.replicas == written:
        return "kept" if state.phase.finished else "kept: the release adopts the count"
    if world.facts.replicas == REPLICAS:
        return "undone: the count of the spec is restored"
    raise AssertionError(f"{state}: {world.facts.replicas} replicas, {flow.phase}")


def _retried(world: World) -> Flow:
    """Run the release to its end; retry a batch that has failed."""
    world.catch_up()
    if world.flow(RELEASE).failed:
        world.steer(RELEASE, CommandType.RETRY)
    return _finish(world)


def _roll_back(state: State) -> str:
    return _new_release(state, action="rollback", revision="old")


def _pod_deleted(state: State) -> str:
    """Delete a pod of the release, or an older one where the release has created none."""
    world = state.build()
    was = world.flow(RELEASE)
    live = [pod for pod in world.pods if pod.revision == RELEASE] or world.pods
    world.vanish(live[-1])
    flow = _finish(world)
    served = world.cluster.serving()
    assert served == REPLICAS, (state, flow.phase, served)
    if state.phase.finished:
        return "a new pod replaces it, with traffic"
    if flow.phase == FlowPhase.SUCCESS:
        return "a new pod replaces it, and the release continues"
    assert flow.phase == FlowPhase.CANCELED, (state, flow.phase, flow.reason)
    return "the batch stays failed" if was.failed else "the cancel continues"


def _cloneset_deleted(state: State) -> str:
    world = state.build()
    world.delete_cloneset()
    at_once = world.flow(RELEASE).phase
    flow = _finish(world)
    if state.phase.finished:
        return "no effect"
    when = "at once" if at_once.finished else "after the answer to its command"
    return f"{flow.phase} {when}: {flow.reason}"


def _deleted(state: State) -> str:
    if state.phase.finished:
        return "done: deleted"
    world = state.build()
    world.delete(RELEASE)
    phase = _finish(world).phase
    return f"done: {phase}, then deleted"


def _finish(world: World) -> Flow:
    """Let the release go on for as long as something moves it; a failed one stays, and is canceled."""
    world.catch_up()
    for _ in range(FINISH_SECONDS):
        flow = world.flow(RELEASE)
        if flow.phase.finished:
            return flow
        for name in world.flows:
            other = world.flow(name)
            wanted: Json = (
                {"canceled": True} if other.failed else {"batches": 99, "stage": None, "paused": False}
            )
            if not other.phase.finished and wanted.items() - world.spec_fields(name).items():
                world.change(name, wanted)
        world.wait(1000)
    raise AssertionError(f"does not end: {world.flow(RELEASE)}")


COMMANDS: dict[str, Callable[[State], str]] = {
    "next": _command(CommandType.NEXT),
    "continue to batch 3": _command(CommandType.CONTINUE, target=Target(batches=3)),
    "pause": _command(CommandType.PAUSE),
    "resume": _command(CommandType.RESUME),
    "cancel": _command(CommandType.CANCEL),
    "promote": _command(CommandType.PROMOTE),
    "retry": _command(CommandType.RETRY),
    "rollback": _roll_back,
    "a new release of the instance": _new_release,
    "another batch size": _batch_size,
    "replicas changed by somebody else": _scaled,
    "a pod of the batch deleted": _pod_deleted,
    "the CloneSet deleted": _cloneset_deleted,
    "the DeployFlow deleted": _deleted,
}


def tables() -> str:
    """Return a table for each command, with a row for each phase."""
    parts = []
    for name, cell in COMMANDS.items():
        rows = [
            f"| {state.phase} | {state.batch or '-'} | {state.title} | {cell(state)} |" for state in STATES
        ]
        head = ["| flow phase | batch phase | state | what happens |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"### {name}", "", *head, *rows]))
    return "\n\n".join(parts)


def main() -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}")


if __name__ == "__main__":
    main()
