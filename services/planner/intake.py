"""Commands from other systems: each becomes one change of a DeployFlow, or a refusal that names the field.

A command that can't be carried out goes to the dead letters with the reason; a reply is sent where one is
wanted. The instance's partition does not matter here: the change goes through the API server.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from prometheus_client import Counter
from pydantic import ValidationError

from services.planner.flows import FlowCache
from services.planner.replies import send
from shared import deployflow as df
from shared.commands import (
    CommandType,
    DeployCommand,
    Refusal,
    change,
    deployflow_name,
    manifest,
    patch,
    requests_of,
)
from shared.errors import Poison, Unavailable
from shared.history import replicas_now, rollback, rollback_to
from shared.kafka import LARGEST_MESSAGE, Kafka
from shared.kubernetes import CLONESETS, DEPLOYFLOWS, ApiError, Client
from shared.lanes import Record
from shared.replies import DeployCommandReply, Result

CONFLICTS: Final = 10
_commands = Counter("triton_deploy_commands_total", "Commands from other systems", ["type", "result"])
_log = logging.getLogger(__name__)
Json = dict[str, Any]


class Intake:
    """Handles `triton.deploy-commands`."""

    def __init__(self, client: Client, kafka: Kafka, flows: FlowCache) -> None:
        self._client = client
        self._kafka = kafka
        self._flows = flows

    async def handle(self, key: str, records: list[Record]) -> None:  # noqa: ARG002
        for record in records:
            command = _read(record)
            try:
                name = await self._carry_out(command)
            except (Refusal, ApiError) as error:
                if isinstance(error, ApiError) and error.rights_missing:
                    raise error.waited_for("planner") from error
                _commands.labels(command.type, "refused").inc()
                await self._reply(command, "refused", "", error.reason, str(error))
                raise Poison(error.reason, str(error)) from error
            _commands.labels(command.type, "accepted").inc()
            await self._reply(command, "accepted", name, "", "")

    async def _reply(self, command: DeployCommand, result: str, name: str, reason: str, message: str) -> None:
        _log.info(
            "%s %s: %s %s", command.type, command.id, result, message, extra={"triton.deployflow": name}
        )
        if not command.reply_to:
            return
        reply = DeployCommandReply(
            id=command.id, result=Result(result), deploy_flow=name, reason=reason, message=message
        )
        await send(self._kafka, command.reply_to, reply)

    async def _carry_out(self, command: DeployCommand) -> str:
        if command.type == CommandType.DEPLOY:
            assert command.spec is not None
            return await self._deploy(command, command.spec, command.deploy_flow)
        if command.type == CommandType.ROLLBACK:
            return await self._roll_back(command)
        for _ in range(CONFLICTS):
            flow = await self._flow(command)
            name = str(flow["metadata"]["name"])
            if command.id in requests_of(flow["metadata"].get("annotations") or {}):
                return name
            if command.type == CommandType.DELETE:
                await self._client.delete(DEPLOYFLOWS, command.namespace, name)
                return name
            fields = change(flow, command)
            if fields is None:
                return name
            body = patch(flow, fields, request_id=command.id, requested_by=command.requested_by)
            try:
                self._seen(await self._client.patch(DEPLOYFLOWS, command.namespace, name, body))
            except ApiError as error:
                if error.code != 409:
                    raise
                continue
            return name
        msg = f"DeployFlow of {command.id} keeps changing"
        raise Unavailable(msg)

    async def _roll_back(self, command: DeployCommand) -> str:
        instance = str(command.instance_name)
        name = deployflow_name(instance, command.id)
        releases = await self._releases(command.namespace, instance)
        if any(flow["metadata"]["name"] == name for flow in releases):
            return name
        base = rollback_to(releases, instance, command.deploy_flow)
        try:
            cloneset = await self._client.get(CLONESETS, command.namespace, instance)
        except ApiError as error:
            if error.code != 404:
                raise
            cloneset = None
        return await self._deploy(command, rollback(base, replicas_now(releases, cloneset)), None)

    async def _releases(self, namespace: str, instance: str) -> list[Json]:
        """All releases of an instance, read live: what has just ended counts."""
        flows = await self._client.list(DEPLOYFLOWS, namespace)
        return [flow for flow in flows if flow["spec"]["application"]["instanceName"] == instance]

    async def _deploy(self, command: DeployCommand, spec: df.DeployFlowSpec, named: str | None) -> str:
        name = named or deployflow_name(spec.application.instance_name, command.id)
        body = manifest(
            spec,
            name=name,
            namespace=command.namespace,
            request_id=command.id,
            requested_by=command.requested_by,
            freeze_override=command.freeze_override,
            reply_to=command.reply_to,
        )
        try:
            self._seen(await self._client.create(DEPLOYFLOWS, command.namespace, body))
        except ApiError as error:
            if error.code != 409:
                raise
            there = await self._client.get(DEPLOYFLOWS, command.namespace, name)
            # a later command may have left its own id: the same release is known by what it releases
            if there["spec"]["application"] != body["spec"]["application"]:
                text = f"deployFlow: {name} exists already and releases something else; choose another name"
                raise Refusal("AlreadyExists", text) from error
        return name

    def _seen(self, flow: Json) -> None:
        """The next command finds what this one has written, however far the watch is behind."""
        self._flows.reflector.put(flow)

    async def _flow(self, command: DeployCommand) -> Json:
        """The DeployFlow that a command means: by its name, or the release of the instance named."""
        name = command.deploy_flow
        if name is None:
            flows = [
                flow
                for flow in self._flows.reflector.items.values()
                if flow.key == (command.namespace, command.instance_name)
            ]
            if not flows:
                text = f"instanceName: {command.namespace}/{command.instance_name} has no DeployFlow"
                raise Refusal("NotFound", text)
            flows.sort(key=lambda flow: (flow.finished, flow.metadata.creation_timestamp))
            # delivered again, it is about the release that it was about the first time
            done = [flow for flow in flows if command.id in requests_of(flow.metadata.annotations)]
            begun = [flow for flow in flows if not flow.finished]
            # of those made within one second, the one that runs
            begun.sort(key=lambda flow: not flow.status.get("startedAt"))
            name = (done or begun or flows[-1:])[0].metadata.name
        try:
            return await self._client.get(DEPLOYFLOWS, command.namespace, name)
        except ApiError as error:
            if error.code == 404:
                text = f"deployFlow: {command.namespace}/{name} does not exist"
                raise Refusal("NotFound", text) from error
            raise


def _read(record: Record) -> DeployCommand:
    """The command in a record; raises `Poison` naming what is wrong with it."""
    if len(record.value) > LARGEST_MESSAGE:
        text = f"the message has {len(record.value)} bytes; a command has at most {LARGEST_MESSAGE}"
        raise Poison("TooLarge", text)
    try:
        body = json.loads(record.value)
    except (ValueError, RecursionError) as error:
        raise Poison("InvalidJSON", f"the value is not JSON: {error}") from error
    if isinstance(body, dict) and "id" not in body and "ce_id" in record.headers:
        body["id"] = record.headers["ce_id"]
    try:
        return DeployCommand.model_validate(body)
    except ValidationError as error:
        raise Poison("InvalidCommand", df.problems(error)) from error
