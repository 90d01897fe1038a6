"""What a person does with releases: applies them, presses buttons, decides about a failed batch."""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Any, Final

from bench.campaigns.observed import INSTANCE, Flow
from bench.campaigns.story import Release
from shared.domain.deploy_commands import CommandType, DeployCommand, Refusal, change, patch
from shared.domain.deployflow import KEEPS_REPLICAS, UPDATING, Action
from shared.domain.json_types import Json
from shared.kube.client import CLONESETS, DEPLOYFLOWS, ApiError, Client
from shared.releases import specs
from shared.releases.history import age
from tests.system.releases import deployflow

START: Final = {
    "sandbox.triton.io/start-seconds": "0.1-0.5",
    "sandbox.triton.io/stop-seconds": "0-0.1",
    "sandbox.triton.io/fail-after-seconds": "0.5",
}
_ATTEMPTS: Final = 10
_numbers = itertools.count(1)


class Move(StrEnum):
    NEXT = "next"
    RESUME = "resume"
    RETRY = "retry"
    CANCEL = "cancel"
    ROLLBACK = "rollback"
    UPDATE = "update"


def next_move(flow: Flow, after_failure: str, retried: int) -> Move | None:
    """Decide what a person does with a release that stands like this; None: nothing, it moves by itself."""
    if flow.finished:
        return None
    if is_failed(flow):
        if after_failure == Move.RETRY and retried >= 1:
            return Move.CANCEL
        return Move(after_failure)
    if flow.reason == "WaitingForNext":
        return Move.NEXT
    if flow.reason == "Paused":
        return Move.RESUME
    return None


def is_failed(flow: Flow) -> bool:
    """Return whether a failure stopped the release, and a person has to decide: never before its last change is taken in.

    A write that was refused after the batch was accepted leaves its phase: then the release is paused, and nobody paused it.
    """
    strategy = strategy_of(flow.spec)
    ending = flow.message.startswith("ending:") or strategy.get("canceled")
    stopped = flow.status.get("paused") and not strategy.get("paused")
    if (flow.status.get("observedGeneration") or 0) != flow.metadata.generation:
        return False
    return bool(stopped) and not flow.finished and not ending and flow.reason != "Paused"


def field_of(action: str) -> str:
    return "updateStrategy" if action in UPDATING else "nonUpdateStrategy"


def strategy_of(spec: Json) -> Json:
    return spec.get(field_of(spec["action"])) or {}


def manifest(release: Release, name: str, image: str, replicas: int) -> Json:
    """Return the DeployFlow of a release."""
    body = deployflow(
        name,
        INSTANCE,
        action=release.action,
        image=image,
        replicas=replicas,
        annotations=START,
        **release.strategy,
    )
    if not release.updating:
        body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
        del body["spec"]["application"]["template"]
    if release.action == Action.UPDATE and not release.change:
        body["metadata"]["annotations"] = {KEEPS_REPLICAS: "true"}
    return body


class Person:
    """Somebody with a kubeconfig, in one namespace. What is refused, or is about what is gone, is no trouble."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def apply(self, body: Json) -> bool:
        """Return whether it was made."""
        try:
            await self.client.create(DEPLOYFLOWS, self.namespace, body)
        except ApiError as error:
            # the namespace goes
            if error.code in {403, 404}:
                return False
            raise
        return True

    async def press(self, name: str, kind: CommandType, **fields: Any) -> bool:
        """Change a release as `triton next` and its like do; return whether it was changed."""
        for _ in range(_ATTEMPTS):
            flow = await self.live(name)
            if flow is None:
                return False
            request = f"campaign-{next(_numbers)}"
            command = DeployCommand(
                id=request, type=kind, namespace=self.namespace, deploy_flow=name, **fields
            )
            try:
                changed = change(flow, command)
            except Refusal:
                return False
            if changed is None:
                return False
            body = patch(flow, changed, request_id=request, requested_by="campaign")
            if await self._patch(name, body):
                return True
        return False

    async def edit(self, name: str, fields: Json) -> bool:
        """Change fields of the strategy."""
        flow = await self.live(name)
        if flow is None:
            return False
        return await self._patch(name, {"spec": {field_of(flow["spec"]["action"]): fields}})

    async def put_back(self, name: str, spec: Json) -> bool:
        """Write the spec as it was applied at first."""
        for _ in range(_ATTEMPTS):
            flow = await self.live(name)
            if flow is None:
                return False
            try:
                await self.client.replace(DEPLOYFLOWS, self.namespace, name, {**flow, "spec": spec})
            except ApiError as error:
                if error.code != 409:
                    return False
            else:
                return True
        return False

    async def delete(self, name: str) -> None:
        try:
            await self.client.delete(DEPLOYFLOWS, self.namespace, name)
        except ApiError as error:
            if error.code != 404:
                raise

    async def roll_back(self, name: str) -> bool:
        """Apply a rollback as `triton rollback` does; return False where there is nothing to go back to."""
        flows = [
            flow
            for flow in await self.client.list(DEPLOYFLOWS, self.namespace)
            if "deletionTimestamp" not in flow["metadata"]
        ]
        known = specs.Known(INSTANCE, sorted(flows, key=age), await self.cloneset())
        try:
            spec = specs.rollback(known, None, {}).spec
        except (Refusal, specs.Unfit):
            return False
        body = deployflow(name, INSTANCE)
        body["metadata"]["annotations"] = {KEEPS_REPLICAS: "true"}
        body["spec"] = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return await self.apply(body)

    async def live(self, name: str) -> Json | None:
        try:
            return await self.client.get(DEPLOYFLOWS, self.namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def cloneset(self) -> Json | None:
        try:
            return await self.client.get(CLONESETS, self.namespace, INSTANCE)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _patch(self, name: str, body: Json) -> bool:
        """Return False where somebody else has changed it, or it is gone, or it is refused."""
        try:
            await self.client.patch(DEPLOYFLOWS, self.namespace, name, body)
        except ApiError as error:
            if error.code not in {404, 409, 422}:
                raise
            return False
        return True
