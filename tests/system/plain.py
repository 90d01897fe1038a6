"""A CloneSet and a Service as somebody makes them who has never heard of Triton."""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.releases import SERVICES, Releases, deployflow

NON_UPDATING = ("restart", "scale_in", "scale_out", "start", "stop", "delete")
ACTIONS = ("create", "update", "rollback", *NON_UPDATING)


def plain_cloneset(name: str, replicas: int, **spec: Any) -> Json:
    template = {
        "metadata": {
            "labels": {"app": name},
            "annotations": {"sandbox.triton.io/start-seconds": "0.1-0.4"},
        },
        "spec": {"containers": [{"name": "main", "image": "nginx:1", "ports": [{"containerPort": 80}]}]},
    }
    return {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
            **spec,
        },
    }


async def lay_out(releases: Releases, name: str, replicas: int, **spec: Any) -> None:
    """Make the CloneSet and its Service, and wait until all its pods serve."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }
    await releases.client.create(SERVICES, releases.namespace, service)
    await releases.client.create(k8s.CLONESETS, releases.namespace, plain_cloneset(name, replicas, **spec))
    await releases.serves(name, replicas)


async def pods_of(releases: Releases, name: str) -> list[Json]:
    found = await releases.client.list(k8s.PODS, releases.namespace, labels=f"app={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def release(name: str, instance: str, action: str, replicas: int, **strategy: Any) -> Json:
    """A DeployFlow of any action."""
    body = deployflow(name, instance, action=action, image="nginx:2", replicas=replicas, **strategy)
    if action in NON_UPDATING:
        del body["spec"]["application"]["template"]
        body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
    return body
