"""Builds the specs of new releases from the state of an instance and a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from pydantic import ValidationError

from shared.domain.deploy_commands import UNKNOWN, Refusal, deployflow_name, manifest
from shared.domain.deployflow import (
    Action,
    DeployFlowSpec,
    FlowPhase,
    Inheritance,
    Mode,
    NonUpdateStrategy,
    Unsaid,
    containers_of,
    problems,
)
from shared.domain.json_types import Json
from shared.domain.requesters import Origin
from shared.releases import history


class Unfit(Exception):
    """A request that does not fit; `field`: the field at fault by its wire name, if it is only one."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class Known(NamedTuple):
    """An instance as it is: its releases, oldest first, its CloneSet and the names of its pods."""

    instance: str
    releases: Sequence[Json]
    cloneset: Json | None
    pods: Sequence[str] = ()


class Wish(NamedTuple):
    """The fields that an update changes; None keeps it as the last successful release has it. `strategy`: the fields
    that differ from those that the last create or update requested.
    """

    image: str
    container: str | None = None
    replicas: int | None = None
    strategy: Json = {}  # noqa: RUF012 - never changed


def checked(spec: Json) -> DeployFlowSpec:
    """Parse the spec; raises `Unfit` naming what does not fit."""
    try:
        return DeployFlowSpec.model_validate(spec)
    except ValidationError as error:
        raise Unfit("", problems(error, "spec")) from error


def _from_wish(spec: Json) -> DeployFlowSpec:
    """Parse a spec that is made of a wish; raises `Unfit` naming the wish's fields, as nobody wrote the spec."""
    try:
        return DeployFlowSpec.model_validate(spec)
    except ValidationError as error:
        raise _unfit(error) from error


_OF_A_WISH: Final = (("updateStrategy", "strategy"), ("nonUpdateStrategy", "strategy"))


def _unfit(error: ValidationError, where: str = "") -> Unfit:
    text = problems(error, where)
    for field, of_the_wish in _OF_A_WISH:
        text = re.sub(rf"(^|; ){field}(?=[.:])", rf"\1{of_the_wish}", text)
    return Unfit("", re.sub(r"(^|; )application\.(?=replicas:)", r"\1", text))


def update(known: Known, wish: Wish) -> DeployFlowSpec:
    """Return the spec of an update: the last good one with another image, and the present replicas by default.

    Where none was good, the first one is the base, with its count; where all were deleted, the CloneSet. Where the end
    of one that runs decides what else it has, it inherits that when it begins; until then it has what that one brings.
    Its strategy is that of the last create or update, as it was requested, with the fields of the wish.
    """
    base = history.update_base(known.releases, known.instance, known.cloneset)
    replicas = history.replicas_now(known.releases, known.cloneset) if history.is_good(base) else None
    wish = wish._replace(strategy=history.inherited_strategy(known.releases, base) | wish.strategy)
    running = history.running_update(known.releases)
    if running is None:
        return updated(base, wish, replicas)
    after = updated(running, wish, replicas)
    with suppress(Unfit):
        if updated(base, wish, replicas) == after:
            return after
    name = wish.container or containers_of(after.application.template)[0]["name"]
    return after.model_copy(update={"inherits": Inheritance(images={name: wish.image})})


def inherit(flow: Json, earlier: Sequence[Json], cloneset: Json | None) -> DeployFlowSpec:
    """Return the spec of an update that begins, with the application that it inherits; count and strategy stay.

    `earlier`: the releases before it. Where these are gone, it has what was last known. Raises `Unfit`.
    """
    own = {key: value for key, value in flow["spec"].items() if key != "inherits"}
    application = own["application"]
    try:
        base = history.update_base(earlier, application["instanceName"], cloneset)
    except Refusal:
        return checked(own)
    count = application.get("replicas", 1)
    spec = history.new_spec(base, Action.UPDATE, count, own.get("updateStrategy") or {})
    for container, image in (flow["spec"]["inherits"].get("images") or {}).items():
        _set_image(spec, container, image)
    return checked(spec)


def updated(base: Json, wish: Wish, replicas: int | None = None) -> DeployFlowSpec:
    """Return the spec of an update of `base`, the last good release, with the strategy of the wish.

    `replicas`: the present count.
    """
    count = replicas if wish.replicas is None else wish.replicas
    spec = history.new_spec(base, Action.UPDATE, count, wish.strategy)
    names = [container["name"] for container in containers_of(spec["application"].get("template"))]
    if not names:
        raise Unfit("container", f"the template of {spec['application']['instanceName']} has none")
    if wish.container is None and len(names) > 1:
        raise Unfit("container", f"say which container gets the image, one of {', '.join(names)}")
    _set_image(spec, wish.container or names[0], wish.image)
    return _from_wish(spec)


def _set_image(spec: Json, name: str, image: str) -> None:
    containers: list[Json] = spec["application"]["template"]["spec"]["containers"]
    names = [container["name"] for container in containers]
    if name not in names:
        raise Unfit("container", f"there is no {name}, only {', '.join(names)}")
    containers[names.index(name)]["image"] = image


