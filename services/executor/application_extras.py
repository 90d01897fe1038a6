"""Volume claims and type of an application, the parts outside its pod template. Pure, like `cloneset_change`.

A release that does not set them leaves those of the CloneSet.
"""

from __future__ import annotations

import json

from shared.domain.deployflow import Application
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

CLAIMS = "volumeClaimTemplates"


def write_extras(application: Application, live: CloneSet | None, body: Json) -> None:
    """Write both into `body`: a new CloneSet, or the patch that writes the template."""
    annotations = body["metadata"]["annotations"]
    if application.application_type is not None:
        annotations[cs.APPLICATION_TYPE] = application.application_type
    if application.volume_claim_templates is None:
        return
    body["spec"][CLAIMS] = application.volume_claim_templates
    if live is not None and cs.STABLE_CLAIMS not in live.metadata.annotations:
        annotations[cs.STABLE_CLAIMS] = json.dumps(live.spec.volume_claim_templates)


def restore_claims(live: CloneSet, body: Json) -> None:
    """Put the claims of the last good release back into `body`, beside its template."""
    stable = cs.kept_value(live, cs.STABLE_CLAIMS, list)
    if stable is not None:
        body["spec"][CLAIMS] = stable


def forget_stable_claims(live: CloneSet, annotations: Json) -> None:
    """Remove the stored claims: no release can restore them any more."""
    if cs.STABLE_CLAIMS in live.metadata.annotations:
        annotations[cs.STABLE_CLAIMS] = None


def dry_run_extras(application: Application) -> Json:
    """Return the part of the spec that a dry run tries beside the template."""
    claims = application.volume_claim_templates
    return {} if claims is None else {CLAIMS: claims}


def claims_only_error(live: CloneSet, after: Json) -> str:
    """Return the error of a change of the claims without the template, which no pod would get; empty if there is none."""
    if (after["spec"].get(CLAIMS) or []) == live.spec.volume_claim_templates:
        return ""
    return (
        f"application.{CLAIMS}: they can only change together with the template, otherwise no pod gets them"
    )
