"""The calls that change a release that exists: the commands, a patch of its strategy, its deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from services.planner.api import access, v1_bodies
from services.planner.api.call_errors import errors_as_problems
from services.planner.api.change_calls import ChangeCalls, ChangeRequest, etag
from services.planner.api.problem import Kind, Problem
from services.planner.runtime.flow_cache import DeployFlow, resource
from shared.domain import deployflow as df
from shared.domain.deploy_commands import CommandType, DeployCommand, Target, requests_of
from shared.domain.json_types import Json
from shared.releases.specs import Unfit

_APPROVING_COMMANDS: Final = (CommandType.NEXT, CommandType.CONTINUE, CommandType.PROMOTE)
_APPROVING_FIELDS: Final = frozenset({"batches", "canary", "mode", "stage"})
"""The strategy fields that move the approval."""


class CommandCalls(ChangeCalls):
    """Every call raises `Problem`. A DeployFlow in an answer has the shape of `FlowQueries`."""

    async def command(
        self,
        change: ChangeRequest,
        namespace: str,
        name: str,
        kind: CommandType,
        *,
        target: Target | None = None,
        batch: int | None = None,
        stage: df.BatchPhase | None = None,
        watched: bool = False,
    ) -> Json:
        """Send next, continue, promote, pause, resume, cancel or retry. `watched`: the caller watches it afterwards."""
        right = access.PROMOTE if kind in _APPROVING_COMMANDS else access.PATCH
        await self._authorization.require(change.caller, right, namespace, name)
        if watched:
            await self._authorization.require(change.caller, access.WATCH, namespace, name)
        with errors_as_problems():
            command = DeployCommand(
                id=change.key,
                type=kind,
                namespace=namespace,
                deploy_flow=name,
                target=target,
                batch=batch,
                stage=stage,
                requested_by=change.caller.name,
            )
            check = await self._precondition(change, command.id, namespace, name)
            return await self._record(change, kind, await self._carry_out(change, command, check))

    async def patch(self, change: ChangeRequest, namespace: str, name: str, fields: Json) -> Json:
        """Change its strategy; a field that is null is removed."""
        await self._authorization.require(change.caller, access.PATCH, namespace, name)
        if _APPROVING_FIELDS & fields.keys():
            await self._authorization.require(change.caller, access.PROMOTE, namespace, name)
        with errors_as_problems():
            key = change.key
            check = await self._precondition(change, key, namespace, name)
            try:
                changed = await self._mutations.patch_strategy(
                    namespace,
                    name,
                    fields,
                    request_id=key,
                    requested_by=change.caller.name,
                    origin=change.origin,
                    check=check,
                )
            except Unfit as error:
                raise Problem(Kind.UNPROCESSABLE, "Invalid", str(error)) from error
            return await self._record(change, "patch", changed)

    async def patch_as_first_version(
        self, change: ChangeRequest, namespace: str, name: str, body: Json
    ) -> Json:
        """Change its strategy by the fields of `body` that are set and that the strategy has."""
        await self._authorization.require(change.caller, access.PATCH, namespace, name)
        with errors_as_problems():
            flow = await self._flow_queries.flow(namespace, name)
        updating = flow["spec"].get("action") in df.UPDATING
        kind = df.UpdateStrategy if updating else df.NonUpdateStrategy
        return await self.patch(change, namespace, name, v1_bodies.read_strategy(body, kind))

    async def delete(self, change: ChangeRequest, namespace: str, name: str) -> None:
        """Remove a finished release from the list of releases."""
        await self._authorization.require(change.caller, access.DELETE, namespace, name)
        with errors_as_problems():
            command = DeployCommand(
                id=change.key,
                type=CommandType.DELETE,
                namespace=namespace,
                deploy_flow=name,
                requested_by=change.caller.name,
            )
            check = await self._precondition(change, command.id, namespace, name)
            flow = await self._flow_queries.flow(namespace, name)
            if not flow["status"]["finished"]:
                text = f"{name} has not finished ({flow['status']['phase']}): cancel it first"
                raise Problem(Kind.CONFLICT, "InProgress", text)
            await self._record(change, CommandType.DELETE, await self._carry_out(change, command, check))

    async def _carry_out(
        self, change: ChangeRequest, command: DeployCommand, check: Callable[[Json], None] | None
    ) -> Json:
        return await self._mutations.carry_out(command, check, origin=change.origin)

    async def _precondition(
        self, change: ChangeRequest, key: str, namespace: str, name: str
    ) -> Callable[[Json], None] | None:
        """Return a check that refuses a DeployFlow other than the one that the caller has seen (`change.match`)."""
        if not change.match:
            return None
        shown = await self._flow_queries.flow(namespace, name)
        if key in requests_of(shown["metadata"]["annotations"]):
            return None
        text = f"{name} has changed since it was read: read it again (If-Match {change.match})"
        tags = {tag.strip() for tag in change.match.split(",")}

        def check(flow: Json) -> None:
            if not tags & {etag(flow), "*"}:
                raise Problem(Kind.CHANGED, "Changed", text)

        check(shown)
        return lambda live: check(resource(msgspec.convert(live, DeployFlow)))
