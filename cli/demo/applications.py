"""The objects that the demo releases: the tutorial's application, and a bigger one with two images."""

from __future__ import annotations

from typing import Final

from shared.domain.deployflow import API_VERSION, KIND, Application
from shared.domain.json_types import Json

NGINX: Final = "12122-sample-10010"
NGINX_FLOW: Final = f"{NGINX}-df"
NGINX_SERVICE: Final = "sample-12122-svc"
NGINX_REPLICAS: Final = 3
INTERVAL_SECONDS: Final = 2
"""Shorter than the ten seconds of the tutorial: two are enough to see that it waits."""

WEB: Final = "20001-web-10010"
WEB_FLOW: Final = f"{WEB}-create"
WEB_SERVICE: Final = "web-svc"
WEB_REPLICAS: Final = 10
BATCH_SIZE: Final = 2
OLD_IMAGE: Final = "registry.example.com/web:1.0"
NEW_IMAGE: Final = "registry.example.com/web:2.0"
CRASHING_IMAGE: Final = "registry.example.com/web:crash"
"""Containers of this tag crash in the sandbox."""


def nginx() -> list[Json]:
    """Return the DeployFlow and Service of examples/nginx-deployflow.yaml, with a shorter interval."""
    labels = _labels(12122, 10010, "deploy-demo-hello", NGINX)
    container = {
        "name": f"{NGINX}-container",
        "image": "nginx:latest",
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "resources": {},
    }
    application = {
        "appID": 12122,
        "groupID": 10010,
        "appName": "deploy-demo-hello",
        "instanceName": NGINX,
        "replicas": NGINX_REPLICAS,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {}, "spec": {"containers": [container]}},
    }
    strategy = {
        "canary": 1,
        "batchSize": 1,
        "batchIntervalSeconds": INTERVAL_SECONDS,
        "mode": "auto",
    }
    return [_flow(NGINX_FLOW, labels, application, strategy), _service(NGINX_SERVICE, labels)]


def web() -> list[Json]:
    """Return an application of ten replicas in a single batch, and its Service."""
    labels = _labels(20001, 10010, "web", WEB)
    container = {
        "name": "web",
        "image": OLD_IMAGE,
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
    }
    application = {
        "appID": 20001,
        "groupID": 10010,
        "appName": "web",
        "instanceName": WEB,
        "replicas": WEB_REPLICAS,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {}, "spec": {"containers": [container]}},
    }
    return [
        _flow(WEB_FLOW, labels, application, {"batchSize": WEB_REPLICAS, "mode": "auto"}),
        _service(WEB_SERVICE, labels),
    ]


def _labels(app: int, group: int, name: str, instance: str) -> dict[str, str]:
    return Application(app_id=app, group_id=group, app_name=name, instance_name=instance).labels()


def _flow(name: str, labels: dict[str, str], application: Json, strategy: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"action": "create", "application": application, "updateStrategy": strategy},
    }


def _service(name: str, labels: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": labels,
        },
    }
