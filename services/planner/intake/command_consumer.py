"""Commands from other systems: each becomes one change of a DeployFlow, or a refusal that names the field.

A command that can't be carried out goes to the dead letters with the reason; a reply is sent where one is
wanted. The instance's partition does not matter here: the change goes through the API server.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import Counter
from pydantic import ValidationError

from services.planner.intake.flow_mutations import FlowMutations
from services.planner.runtime.command_replies import send
from shared.clock import now_milliseconds
from shared.domain.deploy_commands import CommandSender, DeployCommand, Refusal, sender_of
from shared.domain.deployflow import problems
from shared.domain.managed_namespaces import NOT_LOOKED_AFTER, explain_border, manages
from shared.domain.object_bounds import TOO_DEEP
from shared.domain.record import Record
from shared.domain.replies import DeployCommandReply, Result
from shared.domain.reply_topics import REPLY_TO_REFUSED
from shared.domain.requesters import Origin, Via
from shared.errors import Poison
from shared.kube.client import ApiError
from shared.messaging.kafka import LARGEST_MESSAGE, Kafka
from shared.observability import tracing

INVALID: Final = "InvalidCommand"
_commands = Counter("triton_deploy_commands_total", "Commands from other systems", ["type", "result"])
_log = logging.getLogger(__name__)


class CommandConsumer:
    """Handles `triton.deploy-commands`."""

    def __init__(self, changes: FlowMutations, kafka: Kafka) -> None:
        self._changes = changes
        self._kafka = kafka

    async def handle(self, key: str, records: list[Record]) -> None:  # noqa: ARG002
        for record in records:
            began = now_milliseconds()
            command = await self._read(record)
            try:
                self._check_border(command)
                # the broker does not say who sent it
                flow = await self._changes.carry_out(command, origin=Origin(Via.KAFKA, claimed=True))
            except (Refusal, ApiError) as error:
                if isinstance(error, ApiError) and error.rights_missing:
                    raise error.waited_for("planner") from error
                _commands.labels(command.type, "refused").inc()
                tracing.export(*_spans(command, record, began, error=f"{error.reason}: {error}"))
                await self._reply(command, "refused", "", error.reason, str(error))
                raise Poison(error.reason, str(error)) from error
            _commands.labels(command.type, "accepted").inc()
            meta = flow["metadata"]
            tracing.export(*_spans(command, record, began, name=meta["name"], uid=meta["uid"]))
            await self._reply(command, "accepted", meta["name"], "", "")

    def _check_border(self, command: DeployCommand) -> None:
        """Raise `Refusal` for a namespace in which nobody would act, and for an answer to where Triton sends none."""
        settings = self._kafka.settings
        if not manages(settings.namespaces, command.namespace):
            raise Refusal(
                NOT_LOOKED_AFTER, f"namespace: {explain_border(settings.namespaces, command.namespace)}"
            )
        if command.reply_to and (why := settings.refuse_reply(command.reply_to)):
            raise Refusal(REPLY_TO_REFUSED, f"replyTo: {why}")

    async def _read(self, record: Record) -> DeployCommand:
        """Return the command in a record. An invalid one is answered where it can be; raises `Poison`."""
        body = _body(record)
        try:
            return DeployCommand.model_validate(body)
        except ValidationError as error:
            text = problems(error)
            if sender := sender_of(body):
                await self._reply(sender, "refused", "", INVALID, text)
            raise Poison(INVALID, text) from error

    async def _reply(
        self, command: DeployCommand | CommandSender, result: str, name: str, reason: str, message: str
    ) -> None:
        kind = command.type if isinstance(command, DeployCommand) else "command"
        _log.info("%s %s: %s %s", kind, command.id, result, message, extra={"triton.deployflow": name})
        if not command.reply_to:
            return
        reply = DeployCommandReply(
            id=command.id, result=Result(result), deploy_flow=name, reason=reason, message=message
        )
        await send(self._kafka, command.reply_to, reply)


def _body(record: Record) -> Any:
    """Return the JSON in a record; raise `Poison` where there is none."""
    if len(record.value) > LARGEST_MESSAGE:
        text = f"the message has {len(record.value)} bytes; a command has at most {LARGEST_MESSAGE}"
        raise Poison("TooLarge", text)
    try:
        body = json.loads(record.value)
    except RecursionError as error:
        raise Poison("InvalidJSON", f"the value is not JSON that Triton reads: {TOO_DEEP}") from error
    except ValueError as error:
        raise Poison("InvalidJSON", f"the value is not JSON: {error}") from error
    if isinstance(body, dict) and "id" not in body and "ce_id" in record.headers:
        body["id"] = record.headers["ce_id"]
    return body


def _spans(
    command: DeployCommand, record: Record, began: int, *, name: str = "", uid: str = "", error: str = ""
) -> Iterator[tracing.Span]:
    """Yield one in the release's trace and, where the sender traces too, one in its own, each with a link to the other."""
    sender = tracing.read(record.headers.get(tracing.TRACEPARENT, ""))
    release = tracing.release(uid) if uid else None
    for parent, other in ((release, sender), (sender, release)):
        if parent is not None:
            yield tracing.Span(
                f"{command.type} command",
                tracing.Place(parent.trace, tracing.hashed(8, parent.trace, "intake", command.id)),
                parent,
                began,
                now_milliseconds(),
                tracing.about(command.namespace, command.instance_name or "", name, uid)
                | {"triton.request": command.id, "user.name": command.requested_by},
                record,
                error=error,
                link=other,
            )
