"""A digest is written only if it was read: docker is played."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from deploy.supply import digests
from deploy.supply.digests import FILES, ROOT, images, main

DIGEST: Final = f"sha256:{'7' * 64}"
ANSWER: Final = f'{{"schemaVersion": 2, "digest": "{DIGEST}", "size": 9}}'


def plays(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    docker = folder / "docker"
    docker.write_text(f'#!/bin/sh\nfor image; do :; done\necho "$@" >>{folder}/calls\n{script}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_every_variable_of_the_sources_has_its_image() -> None:
    texts = [(ROOT / name).read_text() for name in FILES]
    found = images(*texts)
    assert found["PYTHON_DIGEST"] == "python:3.13-slim"
    assert found["KAFKA_DIGEST"].startswith("apache/kafka:")
    # none is overlooked, wherever else it may be named
    named = {
        word for text in texts for word in text.replace("{", " ").replace(":-", " ").replace("}", " ").split()
    }
    assert set(found) == {word for word in named if word.endswith("_DIGEST") and word[0].isalpha()}


def test_the_digests_are_written_as_compose_and_a_build_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays(tmp_path, monkeypatch, f"echo '{ANSWER}'")
    path = tmp_path / "build" / "digests.env"
    assert main(path) == 0
    lines = path.read_text().splitlines()
    assert f"PYTHON_DIGEST=@{DIGEST}" in lines
    assert lines[lines.index(f"PYTHON_DIGEST=@{DIGEST}") - 1] == "# python:3.13-slim"
    wanted = images(*((ROOT / name).read_text() for name in FILES))
    assert {line.partition("=")[0] for line in lines if not line.startswith("#")} == set(wanted)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [
        f"buildx imagetools inspect --format {{{{json .Manifest}}}} {wanted[variable]}"
        for variable in sorted(wanted)
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'ERROR: no such host' >&2; exit 1", "redis:7.4-alpine: ERROR: no such host"),
        ("exit 3", "redis:7.4-alpine: docker ended with 3"),
        ("echo '{}'", "redis:7.4-alpine: KeyError('digest')"),
        ("echo 'null'", "redis:7.4-alpine: TypeError"),
        ("echo", "redis:7.4-alpine: JSONDecodeError"),
        ("""echo '{"digest": "sha256:12"}'""", "redis:7.4-alpine: not a digest: 'sha256:12'"),
    ],
)
def test_nothing_is_written_if_one_digest_is_not_read(
    script: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plays(tmp_path, monkeypatch, f"case $image in redis:*) {script} ;; *) echo '{ANSWER}' ;; esac")
    path = tmp_path / "digests.env"
    assert main(path) == 1
    assert not path.exists()
    assert f"error: nothing is written to {path}: no digest was read for {reason}" in capsys.readouterr().err


def test_without_docker_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert digests.main(tmp_path / "digests.env") == 1
    assert "FileNotFoundError" in capsys.readouterr().err
