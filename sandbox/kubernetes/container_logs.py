"""The output of `kubectl logs`: a few lines that say that they are simulated, and the refusals of a real kubelet.

`sandbox.triton.io/log` says what the containers of a pod have written.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.domain.json_types import Json

from .errors import bad_request
from .objects import annotations_of, name_of
from .requests import is_true, number

LOG = "sandbox.triton.io/log"


def log_text(pod: Json, query: Mapping[str, str]) -> str:
    """Return the log that `query` selects (container, previous, tailLines, limitBytes); raise a 400 where
    there is none.
    """
    containers = [entry["name"] for entry in pod["spec"]["containers"]]
    name = query.get("container") or containers[0]
    if name not in containers:
        raise bad_request(f"container {name} is not valid for pod {name_of(pod)}")
    states = (pod.get("status") or {}).get("containerStatuses") or []
    state: Json = next((entry for entry in states if entry["name"] == name), {})
    running: Json = (state.get("state") or {}).get("running") or {}
    ended: Json = (state.get("lastState") or {}).get("terminated") or {}
    if is_true(query, "previous"):
        if not ended:
            raise bad_request(f'previous terminated container "{name}" in pod "{name_of(pod)}" not found')
        running = {}
    if not running and not ended:
        raise bad_request(f'container "{name}" in pod "{name_of(pod)}" is waiting to start')
    lines = [f"[sandbox] simulated log: no container runs behind pod {name_of(pod)}, container {name}"]
    lines.append(f"{(running or ended)['startedAt']} {name} started (simulated)")
    lines += annotations_of(pod).get(LOG, "").splitlines()
    if not running:
        lines.append(
            f"{ended['finishedAt']} fatal: exit code {ended['exitCode']}: {ended.get('message', '')} (simulated)"
        )
    tail = number(query, "tailLines")
    text = "".join(f"{line}\n" for line in (lines if tail is None else lines[max(len(lines) - tail, 0) :]))
    return text.encode()[: number(query, "limitBytes")].decode(errors="ignore")
