"""The services' accounts in the cluster: the rights of `deploy/rbac`, and a kubeconfig with a token for each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from sandbox.real.cache import Say, kubectl, run

RBAC: Final = Path(__file__).parents[2] / "deploy" / "rbac"
NAMESPACE: Final = "triton-system"
_WITH_TOKEN: Final = ("planner", "executor", "readiness")
_VALID: Final = "24h"


async def give_accounts(admin: Path, folder: Path, say: Say) -> Mapping[str, Path]:
    """Write the kubeconfig of each service into the folder; raises `SandboxError`.

    As `deploy` gives the events service no token, its kubeconfig is one that nobody can use.
    """

    async def kubectl_as_admin(what: str, *words: str | Path) -> str:
        return await run(what, [kubectl(), "--kubeconfig", admin, *words], say, cwd=folder)

    async def write_kubeconfig(service: str) -> Path:
        account = f"triton-{service}"
        words = ["create", "token", account, "--namespace", NAMESPACE, "--duration", _VALID]
        token = (await kubectl_as_admin(f"making a token for {account}", *words)).split()[-1]
        config = yaml.safe_load(admin.read_text())
        config["users"] = [{"name": account, "user": {"token": token}}]
        config["contexts"][0]["context"]["user"] = account
        path = folder / f"{service}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    await kubectl_as_admin("applying deploy/rbac", "apply", "--kustomize", RBAC)
    paths = await asyncio.gather(*map(write_kubeconfig, _WITH_TOKEN))
    return {**dict(zip(_WITH_TOKEN, paths, strict=True)), "events": Path(os.devnull)}
