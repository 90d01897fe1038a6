"""docker-compose.yml is accepted by compose's reference implementation. Nothing is started: no engine runs here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from sandbox.environment import SERVICES
from sandbox.real.cache import made
from sandbox.real.cluster_build import go_install
from shared.domain.json_types import Json
from tests.contract.conftest import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILE = ROOT / "docker-compose.yml"
VERSION = "2.16.2"
BESIDE = {
    "kafka",
    "redis",
    "elasticsearch",
    "kibana",
    "prometheus",
    "grafana",
    "k3s",
    "openkruise",
    "cluster",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def compose() -> Path:
    async def build(folder: Path) -> None:
        package = f"github.com/compose-spec/compose-go/v2/cmd@v{VERSION}"
        await go_install(f"building compose-go {VERSION}", package, folder, print)

    return await made(f"compose-go-{VERSION}", build) / "cmd"


def read(compose: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(compose), "-format", "json", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )


async def test_the_file_is_accepted_and_has_everything(compose: Path) -> None:
    done = read(compose, FILE)
    assert done.returncode == 0, done.stderr
    model: Json = json.loads(done.stdout)
    assert set(model["services"]) == {*SERVICES, *BESIDE}
    for name in SERVICES:
        assert model["services"][name]["healthcheck"]["test"]
        assert model["services"][name]["depends_on"]
    for service in model["services"].values():
        assert set(service.get("depends_on", {})) <= set(model["services"])


async def test_digests_are_added_to_the_tags_of_the_images(compose: Path, tmp_path: Path) -> None:
    digest = f"@sha256:{'7' * 64}"
    filled = tmp_path / "compose.yml"
    # this program of compose-go reads no variables
    filled.write_text(FILE.read_text().replace("_DIGEST:-}", f"_DIGEST:-{digest}}}"))
    done = read(compose, filled)
    assert done.returncode == 0, done.stderr
    services: Json = json.loads(done.stdout)["services"]
    for name in BESIDE:
        assert services[name]["image"].endswith(digest)
    for name in SERVICES:
        assert services[name]["build"]["args"] == {"PYTHON_DIGEST": digest}


@pytest.mark.parametrize("wrong", [{"ports": 5}, {"pots": []}])
async def test_it_would_say_no(compose: Path, tmp_path: Path, wrong: Json) -> None:
    model = yaml.safe_load(FILE.read_text())
    model["services"]["planner"] |= wrong
    broken = tmp_path / "compose.yml"
    broken.write_text(yaml.safe_dump(model))
    assert read(compose, broken).returncode != 0
