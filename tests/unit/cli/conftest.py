from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import _command_line
from shared.domain.json_types import Json
from tests.unit.events.conftest import kafka, kafka_settings, settings, store

__all__ = ["kafka", "kafka_settings", "settings", "store"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may reach the cluster of whoever runs it."""
    for name in os.environ:
        if name.startswith(("TRITON_", "KUBE")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("cli.connection._USUAL", tmp_path / "no-kubeconfig")


@pytest.fixture
def triton(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process, as `triton ARGUMENTS...` would."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = _command_line(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def spec() -> Json:
    return {
        "action": "update",
        "application": {
            "appID": 7,
            "groupID": 8,
            "appName": "web",
            "instanceName": "7-web",
            "replicas": 4,
            "template": {
                "spec": {
                    "containers": [{"name": "web", "image": "web:1"}, {"name": "proxy", "image": "proxy:1"}]
                }
            },
        },
        "updateStrategy": {"batchSize": 2, "canary": 1, "mode": "auto", "batches": 3, "stage": "Baked"},
    }


@pytest.fixture
def flow(spec: Json) -> Json:
    """A release whose canary waits at Smoked."""
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {
            "name": "7-web-bcdfg",
            "namespace": "default",
            "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T10:00:00Z",
        },
        "spec": {**spec, "updateStrategy": {"batchSize": 2, "canary": 1, "mode": "auto"}},
        "status": {
            "phase": "BatchStarted",
            "batches": 3,
            "replicasToProcess": 4,
            "reason": "WaitingForNext",
            "message": "batch 1 is Smoked, without traffic: press next to send it traffic",
            "startedAt": "2026-01-01T10:00:01.000Z",
            "conditions": [
                {
                    "batch": 1,
                    "batchSize": 1,
                    "canary": True,
                    "phase": "Smoked",
                    "startedAt": "2026-01-01T10:00:01.000Z",
                    "finishedAt": None,
                    "pods": [{"name": "7-web-aaaaa", "phase": "ContainersReady", "ip": "10.0.0.1"}],
                }
            ],
        },
    }
