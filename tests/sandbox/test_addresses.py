"""Where a sandbox is reached, and what is left of an earlier one: it says what nobody would expect."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import httpx
import pytest

from sandbox.environment import Sandbox


def settings_in(file: Path) -> dict[str, str]:
    return dict(shlex.split(line)[0].split("=", 1) for line in file.read_text().splitlines())


@pytest.mark.timeout(180)
async def test_a_sandbox_says_that_a_port_is_taken_and_its_file_has_the_addresses(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        async with Sandbox(tmp_path, api_ports=(taken, 0), say=said.append) as sandbox:
            found = settings_in(sandbox.env_file)
            assert found["TRITON_SERVER"] == sandbox.rest_urls["planner"]
            assert found["TRITON_GRPC_SERVER"] == sandbox.grpc_addresses["planner"]
            assert str(taken) not in found["TRITON_SERVER"]
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{found['TRITON_SERVER']}/openapi.json")).status_code == 200
    address = found["TRITON_SERVER"].removeprefix("http://")
    (moved,) = said
    assert moved.startswith(f"port {taken} is taken, ")
    assert moved.endswith(f"REST of this sandbox is at {address} (TRITON_SERVER in {tmp_path}/sandbox.env)")


def test_a_sandbox_says_that_the_releases_of_an_earlier_one_are_lost(tmp_path: Path) -> None:
    said: list[str] = []
    first = Sandbox(tmp_path, say=said.append)
    first._prepare_state()
    assert said == []
    (tmp_path / "sandbox.env").write_text("")
    assert first._lock is not None
    first._lock.close()
    second = Sandbox(tmp_path, say=said.append)
    second._prepare_state()
    assert second._lock is not None
    second._lock.close()
    (lost,) = said
    assert lost.startswith(f"the releases and the log of the earlier sandbox in {tmp_path} are lost: ")
