"""Carries out what people and other systems request: each request is one change of a DeployFlow.

The commands of Kafka and the calls of the APIs meet here. The change goes through the API server, so that any replica
can make it. Raises `Refusal`, `Unfit`, `ApiError` where the API server refuses, and `Unavailable`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pydantic import ValidationError

from services.planner.runtime.flow_cache import FlowCache, resource
from shared.domain import deployflow as df
from shared.domain.deploy_commands import (
    CHANGE,
    REMEMBERED,
    UNKNOWN,
    CommandType,
    DeployCommand,
    Refusal,
    change,
    deployflow_name,
    manifest,
    patch,
    requests_of,
)
from shared.domain.json_types import Json
from shared.domain.requesters import Origin
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, DEPLOYFLOWS, PODS, ApiError, Client, label_selector
from shared.releases.history import age, replicas_now, rollback, rollback_to
from shared.releases.specs import Known, Unfit

CONFLICTS: Final = 10
_log = logging.getLogger(__name__)


class FlowMutations:
    """Makes and changes DeployFlows.

    `with_statuses` returns them with their statuses as they are now: the API server's may be a moment behind what
    callers see.
    """

    def __init__(
        self,
        client: Client,
        flows: FlowCache,
        with_statuses: Callable[[Sequence[Json]], Awaitable[list[Json]]] | None = None,
    ) -> None:
        self._client = client
        self._flows = flows
        self._with_statuses = with_statuses

    async def carry_out(
        self,
        command: DeployCommand,
        check: Callable[[Json], None] | None = None,
        *,
        unsaid: df.Unsaid = df.Unsaid.NOTHING,
        keep: bool = False,
        origin: Origin = UNKNOWN,
    ) -> Json:
        """Return the DeployFlow that the command made, changed or deleted.

        `unsaid`: what the requester of a deploy left open. `keep`: the DeployFlow of a deploy is not deleted beyond the
        history limit. `origin`: where the name of the requester comes from.

        `check` gets the DeployFlow that is about to be changed and may refuse it, by raising; nobody changes it between
        the check and the write.
        """
        if command.type == CommandType.DEPLOY:
            assert command.spec is not None
            made = await self._deploy(
                command, command.spec, command.deploy_flow, unsaid=unsaid, keep=keep, origin=origin
            )
            return await self._record_reply(made, command)
        if command.type == CommandType.ROLLBACK:
            return await self._record_reply(await self._roll_back(command, origin=origin), command)
        for _ in range(CONFLICTS):
            flow = await self._target_of(command)
            if command.id in requests_of(flow["metadata"].get("annotations") or {}):
                return flow
            if check:
                check(flow)
            if command.type == CommandType.DELETE:
                if await self._delete(flow, unchanged=check is not None):
                    return flow
                continue
            fields = change(flow, command)
            if fields is None:
                return flow
            changed = await self._patch(
                flow, fields, command.id, command.requested_by, command=command.type, origin=origin
            )
            if changed is not None:
                return changed
        raise _keeps_changing(command.namespace, str(command.deploy_flow or command.instance_name))

    async def patch_strategy(
        self,
        namespace: str,
        name: str,
        fields: Json,
        *,
        request_id: str,
        requested_by: str,
        origin: Origin = UNKNOWN,
        check: Callable[[Json], None] | None = None,
    ) -> Json:
        """Set fields of the strategy of an unfinished DeployFlow; a field that is None is removed."""
        for _ in range(CONFLICTS):
            flow = await self.live(namespace, name)
            if request_id in requests_of(flow["metadata"].get("annotations") or {}):
                return flow
            if check:
                check(flow)
            if (flow.get("status") or {}).get("finished"):
                text = f"{name} has finished ({flow['status'].get('phase')}): its strategy stays as it is"
                raise Refusal("Finished", text)
            _check_strategy(flow, fields)
            changed = await self._patch(flow, fields, request_id, requested_by, command=CHANGE, origin=origin)
            if changed is not None:
                return changed
        raise _keeps_changing(namespace, name)

    async def known(self, namespace: str, instance: str, *, pods: bool = False) -> Known:
        """Read an instance live, so that a release that has just finished counts. `pods`: read their names too."""
        releases = sorted(await self.releases(namespace, instance), key=age)
        names: list[str] = []
        if pods:
            found = await self._client.list(
                PODS, namespace, labels=label_selector({df.INSTANCE_LABEL: instance})
            )
            names = [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return Known(instance, releases, await self.cloneset(namespace, instance), names)

    async def releases(self, namespace: str, instance: str) -> list[Json]:
        """Return all DeployFlows of an instance, in no order, with their statuses as they are now.

        One that somebody made by hand gets its label a moment later: until then only the watch knows it.
        """
        found = {flow.metadata.uid: resource(flow) for flow in self._flows.releases(Key(namespace, instance))}
        live = await self._client.list(
            DEPLOYFLOWS, namespace, labels=label_selector({df.INSTANCE_LABEL: instance})
        )
        for flow in live:
            if flow["spec"]["application"]["instanceName"] == instance:
                found[flow["metadata"]["uid"]] = flow
        return await self._as_now(list(found.values()))

    async def cloneset(self, namespace: str, instance: str) -> Json | None:
        try:
            return await self._client.get(CLONESETS, namespace, instance)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def live(self, namespace: str, name: str) -> Json:
        """Read a DeployFlow from the API server, with its status as it is now."""
        try:
            flow = await self._client.get(DEPLOYFLOWS, namespace, name)
        except ApiError as error:
            if error.code == 404:
                raise Refusal("NotFound", f"deployFlow: {namespace}/{name} does not exist") from error
            raise
        (shown,) = await self._as_now([flow])
        return shown

    async def _as_now(self, flows: Sequence[Json]) -> list[Json]:
        if self._with_statuses is None:
            return list(flows)
        return [
            {**flow, "status": shown["status"]}
            for flow, shown in zip(flows, await self._with_statuses(flows), strict=True)
        ]

    async def _delete(self, flow: Json, *, unchanged: bool) -> bool:
        """Delete it, never another of the same name; return False where it has changed and must not have."""
        meta = flow["metadata"]
        known = {"uid": meta["uid"]} | ({"resourceVersion": meta["resourceVersion"]} if unchanged else {})
        try:
            await self._client.delete(DEPLOYFLOWS, meta["namespace"], meta["name"], {"preconditions": known})
        except ApiError as error:
            if error.code != 409:
                raise
            return False
        return True

    async def _patch(
        self, flow: Json, fields: Json, request_id: str, requested_by: str, *, command: str, origin: Origin
    ) -> Json | None:
        """Return the changed DeployFlow; None where somebody else changed it meanwhile."""
        meta = flow["metadata"]
        body = patch(
            flow, fields, request_id=request_id, requested_by=requested_by, command=command, origin=origin
        )
        try:
            changed = await self._client.patch(DEPLOYFLOWS, meta["namespace"], meta["name"], body)
        except ApiError as error:
            if error.code != 409:
                raise
            return None
        self._remember(changed)
        return changed

    async def _roll_back(self, command: DeployCommand, *, origin: Origin) -> Json:
        instance = str(command.instance_name)
        name = deployflow_name(instance, command.id)
        known = await self.known(command.namespace, instance)
        for flow in known.releases:
            if flow["metadata"]["name"] == name:
                return flow
        base = rollback_to(known.releases, instance, command.deploy_flow)
        try:
            spec = rollback(base, replicas_now(known.releases, known.cloneset))
        except ValidationError as error:
            raise Refusal("InvalidSpec", df.problems(error, "spec")) from error
        return await self._deploy(command, spec, None, unsaid=df.Unsaid.REPLICAS, origin=origin)

    async def _deploy(
        self,
        command: DeployCommand,
        spec: df.DeployFlowSpec,
        named: str | None,
        *,
        unsaid: df.Unsaid,
        origin: Origin,
        keep: bool = False,
    ) -> Json:
        name = named or deployflow_name(spec.application.instance_name, command.id)
        body = manifest(
            spec,
            name=name,
            namespace=command.namespace,
            request_id=command.id,
            requested_by=command.requested_by,
            origin=origin,
            freeze_override=command.freeze_override,
            reply_to=command.reply_to,
            unsaid=unsaid,
            keep=keep,
        )
        try:
            made = await self._client.create(DEPLOYFLOWS, command.namespace, body)
        except ApiError as error:
            if error.code != 409:
                raise
            existing = await self._client.get(DEPLOYFLOWS, command.namespace, name)
            if not made_by(existing, command.id, body["spec"]):
                text = f"deployFlow: {name} exists already, made by another request; choose another name"
                raise Refusal("AlreadyExists", text) from error
            return existing
        self._remember(made)
        return made

    async def _record_reply(self, flow: Json, command: DeployCommand) -> Json:
        """Write into `.status` to where the end of the release that this command made is reported, once.

        Annotations do not prove it: whoever may create a DeployFlow writes them. Where the process ends before this
        write, the command is delivered again, and until then the DeployFlow is held.
        """
        if not command.reply_to or (flow.get("status") or {}).get("replyId"):
            return flow
        meta = flow["metadata"]
        why = "it was deleted as soon as it was made"
        try:
            for _ in range(CONFLICTS):
                live = await self._client.get(DEPLOYFLOWS, meta["namespace"], meta["name"])
                if live["metadata"]["uid"] != meta["uid"]:
                    break
                recorded = await self._try_record(live, command.reply_to, command.id)
                if recorded is None:
                    continue
                self._remember(recorded)
                if (recorded.get("status") or {}).get("replyId"):
                    return recorded
                why = "the CRD of the cluster has no field for it: apply deploy/crds"
                break
            else:
                raise _keeps_changing(meta["namespace"], meta["name"])
        except ApiError as error:
            if error.rights_missing:
                raise error.waited_for("planner") from error
            if error.code != 404:
                why = f"its status was refused: {error}"
        # the release has been made: the command is not refused for this
        text = "the end of %s will not be reported to %s (%s): %s"
        about = {"triton.deployflow": meta["name"]}
        _log.error(text, meta["name"], command.reply_to, command.id, why, extra=about)
        return flow

    async def _try_record(self, live: Json, topic: str, command: str) -> Json | None:
        """Return the DeployFlow with the record; None where somebody else changed it meanwhile."""
        at = (DEPLOYFLOWS, live["metadata"]["namespace"], live["metadata"]["name"])
        try:
            if not (live.get("status") or {}).get("replyId"):
                guard = {"resourceVersion": live["metadata"]["resourceVersion"]}
                body = {"metadata": guard, "status": {"replyTo": topic, "replyId": command}}
                live = await self._client.patch(*at, body, subresource="status")
            meta = live["metadata"]
            finalizers = meta.get("finalizers") or []
            if df.FINALIZER in finalizers or meta.get("deletionTimestamp"):
                return live
            # it finished before the record was there: with the finalizer it is found again, and answered
            held = {"resourceVersion": meta["resourceVersion"], "finalizers": [*finalizers, df.FINALIZER]}
            return await self._client.patch(*at, {"metadata": held})
        except ApiError as error:
            if error.code != 409:
                raise
            return None

    def _remember(self, flow: Json) -> None:
        """Let the next command find what this one has written, however far the watch is behind."""
        self._flows.reflector.put(flow)

    async def _target_of(self, command: DeployCommand) -> Json:
        """Return the DeployFlow that a command is for: by its name, or the release of the instance named."""
        name = command.deploy_flow
        if name is None:
            flows = self._flows.releases(Key(command.namespace, str(command.instance_name)))
            if not flows:
                text = f"instanceName: {command.namespace}/{command.instance_name} has no DeployFlow"
                raise Refusal("NotFound", text)
            flows.sort(key=lambda flow: (flow.finished, flow.metadata.creation_timestamp))
            # delivered again, it is about the release that it was about the first time
            done = [flow for flow in flows if command.id in requests_of(flow.metadata.annotations)]
            unfinished = [flow for flow in flows if not flow.finished]
            # of those made within one second, the one that runs
            unfinished.sort(key=lambda flow: not flow.status.get("startedAt"))
            name = (done or unfinished or flows[-1:])[0].metadata.name
        return await self.live(command.namespace, name)


def made_by(flow: Json, request: str, spec: Json | None = None) -> bool:
    """Decide whether that request made it. One changed by many others has forgotten: then by what it releases."""
    requests = requests_of(flow["metadata"].get("annotations") or {})
    if request in requests or spec is None or len(requests) < REMEMBERED:
        return request in requests
    same = ("action", "application")
    return {name: flow["spec"][name] for name in same} == {name: spec[name] for name in same}


def _check_strategy(flow: Json, fields: Json) -> None:
    """Raise `Unfit` where the strategy does not fit with these fields."""
    field = df.DeployFlowSpec.model_validate(flow["spec"], context=df.STORED).strategy_field
    strategy = {**(flow["spec"].get(field) or {}), **fields}
    strategy = {key: value for key, value in strategy.items() if value is not None}
    kind = df.UpdateStrategy if field == "updateStrategy" else df.NonUpdateStrategy
    try:
        kind.model_validate(strategy)
    except ValidationError as error:
        raise Unfit("", df.problems(error, field)) from error


def _keeps_changing(namespace: str, name: str) -> Unavailable:
    return Unavailable(f"the DeployFlow {namespace}/{name} keeps changing: try again")
