"""`triton update`: a new release of an instance that differs from its last good one only in what is named."""

from __future__ import annotations

from typing import Any, NamedTuple

from cli.exits import BadInput
from cli.specs import checked, paced
from shared.deployflow import Action, DeployFlowSpec
from shared.history import anew

Json = dict[str, Any]


class Wish(NamedTuple):
    """What the person wants changed; None keeps it as it is."""

    image: str
    container: str | None = None
    replicas: int | None = None
    batch_size: str | None = None
    canary: int | None = None
    mode: str | None = None
    interval: int | None = None


def spec_for(base: Json, wish: Wish, replicas: int | None = None) -> DeployFlowSpec:
    """The spec of the update, from `base`, the last good release, and the count that runs now; raises `BadInput`
    naming what does not fit.
    """
    spec = anew(base, Action.UPDATE, replicas if wish.replicas is None else wish.replicas)
    _set_image(spec["application"], wish)
    spec["updateStrategy"] |= paced(wish.batch_size, wish.mode, wish.interval)
    if wish.canary is not None:
        spec["updateStrategy"]["canary"] = wish.canary
    return checked(spec)


def _set_image(application: Json, wish: Wish) -> None:
    containers: list[Json] = application["template"]["spec"]["containers"]
    names = [container["name"] for container in containers]
    if wish.container is None and len(containers) > 1:
        msg = f"--container: say which container gets the image, one of {', '.join(names)}"
        raise BadInput(msg)
    name = wish.container or names[0]
    if name not in names:
        msg = f"--container: there is no {name}, only {', '.join(names)}"
        raise BadInput(msg)
    containers[names.index(name)]["image"] = wish.image
