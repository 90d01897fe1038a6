"""`preStop` hooks of a deleted pod, as far as they can run without containers.

An HTTP request is sent if a real server answers for the pod (the annotation `sandbox.triton.io/pod-ip`): any
answer will do, as for a kubelet. `sleep` takes its time, also as a command. Any other hook is only reported.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import aiohttp

from shared.domain.json_types import Json

EXTENSION_SECONDS = 2.0
"""The least time for a container to stop, after hooks that took the whole grace period."""
_SLEEP = re.compile(r"(?:(?:/bin/)?(?:ba|da)?sh -c )?(?:/bin/)?sleep (\d+(?:\.\d+)?)s?")


class HookFailed(Exception):
    """The hook could not be run."""


class Hook(NamedTuple):
    container: Json
    handler: Json


def hooks_of(pod: Json) -> list[Hook]:
    """Return the hooks of the running containers."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    run = {status["name"] for status in statuses if "running" in status["state"]}
    hooks = [
        Hook(c, (c.get("lifecycle") or {}).get("preStop") or {}) for c in pod["spec"].get("containers") or ()
    ]
    return [hook for hook in hooks if hook.handler and hook.container["name"] in run]


async def run(hook: Hook, address: str) -> str:
    """Run the hook and return a line that reports it. Raises `HookFailed`."""
    name = hook.container["name"]
    match hook.handler:
        case {"sleep": {"seconds": seconds}}:
            await asyncio.sleep(float(seconds))
            return f"container {name} slept {seconds} s (simulated)"
        case {"exec": {"command": [*words]}} if slept := _SLEEP.fullmatch(" ".join(map(str, words))):
            await asyncio.sleep(float(slept[1]))
            return f"container {name} slept {slept[1]} s (simulated)"
        case {"httpGet": dict(get)} if address:
            return await _get(hook.container, get, address)
    return f"container {name} runs no hook (simulated): {', '.join(hook.handler)}"


async def _get(container: Json, get: Json, address: str) -> str:
    scheme, path = str(get.get("scheme", "HTTP")).lower(), str(get.get("path", "/")).removeprefix("/")
    host = get.get("host") or address
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{_port(container, get.get('port'))}/{path}"
    headers = {header["name"]: header["value"] for header in get.get("httpHeaders") or ()}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.get(url, headers=headers, ssl=False) as answer,
        ):
            return f"container {container['name']}: GET {url} answered {answer.status}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise HookFailed(f"container {container['name']}: GET {url}: {error}") from error


def _port(container: Json, port: Any) -> int:
    if str(port).isdecimal():
        return int(port)
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise HookFailed(f"container {container['name']} has no port {port!r}")
