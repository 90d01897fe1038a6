"""What the API server and OpenKruise make of hooks: whoever writes a template compares it with what they wrote."""

from __future__ import annotations

import pytest

from shared.domain.json_types import Json

from .kube import CLONESETS, PODS, Kube, a_cloneset, a_pod

GET: Json = {"path": "/gracefully_shutdown", "port": 80}
WRITTEN: Json = {"path": "/gracefully_shutdown", "port": 80, "scheme": "HTTP"}


def hooked(pod: Json) -> Json:
    pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"httpGet": dict(GET)}}
    return pod


def hook_of(pod: Json) -> Json:
    found: Json = pod["spec"]["containers"][0]["lifecycle"]
    return found


async def test_an_http_hook_of_a_pod_has_its_scheme_written_out(kube: Kube) -> None:
    made = await kube.made(kube.path(PODS), hooked(a_pod("one")))
    assert hook_of(made) == {"preStop": {"httpGet": WRITTEN}}


async def test_an_http_hook_of_a_cloneset_has_its_scheme_written_out(kube: Kube) -> None:
    body = a_cloneset("web", replicas=1)
    hooked(body["spec"]["template"])
    made = await kube.made(kube.path(CLONESETS), body)
    assert hook_of(made["spec"]["template"]) == {"preStop": {"httpGet": WRITTEN}}


async def test_without_a_path_it_is_the_root_and_other_hooks_stay_as_they_are(kube: Kube) -> None:
    pod = a_pod("one")
    pod["spec"]["containers"][0]["lifecycle"] = {
        "preStop": {"httpGet": {"port": 80}},
        "postStart": {"exec": {"command": ["true"]}},
    }
    made = await kube.made(kube.path(PODS), pod)
    assert hook_of(made) == {
        "preStop": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}},
        "postStart": {"exec": {"command": ["true"]}},
    }


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe", "startupProbe"])
async def test_so_has_a_probe(kube: Kube, probe: str) -> None:
    pod = a_pod("one")
    pod["spec"]["containers"][0][probe] = {"httpGet": {"port": 80}}
    made = await kube.made(kube.path(PODS), pod)
    found = made["spec"]["containers"][0][probe]["httpGet"]
    assert found == {"path": "/", "port": 80, "scheme": "HTTP"}
