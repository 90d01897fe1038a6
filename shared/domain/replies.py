"""The answers to deploy commands, for the systems that sent them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict

from shared.domain.deployflow import FlowPhase
from shared.domain.messages import Value


class Result(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FINISHED = "finished"


FinalPhase = Literal[FlowPhase.SUCCESS, FlowPhase.FAILED, FlowPhase.CANCELED, FlowPhase.ABORTED]


class DeployCommandReply(Value):
    """An answer that Triton publishes on the topic that a deploy command names as `replyTo`; key: the command's id.

    `accepted` or `refused` at once, and `finished` when the release has finished that a `deploy` or `rollback` made.
    `deployFlow` is the one made or changed, empty where the command was refused. `phase` is how the release ended,
    of `finished` alone. `reason` is one word in CamelCase, `message` is for people; both are empty where there is
    nothing to explain.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"result": {"const": "finished"}}},
            "then": {"required": ["phase"], "properties": {"phase": {"type": "string"}}},
        }
    )

    id: str
    result: Result
    deploy_flow: str
    phase: FinalPhase | None = None
    reason: str
    message: str
