"""What an application has beside its pod template: its volume claims and its type. Pure, like `change`.

Where a release does not say them, those of the CloneSet stay.
"""

from __future__ import annotations

import json
from typing import Any

from shared.domain.deployflow import Application
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

Json = dict[str, Any]
CLAIMS = "volumeClaimTemplates"


def write(application: Application, live: CloneSet | None, body: Json) -> None:
    """Into a new CloneSet, or into the patch that writes the template."""
    annotations = body["metadata"]["annotations"]
    if application.application_type is not None:
        annotations[cs.APPLICATION_TYPE] = application.application_type
    if application.volume_claim_templates is None:
        return
    body["spec"][CLAIMS] = application.volume_claim_templates
    if live is not None and cs.STABLE_CLAIMS not in live.metadata.annotations:
        annotations[cs.STABLE_CLAIMS] = json.dumps(live.spec.volume_claim_templates)


def restore(live: CloneSet, body: Json) -> None:
    """With the template of the last good release its claims come back."""
    stable = live.metadata.annotations.get(cs.STABLE_CLAIMS)
    if stable is not None:
        body["spec"][CLAIMS] = json.loads(stable)


def forget(live: CloneSet, annotations: Json) -> None:
    """The claims of before: the release that might have brought them back is over."""
    if cs.STABLE_CLAIMS in live.metadata.annotations:
        annotations[cs.STABLE_CLAIMS] = None


def tried(application: Application) -> Json:
    """What a dry run tries of it beside the template."""
    claims = application.volume_claim_templates
    return {} if claims is None else {CLAIMS: claims}


def only_claims(live: CloneSet, after: Json) -> str:
    """What is said against a release that leaves the template as it is and changes the claims: no pod would get them."""
    if (after["spec"].get(CLAIMS) or []) == live.spec.volume_claim_templates:
        return ""
    return f"application.{CLAIMS}: they only change together with the template, else no pod gets them"
