"""The first answer about a release, what can be done now, and what each way brings back. Pure."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import Final, NamedTuple

from cli.outcome import FAILED_PHASES, Outcome, is_stopped, outcome_of
from cli.output import age
from shared.domain.deploy_commands import Refusal
from shared.domain.deployflow import Action
from shared.domain.image_changes import changes_in, describe_images
from shared.domain.json_types import Json
from shared.domain.safe_text import shortened
from shared.releases import history
from shared.releases.specs import Known

_WITH_TEMPLATE = (Action.CREATE, Action.UPDATE, Action.ROLLBACK)
_EXIT_CODE: Final = re.compile(r"\bexit code (\d+)")
_LONGEST: Final = 160
"""Characters of a message in the one line; the details have it whole."""


class Way(NamedTuple):
    """A command that a person may send now, and what follows from it."""

    command: str
    effect: str


def headline(flow: Json, now: datetime, known: Known | None = None) -> str:
    """Return the state of a release in one line: what it brings, where it stands and why, and what serves meanwhile."""
    return " · ".join(part for part in (_brings(flow, known), _stands(flow, now), _serves(flow)) if part)


def _brings(flow: Json, known: Known | None) -> str:
    application, action = flow["spec"]["application"], flow["spec"]["action"]
    after = images(application.get("template"))
    if action not in _WITH_TEMPLATE or not after:
        return f"{action} of {application['instanceName']}"
    if action == Action.CREATE:
        return f"create with {', '.join(after)}"
    if changes := changes_in(flow.get("status") or {}):
        return describe_images(changes)
    base = _base_of(known)
    before = images(base["spec"]["application"].get("template")) if base else []
    old = [image for image in before if image not in after]
    new = [image for image in after if image not in before] or after
    return f"{', '.join(old)} → {', '.join(new)}" if old else f"{action} to {', '.join(new)}"


def _base_of(known: Known | None) -> Json | None:
    """Return the last successful release with another template, which a rollback goes back to."""
    try:
        return history.rollback_to(known.releases, known.instance) if known else None
    except Refusal:
        return None


def images(template: Json | None) -> list[str]:
    spec = (template or {}).get("spec") or {}
    return [str(container.get("image", "")) for container in spec.get("containers") or []]


def _stands(flow: Json, now: datetime) -> str:
    status = flow.get("status") or {}
    conditions = status.get("conditions") or []
    message = shortened(str(status.get("message") or ""), _LONGEST)
    if status.get("finished"):
        words = f"{status.get('phase')} {age(status.get('finishedAt') or status.get('updatedAt'), now)} ago"
        return f"{words}: {message}" if message else words
    if not conditions:
        return f"has not begun: {message}" if message else "has not begun"
    batch = conditions[-1]
    place = f"{'canary' if batch.get('canary') else 'batch'} {batch['batch']} of {max(status.get('batches', 0), batch['batch'])}"
    since = f"{age(status.get('updatedAt'), now)} ago" if status.get("updatedAt") else ""
    if batch["phase"] in FAILED_PHASES:
        return f"{place} failed {since}".rstrip() + f": {_failures(batch) or message}"
    if is_stopped(flow):
        return f"stopped in {place}: {message}"
    if outcome_of(flow) == Outcome.WAITING:
        return message or f"{place} waits"
    ready = sum(pod.get("phase") == "Ready" for pod in batch.get("pods") or [])
    if batch.get("finishedAt"):
        return f"{place} is finished"
    return f"{place} is {batch['phase']}, {ready} of {batch['batchSize']} pods ready"


def _failures(batch: Json) -> str:
    """Return `2 of 2 pods CrashLoopBackOff (exit 1)`: the pods that failed the batch, by reason; empty where none is named."""
    reasons = Counter(
        _reason(pod) for pod in batch.get("pods") or [] if pod.get("phase") == "Failed" and pod.get("reason")
    )
    return ", ".join(
        f"{count} of {batch['batchSize']} pods {reason}" for reason, count in reasons.most_common(3)
    )


def _reason(pod: Json) -> str:
    code = _EXIT_CODE.search(pod.get("message") or "")
    return f"{pod['reason']} (exit {code[1]})" if code else str(pod["reason"])


def _serves(flow: Json) -> str:
    """Return how many pods of which template serve, where the release brings one."""
    status = flow.get("status") or {}
    if flow["spec"]["action"] not in _WITH_TEMPLATE or "availableReplicas" not in status:
        return ""
    new = status.get("updatedReadyReplicas", 0)
    old = max(status["availableReplicas"] - new, 0)
    if not old and not new:
        return "no pod serves"
    if flow["spec"]["action"] == Action.CREATE:
        return f"{new} pods serve"
    counts = [f"{count} {which}" for count, which in ((new, "new"), (old, "old")) if count]
    return f"{' and '.join(counts)} pods serve"


def ways(flow: Json, known: Known | None) -> list[Way]:
    """Return what can be done now, the usual first. `known`: the instance, for what a rollback brings back."""
    status = flow.get("status") or {}
    name, instance = flow["metadata"]["name"], flow["spec"]["application"]["instanceName"]
    if outcome_of(flow) == Outcome.RUNNING or status.get("finished"):
        return []
    found: list[Way] = []
    if is_stopped(flow):
        found.append(Way(f"triton retry {name}", "makes the failed pods again, with their full time"))
    elif status.get("reason") == "WaitingForNext":
        found.append(Way(f"triton next {name}", _next(status)))
        found.append(Way(f"triton promote {name}", "approves all that is left"))
    else:
        found.append(Way(f"triton resume {name}", "goes on where it was"))
    if flow["spec"]["action"] in _WITH_TEMPLATE:
        back = _brought_back(flow, known)
        if back:
            found.append(Way(f"triton rollback {instance}", back))
    found.append(Way(f"triton cancel {name}", _canceled(flow)))
    return found


def _next(status: Json) -> str:
    conditions = status.get("conditions") or []
    last: Json = conditions[-1] if conditions else {"phase": "", "batch": 0}
    if last.get("finishedAt") or status.get("finishedBatches", 0) >= last["batch"]:
        return f"starts batch {last['batch'] + 1}"
    what = "the canary" if last.get("canary") else f"batch {last['batch']}"
    return f"sends traffic to {what}" if last["phase"] == "Smoked" else f"accepts {what}"


def _canceled(flow: Json) -> str:
    if flow["spec"]["action"] not in _WITH_TEMPLATE:
        return "ends it here"
    accepted = (flow.get("status") or {}).get("finishedReplicas", 0)
    rest = f"; the {accepted} accepted ones stay" if accepted else ""
    return f"removes the new pods that nobody has accepted, and brings the old template back{rest}"


def _brought_back(flow: Json, known: Known | None) -> str:
    base = _base_of(known)
    if base is None:
        return ""
    count = flow["spec"]["application"].get("replicas", 1)
    what = ", ".join(images(base["spec"]["application"].get("template"))) or "its template"
    return f"brings back {what} of {base['metadata']['name']}, {count} pods"
