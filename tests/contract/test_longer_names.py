"""DeployFlows with a name that today's definition refuses: what was made before can still be written and deleted."""

from __future__ import annotations

import asyncio
import copy
import secrets

from shared.domain.deployflow import LONGEST_NAME, LONGEST_STORED_NAME
from shared.domain.json_types import Json
from shared.kube.crd import crd

from .kube import PATIENCE, Kube
from .widgets import DEFINITIONS


def _definition(group: str, longest: int) -> Json:
    made = copy.deepcopy(crd())
    made["metadata"]["name"] = f"deployflows.{group}"
    made["spec"]["group"] = group
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    application = schema["properties"]["spec"]["properties"]["application"]
    application["properties"]["instanceName"]["maxLength"] = longest
    return made


def _flow(group: str, name: str, length: int) -> Json:
    template = {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    identity = {"appID": 1, "groupID": 2, "appName": "web", "instanceName": "a" * length}
    return {
        "apiVersion": f"{group}/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": name, "finalizers": ["apps.triton.io/deployflow"]},
        "spec": {"action": "create", "application": {**identity, "template": template}},
    }


async def test_a_name_that_is_refused_today_is_written_as_long_as_it_stays(kube: Kube) -> None:
    group = f"g{secrets.token_hex(4)}.triton.io"
    place = f"{DEFINITIONS}/deployflows.{group}"
    await kube.made(DEFINITIONS, _definition(group, LONGEST_STORED_NAME))
    try:
        flows = kube.path(f"/apis/{group}/v1alpha1/namespaces/{{}}/deployflows")
        await kube.until(flows, lambda found: found["kind"] == "DeployFlowList")
        await kube.made(flows, _flow(group, "before", LONGEST_STORED_NAME))
        now = {"spec": {"versions": _definition(group, LONGEST_NAME)["spec"]["versions"]}}
        assert (await kube.patch(place, now)).code == 200
        async with asyncio.timeout(PATIENCE):
            while (refused := await kube.post(flows, _flow(group, "after", LONGEST_NAME + 1))).code != 422:
                await kube.patch(f"{flows}/after", {"metadata": {"finalizers": None}})
                await kube.delete(f"{flows}/after")
                await kube.gone(f"{flows}/after")
        assert str(LONGEST_NAME) in refused.causes()["spec.application.instanceName"]
        await kube.made(flows, _flow(group, "fits", LONGEST_NAME))
        for path, change in (
            (f"{flows}/before/status", {"status": {"message": "goes on", "version": 1, "conditions": []}}),
            (f"{flows}/before", {"spec": {"updateStrategy": {"batches": 2, "canceled": True}}}),
            (f"{flows}/before/status", {"status": {"phase": "Canceled", "finished": True}}),
            (f"{flows}/before", {"metadata": {"labels": {"app": "1"}, "finalizers": None}}),
        ):
            answer = await kube.patch(path, change)
            assert answer.code == 200, answer.body
        unchanged = await kube.patch(f"{flows}/before", {"spec": {"updateStrategy": {"batches": -1}}})
        assert list(unchanged.causes()) == ["spec.updateStrategy.batches"], "what is changed is checked"
        assert (await kube.delete(f"{flows}/before")).code == 200
        await kube.gone(f"{flows}/before")
    finally:
        await kube.delete(place)
