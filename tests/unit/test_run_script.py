"""What `tests/run` says on a machine that lacks something: one line, before anything is made or built."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SHELL: Final = (
    "bash",
    "sort",
    "mkdir",
    "mktemp",
    "rm",
    "sed",
    "tail",
    "cut",
    "env",
    "dirname",
    "touch",
    "grep",
)
"""What the script itself is made of; everything else is missing or played."""
PROGRAMS: Final = ("curl", "openssl", "mvn", "redis-server", "prometheus", "promtool")
PACKAGES: Final = "curl maven openssl prometheus redis-server"
USER: Final = "echo 1000"


class Machine:
    """A checkout and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.cache = folder / "cache"
        self.checkout = folder / "checkout"
        (self.checkout / "tests").mkdir(parents=True)
        shutil.copytree(ROOT / "requirements", self.checkout / "requirements")
        shutil.copy(ROOT / "tests" / "run", self.checkout / "tests")
        for name in SHELL:
            found = shutil.which(name)
            assert found, name
            (self.programs / name).symlink_to(found)
        # the script gets no further than this
        self.has("make", "echo .venv would be made; exit 7")
        self.has("id", "echo 0")

    def has(self, name: str, does: str = "") -> None:
        """Add a program that does only this."""
        path = self.programs / name
        path.write_text(f"#!{self.programs / 'bash'}\n{does}\n")
        path.chmod(0o755)

    def has_apt(self, installs: bool = True) -> None:
        made = [str(self.programs / name) for name in PROGRAMS]
        touch = f"printf '#!/bin/true' | tee {' '.join(made)} >/dev/null; chmod +x {' '.join(made)}"
        (self.programs / "tee").symlink_to(str(shutil.which("tee")))
        (self.programs / "chmod").symlink_to(str(shutil.which("chmod")))
        does = f'echo "$@" >>{self.folder}/apt; case "$*" in *install*) {touch if installs else "exit 100"};; esac'
        self.has("apt-get", does)

    def apt_calls(self) -> list[str]:
        return (self.folder / "apt").read_text().splitlines()

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        """Return the exit code and the lines that it printed."""
        done = subprocess.run(
            [str(self.programs / "bash"), "tests/run", *arguments],
            cwd=self.checkout,
            env={"PATH": str(self.programs), "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.cache)},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def missing(how: str) -> list[str]:
    return [f"error: the tests need what is missing here: {PACKAGES}{how}"]


def test_without_sudo_it_says_in_one_line_what_to_install(machine: Machine) -> None:
    machine.has_apt()
    machine.has("id", USER)
    assert machine.run() == (1, missing(f": run `sudo apt-get install {PACKAGES}`"))


def test_where_sudo_asks_for_a_password_it_says_in_one_line_what_to_install(machine: Machine) -> None:
    machine.has_apt()
    machine.has("id", USER)
    machine.has("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    assert machine.run() == (1, missing(f": run `sudo apt-get install {PACKAGES}`"))


def test_without_apt_it_says_in_one_line_what_is_missing(machine: Machine) -> None:
    expected = missing("; there is no apt-get to install it with, so install it yourself")
    assert machine.run() == (1, expected)


@pytest.mark.parametrize("user", ["0", "1000"])
def test_root_and_who_has_sudo_get_the_packages_installed(machine: Machine, user: str) -> None:
    machine.has_apt()
    machine.has("id", f"echo {user}")
    machine.has("sudo", 'shift; case "$1" in true) ;; *) "$@" ;; esac')
    code, lines = machine.run()
    assert lines == [f"== installing {PACKAGES} by apt-get (a minute or two)", ".venv would be made"]
    assert code == 1
    update, install = machine.apt_calls()
    assert update == "-qq update"
    assert install == f"-qq install --yes --no-install-recommends {PACKAGES}"


def test_packages_that_cannot_be_installed_are_one_line_and_the_next_run_works(machine: Machine) -> None:
    machine.has("apt-get", "echo 'E: Failed to fetch it'; echo 'E: Unable to fetch some archives'; exit 100")
    code, (said, error) = machine.run()
    assert code == 1
    assert said.startswith("== installing")
    assert error.startswith("error: apt-get update failed: E: Unable to fetch some archives (all of it: ")
    machine.has_apt()
    assert machine.run()[1][-1] == ".venv would be made"


def test_packages_that_bring_no_program_are_one_line(machine: Machine) -> None:
    machine.has_apt(installs=False)
    assert machine.run()[1][-1].startswith(f"error: apt-get install {PACKAGES} failed")


def test_what_is_there_is_not_installed(machine: Machine) -> None:
    for name in PROGRAMS:
        machine.has(name)
    assert machine.run() == (1, [".venv would be made"])


def test_the_sandbox_needs_less(machine: Machine) -> None:
    code, lines = machine.run("--sandbox")
    assert code == 1
    assert lines[0].startswith("error: the tests need what is missing here: curl openssl;")


@pytest.mark.parametrize("arguments", [(), ("--real",)])
def test_the_real_parts_need_all(machine: Machine, arguments: tuple[str, ...]) -> None:
    assert PACKAGES in machine.run(*arguments)[1][0]


def test_a_named_test_needs_no_more_than_the_sandbox(machine: Machine) -> None:
    for name in ("curl", "openssl"):
        machine.has(name)
    (machine.checkout / "tests" / "unit").mkdir()
    assert machine.run("tests/unit", "-k", "plan") == (1, [".venv would be made"])


def test_a_file_in_the_place_of_the_cache_is_one_line(machine: Machine) -> None:
    machine.cache.mkdir()
    (machine.cache / "triton").write_text("")
    code, (line,) = machine.run()
    assert code == 1
    assert line.startswith(f"error: the cache folder {machine.cache}/triton cannot be made or written")


def test_a_cache_that_cannot_be_written_is_one_line(machine: Machine) -> None:
    # nobody makes folders there, root included
    machine.cache = Path("/proc/triton-tests")
    code, (line,) = machine.run()
    assert code == 1
    assert "cannot be made or written" in line
