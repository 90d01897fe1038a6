"""Request what follows a finished release: the rollback of one that failed under `onFailure: rollback`."""

from __future__ import annotations

from services.planner.model.state import Flow, Instance
from shared.domain.deploy_commands import CommandType, DeployCommand
from shared.domain.deployflow import Action, FlowPhase, OnFailure


def request_rollbacks(before: Instance, now_is: Instance) -> list[DeployCommand]:
    """Return a rollback for each release that failed since `before` and left pods serving; its id is always the same."""
    ended = {flow.uid for flow in before.finished}
    return [
        DeployCommand(
            id=f"{flow.uid}-rollback",
            type=CommandType.ROLLBACK,
            namespace=now_is.namespace,
            instance_name=now_is.name,
            requested_by=f"onFailure of {flow.name}",
        )
        for flow in now_is.finished
        if flow.uid not in ended and _needs_rollback(flow)
    ]


def _needs_rollback(flow: Flow) -> bool:
    # a create has no release before it, and pods that no batch has baked are removed by the cancel
    baked = any(batch.baked for batch in flow.batches)
    wanted = flow.strategy.on_failure == OnFailure.ROLLBACK
    return (
        wanted and flow.failed and flow.phase == FlowPhase.FAILED and baked and flow.action != Action.CREATE
    )
