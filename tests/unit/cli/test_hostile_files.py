"""Files that would keep a command busy for minutes, or end it as a bug: each command that reads one refuses it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOMB = "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
FILES = {
    "aliases": (BOMB, "more than 250,000 values, aliases followed"),
    "depth": ("[" * 20_000, "more than 100 objects and lists inside each other"),
    "date": ("apiVersion: v1\nkind: 2026-13-45", "line 2, column 7: no valid timestamp"),
    "key": (
        "apiVersion: v1\nkind: X\nmetadata: {name: a, 2026-01-01: b}",
        "(X a): the keys of objects are texts",
    ),
}
Triton = Callable[..., Any]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("command", ["apply", "plan"])
def test_a_hostile_file_is_named(command: str, file: str, triton: Triton, tmp_path: Path) -> None:
    text, problem = FILES[file]
    path = tmp_path / "release.yaml"
    path.write_text(text)
    began = time.process_time()
    result = triton(command, "-f", str(path))
    assert result.code == 2
    assert result.err.startswith(f"error: {path}")
    assert problem in result.err
    assert "bug of triton" not in result.err
    assert time.process_time() - began < 10


def test_an_input_without_end_is_refused(triton: Triton, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"#" * len(buffer)
            return len(buffer)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    result = triton("plan", "-f", "-")
    assert (result.code, result.err) == (
        2,
        "error: standard input can't be read as YAML: it has more than 8 MiB: split it into several files\n",
    )


@pytest.mark.parametrize("namespace", [(), ("-n", "shop")])
@pytest.mark.parametrize("file", ["aliases", "depth"])
def test_a_hostile_kubeconfig_is_named(
    file: str, namespace: tuple[str, ...], triton: Triton, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(FILES[file][0])
    result = triton("get", "--kubeconfig", str(path), *namespace)
    assert result.code == 2
    assert f"kubeconfig {path} can't be " in result.err
    assert FILES[file][1] in result.err


def test_an_error_of_a_kubeconfig_quotes_no_token(triton: Triton, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("users: [{user: {token: s3cret\nclusters: x")
    for namespace in ((), ("-n", "shop")):
        result = triton("get", "--kubeconfig", str(path), *namespace)
        assert result.code == 2
        assert "s3cret" not in result.err
