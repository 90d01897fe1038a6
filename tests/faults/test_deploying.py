"""What `kubectl apply -k deploy` would bring into a cluster is let in by a real API server."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from sandbox.environment import SERVICES, Sandbox
from shared.domain.json_types import Json
from tests.contract.conftest import ROOT

DEPLOY = ROOT / "deploy"
NAMESPACE = "triton-system"


def kubectl(sandbox: Sandbox, *words: str, body: Json | None = None) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "--kubeconfig", str(sandbox.kubeconfig), *words]
    return subprocess.run(
        command, input=json.dumps(body or {}), check=False, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    done = subprocess.run(["kubectl", "kustomize", str(DEPLOY)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def test_all_of_it_is_accepted_in_a_dry_run(sandbox: Sandbox, manifests: list[Json]) -> None:
    done = kubectl(sandbox, "apply", "--dry-run=server", "--kustomize", str(DEPLOY))
    assert done.returncode == 0, done.stderr
    accepted = [
        line.split()[0].partition("/") for line in done.stdout.splitlines() if "server dry run" in line
    ]
    assert sorted((kind.split(".")[0], name) for kind, _, name in accepted) == sorted(
        (item["kind"].lower(), item["metadata"]["name"]) for item in manifests
    )
    found = kubectl(sandbox, "get", "deployments", "--namespace", NAMESPACE, "--output", "name")
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_the_namespace_lets_the_pods_of_a_service_in_and_no_freer_ones(
    sandbox: Sandbox, manifests: list[Json], service: str
) -> None:
    (template,) = (
        item["spec"]["template"]
        for item in manifests
        if item["kind"] == "Deployment" and item["metadata"]["name"] == f"triton-{service}"
    )
    metadata = {**template["metadata"], "name": f"tried-{service}", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    words = ("create", "--dry-run=server", "--filename", "-")
    done = kubectl(sandbox, *words, body=pod)
    assert done.returncode == 0, done.stderr
    freer = {**pod, "spec": {**pod["spec"], "hostNetwork": True}}
    done = kubectl(sandbox, *words, body=freer)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr
