"""kubectl as a person calls it, on the cluster of a kubeconfig."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

Run = Callable[..., Coroutine[Any, Any, str]]


def command(kubeconfig: Path, namespace: str, cache: Path, *words: str) -> list[str]:
    program = shutil.which("kubectl")
    assert program, "kubectl is not on the PATH: tests/run provides one"
    options = ["--kubeconfig", str(kubeconfig), "--cache-dir", str(cache), "-n", namespace]
    return [program, *options, *words]


def kubectl_of(kubeconfig: Path, namespace: str, cache: Path) -> Run:
    """What runs a command in that namespace: it has to succeed, silently on standard error."""

    async def run(*words: str, body: object = None) -> str:
        process = await asyncio.create_subprocess_exec(
            *command(kubeconfig, namespace, cache, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, error = await process.communicate(json.dumps(body).encode() if body else b"")
        assert (process.returncode, error.decode()) == (0, ""), error.decode()
        return out.decode()

    return run