def keeping(known: Known, kind: Action, strategy: Json, replicas: int | None = None) -> DeployFlowSpec:
    """Return the spec of an action that keeps the template; without `replicas` the count stays."""
    now = replicas_of(known)
    history.refuse_bad_template(known.instance, kind, known.cloneset)
    try:
        named = NonUpdateStrategy.model_validate(strategy).pods_to_delete or []
    except ValidationError as error:
        raise _unfit(error, "strategy") from error
    if unknown := [name for name in named if name not in known.pods]:
        there = ", ".join(sorted(known.pods)) or "none"
        raise Unfit("podsToDelete", f"{known.instance} has no pod {', '.join(unknown)}; its pods: {there}")
    return _from_wish(
        {
            "action": str(kind),
            "application": {
                **history.identity(known.releases, known.instance, known.cloneset),
                "replicas": now if replicas is None else replicas,
            },
            "nonUpdateStrategy": {"mode": str(Mode.AUTO), **_patience(known), **strategy},
        }
    )


def replicas_of(known: Known) -> int:
    """Return the replicas that it is meant to have now."""
    replicas = history.replicas_now(known.releases, known.cloneset)
    if replicas is None:
        raise Refusal(
            "NotFound",
            f"{known.instance} does not exist (there is no CloneSet of that name): create it first",
        )
    return replicas


def _patience(known: Known) -> Json:
    """Return how long its containers may take to start: the longest of its last good release and the one that runs."""
    running = history.running_update(known.releases)
    bases = [running] if running is not None else []
    with suppress(Refusal):
        bases.append(history.last_good(known.releases, known.instance))
    strategies = [history.of_the_application(base) for base in bases]
    # an update's strategy has fields that these actions have not
    own = {str(info.alias): info.default for info in NonUpdateStrategy.model_fields.values()}
    said = own.keys() & {key for strategy in strategies for key in strategy}
    return {key: max(strategy.get(key, own[key]) for strategy in strategies) for key in sorted(said)}


def restart(known: Known, strategy: Json) -> DeployFlowSpec:
    return keeping(known, Action.RESTART, strategy)


def scale(known: Known, replicas: int | None, strategy: Json) -> DeployFlowSpec | None:
    """Return the spec of a scale in or out from the present count; None where it has, and keeps, that many.

    `replicas` None: as many as there are.
    """
    now = replicas_of(known)
    if replicas is None:
        return None
    if replicas == now and not history.is_waiting(known.releases):
        return None
    return keeping(known, Action.SCALE_OUT if replicas > now else Action.SCALE_IN, strategy, replicas)


def stop(known: Known, strategy: Json) -> DeployFlowSpec:
    return keeping(known, Action.STOP, strategy, 0)


def start(known: Known, strategy: Json) -> DeployFlowSpec:
    """Return the spec of a start: to the count before the stop, else to that of the last good release."""
    count = max(history.stopped_from(known.cloneset), replicas_of(known))
    if not count:
        base = history.last_good(known.releases, known.instance, known.cloneset)
        count = int(base["spec"]["application"].get("replicas", 1)) or 1
    return keeping(known, Action.START, strategy, count)


def delete(known: Known, strategy: Json) -> DeployFlowSpec:
    return keeping(known, Action.DELETE, strategy, 0)


def title(base: Json) -> str:
    """Describe a release by what it released: `web-kvnpb (update, web:2.0)`."""
    spec, phase = base["spec"], (base.get("status") or {}).get("phase")
    template = spec["application"].get("template")
    images = ", ".join(str(container.get("image", "")) for container in containers_of(template))
    ended = "" if phase == FlowPhase.SUCCESS else f", {phase or FlowPhase.PENDING}"
    return f"{base['metadata']['name']} ({spec['action']}, {images}{ended})"


class WayBack(NamedTuple):
    base: Json
    spec: DeployFlowSpec


def rollback(known: Known, to: str | None, strategy: Json) -> WayBack:
    """Return the way back to the release named, else to the last good one before.

    Raises `Unfit` where `to` is none to go back to, `Refusal` where there is none.
    """
    try:
        base = history.rollback_to(known.releases, known.instance, to)
    except Refusal as refusal:
        if to is None:
            raise
        raise Unfit("deployName", str(refusal).removeprefix("deployFlow: ")) from refusal
    replicas = history.replicas_now(known.releases, known.cloneset)
    try:
        return WayBack(base, history.rollback(base, replicas, strategy))
    except ValidationError as error:
        raise _unfit(error) from error


def brought_by(flow: Json, earlier: Json) -> bool:
    """Return whether the rollback `flow` has the template of this earlier successful release."""
    template = flow["spec"]["application"].get("template")
    return (
        history.is_good(earlier)
        and earlier["metadata"]["uid"] != flow["metadata"]["uid"]
        and earlier["spec"]["application"].get("template") == template
    )


def release(
    spec: DeployFlowSpec,
    *,
    namespace: str,
    request_id: str,
    requested_by: str,
    origin: Origin = UNKNOWN,
    freeze_override: str = "",
    unsaid: Unsaid = Unsaid.NOTHING,
) -> Json:
    """Return the DeployFlow to create; the same request results in the same name."""
    return manifest(
        spec,
        name=deployflow_name(spec.application.instance_name, request_id),
        namespace=namespace,
        request_id=request_id,
        requested_by=requested_by,
        origin=origin,
        freeze_override=freeze_override,
        unsaid=unsaid,
    )
