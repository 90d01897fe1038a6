"""The definition of DeployFlow lets an application change once: by the write that removes `inherits`."""

from __future__ import annotations

import copy
import secrets

from shared.domain.json_types import Json
from shared.kube.crd import crd

from .kube import Kube
from .widgets import DEFINITIONS


def _application(image: str, instance: str = "web") -> Json:
    template = {"spec": {"containers": [{"name": "web", "image": image}]}}
    return {"appID": 1, "groupID": 2, "appName": "web", "instanceName": instance, "template": template}


async def test_what_an_update_inherits_is_written_once(kube: Kube) -> None:
    group = f"g{secrets.token_hex(4)}.triton.io"
    definition = copy.deepcopy(crd())
    definition["metadata"]["name"] = f"deployflows.{group}"
    definition["spec"]["group"] = group
    await kube.made(DEFINITIONS, definition)
    try:
        flows = kube.path(f"/apis/{group}/v1alpha1/namespaces/{{}}/deployflows")
        await kube.until(flows, lambda found: found["kind"] == "DeployFlowList")
        inherits = {"images": {"web": "web:2"}, "strategy": {"canary": 1}}
        spec = {"action": "update", "application": _application("web:2"), "inherits": inherits}
        body = {"apiVersion": f"{group}/v1alpha1", "kind": "DeployFlow", "metadata": {"name": "waits"}}
        restart = {**body, "metadata": {"name": "restart"}, "spec": {**spec, "action": "restart"}}
        refused = await kube.post(flows, restart)
        assert refused.code == 422
        assert "only an update takes over" in refused.message
        await kube.made(flows, {**body, "spec": spec})

        flow = f"{flows}/waits"
        for words, change in (
            ("application is immutable", {"application": _application("web:3")}),
            ("application is immutable", {"application": _application("web:3", "other"), "inherits": None}),
            ("inherits is immutable", {"inherits": {"images": {"web": "web:3"}}}),
        ):
            refused = await kube.patch(flow, {"spec": change})
            assert (refused.code, words in refused.message) == (422, True), refused.body
        for change in (
            {"updateStrategy": {"batchSize": 1}},
            {"application": _application("web:3"), "inherits": None},
        ):
            accepted = await kube.patch(flow, {"spec": change})
            assert accepted.code == 200, accepted.body
        for words, change in (
            ("application is immutable", {"application": _application("web:4")}),
            ("inherits is immutable", {"inherits": inherits}),
        ):
            refused = await kube.patch(flow, {"spec": change})
            assert (refused.code, words in refused.message) == (422, True), refused.body
    finally:
        await kube.delete(f"{DEFINITIONS}/deployflows.{group}")
