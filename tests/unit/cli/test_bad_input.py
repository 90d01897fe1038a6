"""Bad input gets one clear line that names the file, the document and the field; nothing is sent."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.domain.json_types import Json

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: shop}}}}]
users: [{{name: me, user: {{}}}}]
"""


def _manifest(spec: Json) -> Json:
    return {
        "apiVersion": "apps.triton.io/v1alpha1",
        "kind": "DeployFlow",
        "metadata": {"name": "release"},
        "spec": spec,
    }


def _changed(spec: Json, path: str, value: object) -> Json:
    changed = copy.deepcopy(spec)
    *parents, last = path.split(".")
    at = changed
    for name in parents:
        at = at.setdefault(name, {})
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value
    return changed


@pytest.mark.parametrize("command", ["apply", "plan"])
@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("application.template", None, "spec.application.template"),
        ("application.instanceName", None, "spec.application.instanceName"),
        ("application.instanceName", "a" * 53, "spec.application.instanceName"),
        ("updateStrategy.batchSize", -1, "spec.updateStrategy.batchSize"),
        ("updateStrategy.batchSize", "120%", "spec.updateStrategy.batchSize"),
        ("updateStrategy.batchSize", "abc", "spec.updateStrategy.batchSize"),
        ("updateStrategy.canary", -1, "spec.updateStrategy.canary"),
        ("action", "deploy", "spec.action"),
        ("nonUpdateStrategy.batchSize", 1, "nonUpdateStrategy"),
        ("updateStrategy.batchsize", 1, "spec.updateStrategy.batchsize"),
    ],
)
def test_a_deployflow_that_does_not_fit_is_named_by_file_document_and_field(
    command: str,
    path: str,
    value: object,
    field: str,
    spec: Json,
    tmp_path: Path,
    triton: Callable[..., Any],
) -> None:
    file = tmp_path / "bad.yaml"
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    file.write_text(yaml.safe_dump_all([other, _manifest(_changed(spec, path, value))]))
    result = triton(command, "-f", str(file))
    assert result.code == 2
    assert f"{file}, document 2 (DeployFlow release): " in result.err
    assert field in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "can't be read as YAML: line "),
        ("", "has no objects"),
        ("just words", "document 1: not an object"),
        ("kind: Service\nmetadata: {name: a}", "document 1: apiVersion: missing"),
        ("apiVersion: v1\nmetadata: {name: a}", "document 1: kind: missing"),
        ("apiVersion: v1\nkind: Service", "document 1 (Service): metadata.name: missing"),
        (
            "apiVersion: apps.triton.io/v1alpha1\nkind: DeployFlow\nmetadata: {name: a}",
            "spec: missing, a DeployFlow needs action and application",
        ),
    ],
)
def test_a_file_without_sound_objects_says_why(
    text: str, said: str, tmp_path: Path, triton: Callable[..., Any]
) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(text)
    result = triton("apply", "-f", str(file))
    assert result.code == 2
    assert str(file) in result.err
    assert said in result.err


def test_a_file_that_is_not_there_is_named(triton: Callable[..., Any]) -> None:
    result = triton("apply", "-f", "nowhere.yaml")
    assert (result.code, result.err) == (2, "error: nowhere.yaml can't be read: No such file or directory\n")


def test_a_kubeconfig_that_is_not_there_is_named(triton: Callable[..., Any], tmp_path: Path) -> None:
    result = triton("get", "--kubeconfig", str(tmp_path / "none"))
    assert result.code == 2
    assert f"kubeconfig {tmp_path / 'none'} does not exist" in result.err


@pytest.mark.parametrize("text", ["", "words", "[1, 2]", "clusters: []", "a: ["])
def test_a_kubeconfig_that_is_none_is_refused_without_a_trace(
    text: str, triton: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    result = triton("get", "--kubeconfig", str(file))
    assert result.code == 2
    assert f"kubeconfig {file} " in result.err
    assert result.err.count("\n") == 1


def test_a_server_that_is_not_there_is_named(triton: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG.format(port=port))
    result = triton("get", "--kubeconfig", str(file))
    assert result.code == 1
    assert f"Kubernetes at http://127.0.0.1:{port} does not answer" in result.err
    assert result.err.count("\n") == 1


def test_a_server_that_never_answers_is_abandoned(
    triton: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.connection.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        file = tmp_path / "kubeconfig"
        file.write_text(KUBECONFIG.format(port=port))
        result = triton("describe", "web", "--kubeconfig", str(file))
    assert result.code == 1
    assert f"Kubernetes at http://127.0.0.1:{port} did not answer within 0.2 s" in result.err


def test_the_namespace_is_the_contexts(tmp_path: Path) -> None:
    from cli.connection import Place

    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG.format(port=1))
    assert Place.of(file, None).namespace == "shop"
    assert Place.of(file, "other").namespace == "other"
    assert Place.of(None, None).namespace == "default"


@pytest.mark.parametrize("command", [("pause", "web-1"), ("apply", "-f", "web.yaml"), ("rollback", "web")])
def test_the_word_of_kubectl_for_impersonation_leads_to_ours(
    triton: Callable[..., Any], command: tuple[str, ...]
) -> None:
    result = triton(*command, "--as", "oncall")
    assert result.code == 2
    assert "to name the requester, use --requested-by" in result.err
