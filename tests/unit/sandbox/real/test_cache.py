"""The cache of built parts: whole or not there, whatever interrupted a build."""

# ruff: noqa: ASYNC240 - files of a test
from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sandbox.process import SandboxError
from sandbox.real import cache
from sandbox.real.cache import made, run

BUILT = "program"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache" / "triton"
    monkeypatch.setattr(cache, "ROOT", root)
    return root


async def build(folder: Path) -> None:
    (folder / BUILT).write_text("whole")


async def fail(folder: Path) -> None:
    (folder / BUILT).write_text("ha")
    raise SandboxError("no space left")


async def refuse(folder: Path) -> None:
    pytest.fail(f"{folder} is built again")


async def test_what_is_whole_is_built_once(root: Path) -> None:
    first = await made("etcd-1", build)
    assert await made("etcd-1", refuse) == first == root / "etcd-1"


async def test_two_builds_at_once_are_one(root: Path) -> None:
    calls = 0

    async def slow(folder: Path) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        await build(folder)

    await asyncio.gather(made("etcd-1", slow), made("etcd-1", slow))
    assert calls == 1


async def test_a_failed_build_leaves_nothing_and_the_next_works(root: Path) -> None:
    with pytest.raises(SandboxError, match="no space left"):
        await made("etcd-1", fail)
    assert [path.name for path in root.iterdir()] == ["etcd-1.lock"]
    assert ((await made("etcd-1", build)) / BUILT).read_text() == "whole"


@pytest.mark.parametrize("left", ["etcd-1.ab_d1234.unfinished", "etcd-1.ab_d1234"])
async def test_what_a_killed_build_left_behind_is_removed_by_the_next(root: Path, left: str) -> None:
    for name in (left, "etcd-1.2"):
        (root / name).mkdir(parents=True)
        (root / name / BUILT).write_text("ha")
    await made("etcd-1", build)
    assert not (root / left).exists()
    assert (root / "etcd-1.2").exists(), "another version is left alone"


KILLED = """
import asyncio
from sandbox.real.cache import made

async def build(folder):
    (folder / "program").write_text("ha")
    print("building", flush=True)
    await asyncio.sleep(60)

asyncio.run(made("etcd-1", build))
"""


async def test_after_a_build_was_killed_the_next_one_works(root: Path) -> None:
    builder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        env={**os.environ, "XDG_CACHE_HOME": str(root.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert builder.stdout
    assert await builder.stdout.readline() == b"building\n"
    builder.kill()
    await builder.wait()
    assert not (root / "etcd-1").exists()
    assert len([path for path in root.iterdir() if path.is_dir()]) == 1, "it left its folder behind"
    assert ((await made("etcd-1", build)) / BUILT).read_text() == "whole"
    assert sorted(path.name for path in root.iterdir()) == ["etcd-1", "etcd-1.lock"]


async def test_a_file_in_the_place_of_a_part_is_replaced(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "etcd-1").write_text("")
    assert ((await made("etcd-1", build)) / BUILT).exists()


async def test_a_file_in_the_place_of_the_cache_is_reported_in_one_line(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("")
    with pytest.raises(SandboxError) as raised:
        await made("etcd-1", build)
    message = str(raised.value)
    assert f"the cache folder {root} cannot be used" in message
    assert "XDG_CACHE_HOME" in message
    assert "\n" not in message
    root.unlink()
    await made("etcd-1", build)


async def test_a_cache_that_cannot_be_written_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # below /proc nobody may make a folder, not even root
    monkeypatch.setattr(cache, "ROOT", Path("/proc/triton"))
    with pytest.raises(SandboxError, match="the cache folder /proc/triton cannot be used") as raised:
        await made("etcd-1", build)
    assert "\n" not in str(raised.value)


async def test_a_registry_that_is_not_reached_is_reported_in_one_line(tmp_path: Path) -> None:
    line = "go: dial tcp: lookup proxy.golang.org: no such host"
    script = f"print('go: downloading'); print({line!r}); print('more'); raise SystemExit(1)"
    with pytest.raises(SandboxError) as raised:
        await run("building etcd 1", [sys.executable, "-c", script], print, cwd=tmp_path)
    assert str(raised.value) == f"building etcd 1 failed, the registry was not reached (no network?): {line}"


async def test_any_other_failure_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    script = "print('undefined: x'); raise SystemExit(2)"
    with pytest.raises(SandboxError, match=r"building etcd 1 failed \(exit code 2\):\nundefined: x"):
        await run("building etcd 1", [sys.executable, "-c", script], print, cwd=tmp_path)
