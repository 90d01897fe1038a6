"""The image and docker-compose.yml, as far as they can be held to the code without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.service.process import STOP_SECONDS
from shared.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVICES = ("planner", "executor", "readiness", "events")
ONCE = ("openkruise", "cluster")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def waits_for(name: str) -> dict[str, str]:
    return {other: how["condition"] for other, how in CONTAINERS[name].get("depends_on", {}).items()}


def test_compose_runs_triton_and_all_that_it_needs() -> None:
    others = {"kafka", "redis", "elasticsearch", "kibana", "prometheus", "grafana", "k3s"}
    assert set(CONTAINERS) == {*SERVICES, *others, *ONCE}


@pytest.mark.parametrize("name", sorted(set(CONTAINERS) - set(ONCE)))
def test_what_keeps_running_reports_its_health(name: str) -> None:
    container = CONTAINERS[name]
    assert container["restart"] == "unless-stopped"
    check = container["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["interval"]
    assert check["retries"] > 1


@pytest.mark.parametrize("name", ONCE)
def test_what_runs_once_is_waited_for_until_it_is_done(name: str) -> None:
    assert CONTAINERS[name]["restart"] == "no"
    conditions = [waits_for(other)[name] for other in CONTAINERS if name in waits_for(other)]
    assert conditions
    assert set(conditions) == {"service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_what_is_waited_for_is_there(name: str) -> None:
    for other, condition in waits_for(name).items():
        assert other in CONTAINERS
        assert condition == ("service_completed_successfully" if other in ONCE else "service_healthy")


@pytest.mark.parametrize(
    ("service", "needs"),
    [
        ("planner", {"kafka", "redis", "cluster"}),
        ("executor", {"kafka", "cluster"}),
        ("readiness", {"kafka", "cluster"}),
        ("events", {"kafka", "elasticsearch"}),
    ],
)
def test_a_service_starts_after_what_it_needs(service: str, needs: set[str]) -> None:
    assert set(waits_for(service)) == needs


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_versions_are_pinned(name: str) -> None:
    _, _, tag = CONTAINERS[name]["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag), CONTAINERS[name]["image"]


def test_the_image_is_pinned_and_has_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    for service in SERVICES:
        assert CONTAINERS[service]["image"] == f"triton:{version[1]}"
    kustomization = yaml.safe_load((ROOT / "deploy/manifests/kustomization.yaml").read_text())
    assert kustomization["images"] == [{"name": "triton", "newTag": version[1]}]
    assert {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM")} == {
        "python:3.13-slim${PYTHON_DIGEST}"
    }


def test_a_release_can_fill_the_digest_of_every_image_that_is_not_ours() -> None:
    images: dict[str, str] = {}
    for name in sorted(set(CONTAINERS) - set(SERVICES)):
        image, _, variable = CONTAINERS[name]["image"].partition("$")
        assert re.fullmatch(r"\{\w+_DIGEST:-\}", variable), name
        # a digest belongs to one tag
        assert images.setdefault(variable, image) == image
    (base,) = re.findall(r'^ARG (\w+)=""$', DOCKERFILE, re.MULTILINE)
    for service in SERVICES:
        assert CONTAINERS[service]["build"]["args"] == {base: f"${{{base}:-}}"}


def test_no_digest_is_written_in_the_sources() -> None:
    for name in ("docker-compose.yml", "deploy/Dockerfile", "deploy/manifests/kustomization.yaml"):
        assert not re.search(r"sha256:\w", (ROOT / name).read_text())


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_what_is_kept_is_in_a_named_volume(name: str) -> None:
    for volume in CONTAINERS[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"], volume
        else:
            assert source in COMPOSE["volumes"], volume


def test_every_volume_is_used() -> None:
    used = {
        volume.split(":")[0] for container in CONTAINERS.values() for volume in container.get("volumes", [])
    }
    assert set(COMPOSE["volumes"]) <= used


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_nothing_is_open_to_the_network(name: str) -> None:
    for port in CONTAINERS[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_one_that_the_services_take(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = CONTAINERS[service]["environment"]
    for name, value in environment.items():
        assert name.removeprefix("TRITON_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.health_port == 8080
    # what is published is listened at, from outside of the container
    if ports := CONTAINERS[service].get("ports"):
        assert settings.api_host == "0.0.0.0"
        assert ports == [f"127.0.0.1:{port}:{port}" for port in (settings.api_port, settings.grpc_port)]
    test = CONTAINERS[service]["healthcheck"]["test"]
    assert "http://127.0.0.1:8080/readyz" in test[-1]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_let_stop_and_writes_nowhere(service: str) -> None:
    container = CONTAINERS[service]
    assert int(container["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]


def test_prometheus_asks_every_service() -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    ((targets,),) = [[one["targets"] for one in job["static_configs"]] for job in config["scrape_configs"]]
    assert targets == [f"{service}:8080" for service in SERVICES]


@pytest.mark.parametrize("service", SERVICES)
def test_the_command_of_a_container_is_one_of_the_program(service: str) -> None:
    (entry_point,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    assert entry_point == '["triton"]'
    program = Path(sys.executable).with_name("triton")
    command = [program, *CONTAINERS[service]["command"], "--help"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"triton {service}" in result.stdout


def test_the_image_has_pinned_packages_and_no_root() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    build = (ROOT / "requirements/build.txt").read_text()
    assert build.split("    # via")[0] in (ROOT / "requirements/dev.txt").read_text()


def test_all_that_the_image_is_made_of_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            copied |= set(shlex.split(line)[1:-1])
    assert {path.split("/")[0] for path in copied} == let_through
    assert all((ROOT / path).exists() for path in copied)


def test_the_script_that_prepares_the_cluster_is_a_script() -> None:
    subprocess.run(["sh", "-n", str(ROOT / "deploy/compose/cluster.sh")], check=True)


def test_the_image_has_every_package_and_the_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = [name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    let_in = (ROOT / ".dockerignore").read_text().split()
    for name in packages:
        assert f"\nCOPY {name} {name}\n" in DOCKERFILE
        assert f"!{name}" in let_in
    for name in project["project"]["license-files"]:
        assert re.search(rf"^COPY .*\b{name}\b", DOCKERFILE, re.MULTILINE)
        assert f"!{name}" in let_in
