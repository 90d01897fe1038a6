"""Write what a waiting update inherits into its spec, when it is the next to begin.

What the releases before it leave is known only then. The spec is where everybody reads what a release brings, and the
API server takes this write once: so the answer stays the same, whichever planner asks again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from services.planner.decision.apply_facts import CannotInherit
from services.planner.model.state import Flow, Instance
from services.planner.runtime.flow_cache import DeployFlow, FlowCache, observed, resource
from services.planner.views.status import status_of
from shared.domain.deployflow import DeployFlowSpec
from shared.domain.json_types import Json
from shared.domain.messages import FlowRef, SpecGone, SpecObserved
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, DEPLOYFLOWS, JSON, ApiError, Client, Resource
from shared.releases import history, specs

CONFLICTS: Final = 10
"""How often the DeployFlow is read again at once where somebody else keeps changing it."""


class Inheritance:
    def __init__(self, client: Client, flows: FlowCache) -> None:
        self._client = client
        self._flows = flows

    async def fill_in(self, instance: Instance, flow: Flow) -> SpecObserved | SpecGone | CannotInherit:
        """Return the release with its final spec, that it is gone, or why it can't begin. Raises `Unavailable`."""
        head: Json = {
            "namespace": instance.namespace,
            "instance": instance.name,
            "flow": FlowRef(name=flow.name, uid=flow.uid),
        }
        for _ in range(CONFLICTS):
            try:
                live = await self._read(DEPLOYFLOWS, instance.namespace, flow.name)
                if live is None or live["metadata"]["uid"] != flow.uid:
                    break
                if live["spec"].get("inherits") is not None:
                    cloneset = await self._read(CLONESETS, instance.namespace, instance.name)
                    live = await self._write(live, specs.inherit(live, self._earlier(instance), cloneset))
            except specs.Unfit as unfit:
                return CannotInherit(**head, message=str(unfit))
            except ApiError as error:
                if error.code == 409:
                    continue
                if error.rights_missing:
                    raise error.waited_for("planner") from error
                if error.code == 404:
                    break
                return CannotInherit(**head, message=f"what it inherits was refused: {error}")
            # the commands have the application from there
            self._flows.reflector.put(live)
            return observed(msgspec.convert(live, DeployFlow))
        else:
            raise Unavailable(f"the DeployFlow {instance.namespace}/{flow.name} keeps changing: try again")
        return SpecGone(**head)

    def _earlier(self, instance: Instance) -> list[Json]:
        """Return the releases of the instance that have ended, oldest first: some ends are not in `.status` yet."""
        unwritten = {flow.uid: status_of(instance, flow) for flow in instance.finished}
        waiting = {flow.uid for flow in instance.waiting}
        known = self._flows.releases(instance.key)
        ended = [
            resource(flow, unwritten.get(flow.metadata.uid))
            for flow in known
            if flow.metadata.uid not in waiting
        ]
        return sorted(ended, key=history.age)

    async def _write(self, flow: Json, spec: DeployFlowSpec) -> Json:
        """Replace the spec as a whole, unless somebody has changed the DeployFlow since it was read (409)."""
        meta = flow["metadata"]
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
            {
                "op": "replace",
                "path": "/spec",
                "value": spec.model_dump(mode="json", exclude_unset=True, exclude_none=True),
            },
        ]
        return await self._client.patch(DEPLOYFLOWS, meta["namespace"], meta["name"], body, content_type=JSON)

    async def _read(self, kind: Resource, namespace: str, name: str) -> Json | None:
        try:
            return await self._client.get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
