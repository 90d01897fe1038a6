"""The definition of Triton 0.1.x is replaced by ours: what is stored stays as it is, is read, and can be written."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from string import Template

import pytest
import yaml

from shared.domain.deployflow import DeployFlowSpec, DeployFlowStatus
from shared.domain.json_types import Json
from shared.kube.crd import crd

from .kube import PATIENCE, Kube
from .widgets import DEFINITIONS

HERE = Path(__file__).parent
LEGACY = HERE.parent / "system" / "legacy"
VALUES = {
    "instance": "web",
    "image": "nginx:1",
    "replicas": "6",
    "revision": "web-5d4f7",
    "started": "2021-10-23T22:28:58Z",
    "failed": "1",
    "a": "web-abcde",
    "b": "web-fghij",
}


def legacy(file: Path, **values: str) -> Json:
    body: Json = yaml.safe_load(Template(file.read_text()).safe_substitute({**VALUES, **values}))
    return body


STATUSES = legacy(LEGACY / "statuses.yaml")


@pytest.mark.parametrize(
    ("file", "action"),
    [("deployflow.yaml", "create"), ("deployflow.yaml", "rollback"), ("restart.yaml", "restart")],
)
async def test_what_0_1_x_stored_stays_as_it_is_and_can_be_written(
    kube: Kube, file: str, action: str
) -> None:
    group = f"g{secrets.token_hex(4)}.triton.io"
    definition = legacy(HERE / "legacy_crd.yaml", group=group)
    place = f"{DEFINITIONS}/{definition['metadata']['name']}"
    await kube.made(DEFINITIONS, definition)
    try:
        flows = kube.path(f"/apis/{group}/v1alpha1/namespaces/{{}}/deployflows")
        await kube.until(flows, lambda found: found["kind"] == "DeployFlowList")
        stored = {}
        for status, said in STATUSES.items():
            body = legacy(LEGACY / file, name=status, action=action)
            body |= {"apiVersion": f"{group}/v1alpha1"}
            body["metadata"]["namespace"] = kube.namespace
            await kube.made(flows, body)
            answer = await kube.patch(f"{flows}/{status}/status", {"status": said})
            assert answer.code == 200, answer.body
            stored[status] = answer.body
        # what kubectl apply does with the definition: a list is replaced as a whole
        answer = await kube.patch(place, {"spec": {"versions": crd()["spec"]["versions"]}})
        assert answer.code == 200, answer.body
        probe = legacy(LEGACY / "deployflow.yaml", name="probe", action="explode") | {
            "apiVersion": f"{group}/v1alpha1"
        }
        probe["metadata"]["namespace"] = kube.namespace
        await _refused(kube, flows, probe)
        for status, before in stored.items():
            found = (await kube.get(f"{flows}/{status}")).body
            assert found == before, "nothing is pruned"
            DeployFlowSpec.model_validate(found["spec"])
            DeployFlowStatus.model_validate(found["status"])
            kept = {"metadata": {"finalizers": ["apps.triton.io/deployflow"]}}
            for path, change in (
                (f"{flows}/{status}", kept),
                (f"{flows}/{status}/status", {"status": {"message": "taken over", "version": 1}}),
                (f"{flows}/{status}", {"metadata": {"finalizers": None}}),
            ):
                answer = await kube.patch(path, change)
                assert answer.code == 200, answer.body
    finally:
        await kube.delete(place)


async def _refused(kube: Kube, flows: str, body: Json) -> None:
    """Waits until what only our definition refuses is refused."""
    name = body["metadata"]["name"]
    async with asyncio.timeout(PATIENCE):
        while (await kube.post(flows, body)).code != 422:
            await kube.delete(f"{flows}/{name}")
            await kube.gone(f"{flows}/{name}")
