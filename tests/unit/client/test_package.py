"""The client is a package of its own: it builds from its folder and works without the rest of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import triton_client

FOLDER = Path(triton_client.__file__).parent
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
USE = """
import sys
sys.path.insert(0, sys.argv[1])
import triton_client
triton_client.Triton("http://127.0.0.1:1")
print(triton_client.__file__)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"cli", "sandbox", "services", "shared"}))
"""


def _python(*arguments: str, cwd: Path) -> list[str]:
    """Return the lines that a Python without this repository on its path prints."""
    command = [sys.executable, "-I", "-c", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_wheel_of_the_folder_alone_can_be_used(tmp_path: Path) -> None:
    # a build leaves files beside the sources
    source = shutil.copytree(FOLDER, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    wheel = _python(BUILD, str(tmp_path), cwd=source)[-1]
    file, foreign = _python(USE, str(tmp_path / wheel), cwd=tmp_path)
    assert file == str(tmp_path / wheel / "triton_client" / "__init__.py")
    assert foreign == "[]"


def test_its_version_is_the_repositorys() -> None:
    versions = [
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (FOLDER, FOLDER.parent)
    ]
    assert versions[0] == versions[1]
