"""Which images a release changes. Pure."""

from __future__ import annotations

from typing import Final

from services.executor.stable_template import stable_template
from shared.domain.deployflow import containers_of
from shared.domain.json_types import Json
from shared.domain.messages import ImageChange
from shared.domain.safe_text import shortened
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

MOST: Final = 10
"""Containers in `.status`, the events and the log; few releases change the images of more than two."""
LONGEST: Final = 512
"""Characters of an image. Registries take names of 255, tags of 128 and digests of 71."""


def image_changes(live: CloneSet | None, template: Json) -> list[ImageChange]:
    """Return the containers whose image differs between what serves and `template`, which the release brings.

    After a release that failed, its template may still be in the CloneSet: then the one before it serves. A release back
    to that one starts from the failed one.
    """
    after = _images(template)
    if live is None:
        return _differences({}, after)
    if cs.STABLE_REVISION in live.metadata.annotations:
        # the template that serves is in a ControllerRevision, too large for a look at its images
        return []
    stable = _images(stable_template(live, None))
    return (_differences(stable, after) if stable else []) or _differences(_images(live.spec.template), after)


def _images(template: Json | None) -> dict[str, str]:
    return {str(one.get("name", "")): str(one.get("image", "")) for one in containers_of(template)}


def _differences(before: dict[str, str], after: dict[str, str]) -> list[ImageChange]:
    changed = [name for name in {**after, **before} if before.get(name, "") != after.get(name, "")]
    return [
        ImageChange(
            container=name,
            from_image=shortened(before.get(name, ""), LONGEST),
            to_image=shortened(after.get(name, ""), LONGEST),
        )
        for name in changed[:MOST]
    ]
