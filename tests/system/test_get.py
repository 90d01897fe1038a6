"""`triton get` over all namespaces, by labels, by phase and by context, by the cluster and by a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from sandbox.environment import Sandbox
from tests.system.programs import by_cluster, by_server, run
from tests.system.releases import Releases, deployflow

NAMESPACES = ("get-one", "get-two")
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _triton(environment: Mapping[str, str], *arguments: str) -> str:
    ended = await run(*arguments, environment=environment)
    assert ended.code == 0, ended
    return ended.out


def _at(sandbox: Sandbox, folder: Path, namespace: str) -> Path:
    """Return a kubeconfig with a context for each namespace, this one the current."""
    config = yaml.safe_load(sandbox.kubeconfig.read_text())
    (context,) = config["contexts"]
    config["contexts"] = [
        {"name": name, "context": {**context["context"], "namespace": name}} for name in NAMESPACES
    ]
    config["current-context"] = namespace
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


async def test_releases_of_all_namespaces_by_label_and_phase(sandbox: Sandbox, tmp_path: Path) -> None:
    for namespace in NAMESPACES:
        async with Releases(sandbox, namespace) as releases:
            await releases.make_namespace()
            await releases.create("listed", replicas=1)
            waiting = deployflow(f"{namespace}-next", "listed", image="nginx:2", replicas=1, canary=1)
            waiting["metadata"]["labels"] = {"team": namespace}
            await releases.apply(waiting)
            await releases.batch_is(f"{namespace}-next", 1, "Smoked")
    for way in (by_cluster(sandbox), by_server(sandbox)):
        every = (await _triton(way, "get", "-A", "--phase", "waiting")).splitlines()
        assert every[0].split()[:2] == ["NAMESPACE", "NAME"]
        assert {tuple(line.split()[:2]) for line in every[1:]} >= {
            (name, f"{name}-next") for name in NAMESPACES
        }
        one = await _triton(way, "get", "-A", "-l", "team=get-two", "-o", "name")
        assert one == "deployflow.apps.triton.io/get-two-next\n"
        path = await _triton(
            way, "-n", "get-one", "get", "-l", "team", "-o", "jsonpath={.items[*].metadata.name}"
        )
        assert path == "get-one-next\n"
        wide = (await _triton(way, "get", "-n", "get-one", "-o", "wide")).splitlines()
        assert wide[1].startswith("get-one-next ")
        assert " nginx:2 " in wide[1]

    completing = {"_TRITON_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    for command in ("describe get-", "restart li"):
        asked = completing | {"COMP_WORDS": f"triton {command}"}
        shell = by_cluster(sandbox) | {"TRITON_KUBECONFIG": str(_at(sandbox, tmp_path, "get-one"))} | asked
        wanted = "get-one-next" if "describe" in command else "listed"
        assert (await _triton(shell)).split() == [wanted]

    file = _at(sandbox, tmp_path, "get-one")
    listed = await _triton(
        by_cluster(sandbox) | {"TRITON_KUBECONFIG": str(file)},
        "get",
        "--context",
        "get-two",
        "--phase",
        "waiting",
    )
    assert listed.splitlines()[1].startswith("get-two-next ")
