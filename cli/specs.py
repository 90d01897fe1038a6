"""The specs of the releases that the verbs start: pure, from what is known of the instance and what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cli.exits import BadInput, Failure
from shared import history
from shared.commands import Refusal, deployflow_name, manifest
from shared.deployflow import Action, DeployFlowSpec, FlowPhase, Mode, containers_of, problems

Json = dict[str, Any]


class Known(NamedTuple):
    """An instance as it is: its releases, oldest first, its CloneSet and the names of its pods."""

    instance: str
    releases: Sequence[Json]
    cloneset: Json | None
    pods: Sequence[str] = ()


class Asked(NamedTuple):
    """What the options say; None and () leave it to Triton."""

    batch_size: str | None = None
    mode: str | None = None
    interval: int | None = None
    pods: tuple[str, ...] = ()

    @property
    def strategy(self) -> Json:
        named = {"podsToDelete": list(self.pods)} if self.pods else {}
        return paced(self.batch_size, self.mode, self.interval) | named


def paced(batch_size: str | None, mode: str | None, interval: int | None) -> Json:
    """The strategy fields of the options that every release has."""
    asked = {"batchSize": _batch_size(batch_size), "mode": mode, "batchIntervalSeconds": interval}
    return {key: value for key, value in asked.items() if value is not None}


def _batch_size(text: str | None) -> int | str | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text


def checked(spec: Json) -> DeployFlowSpec:
    """Raises `BadInput` naming what does not fit."""
    from pydantic import ValidationError

    try:
        return DeployFlowSpec.model_validate(spec)
    except ValidationError as error:
        raise BadInput(problems(error, "spec")) from error


def keeping(known: Known, kind: Action, asked: Asked, replicas: int | None = None) -> DeployFlowSpec:
    """An action that keeps the template, to so many replicas, else to those there are."""
    now = replicas_of(known)
    if unknown := [name for name in asked.pods if name not in known.pods]:
        there = ", ".join(sorted(known.pods)) or "none"
        msg = f"--pod: {known.instance} has no pod {', '.join(unknown)}; its pods: {there}"
        raise BadInput(msg)
    return checked(
        {
            "action": str(kind),
            "application": {
                **history.identity(known.releases, known.instance),
                "replicas": now if replicas is None else replicas,
            },
            "nonUpdateStrategy": {"mode": str(Mode.AUTO), **_patience(known), **asked.strategy},
        }
    )


def replicas_of(known: Known) -> int:
    """The count that it is meant to have now."""
    replicas = history.replicas_now(known.releases, known.cloneset)
    if replicas is None:
        msg = f"{known.instance} does not exist (there is no CloneSet of that name): create it first"
        raise Failure(msg)
    return replicas


def _patience(known: Known) -> Json:
    """How long its containers may take to start, as its last good release has it."""
    try:
        told = history.of_the_application(history.last_good(known.releases, known.instance))
    except Refusal:
        return {}
    return {key: value for key, value in told.items() if key != "noPullIn"}


def restart(known: Known, asked: Asked) -> DeployFlowSpec:
    return keeping(known, Action.RESTART, asked)


def scale(known: Known, replicas: int, asked: Asked) -> DeployFlowSpec | None:
    """In or out, from what there is; None where it has that many."""
    now = replicas_of(known)
    if replicas == now:
        return None
    return keeping(known, Action.SCALE_OUT if replicas > now else Action.SCALE_IN, asked, replicas)


def stop(known: Known, asked: Asked) -> DeployFlowSpec:
    return keeping(known, Action.STOP, asked, 0)


def start(known: Known, asked: Asked) -> DeployFlowSpec:
    """Back to the count before the stop, else to that of its last good release."""
    count = max(history.stopped_from(known.cloneset), replicas_of(known))
    if not count:
        base = history.last_good(known.releases, known.instance)
        count = int(base["spec"]["application"].get("replicas", 1))
    return keeping(known, Action.START, asked, count)


def delete(known: Known, asked: Asked) -> DeployFlowSpec:
    return keeping(known, Action.DELETE, asked, 0)


def title(base: Json) -> str:
    """A release by what it released: `web-kvnpb (update, web:2.0)`."""
    spec, phase = base["spec"], (base.get("status") or {}).get("phase")
    template = spec["application"].get("template")
    images = ", ".join(str(container.get("image", "")) for container in containers_of(template))
    ended = "" if phase == FlowPhase.SUCCESS else f", {phase or FlowPhase.PENDING}"
    return f"{base['metadata']['name']} ({spec['action']}, {images}{ended})"


class WayBack(NamedTuple):
    base: Json
    spec: DeployFlowSpec


def rollback(known: Known, to: str | None, asked: Asked) -> WayBack:
    """To the release named, else the last good one before; raises `BadInput` where `to` is none to go back to."""
    from pydantic import ValidationError

    try:
        base = history.rollback_to(known.releases, known.instance, to)
    except Refusal as refusal:
        if to is None:
            raise
        msg = f"--to: {str(refusal).removeprefix('deployFlow: ')}"
        raise BadInput(msg) from refusal
    replicas = history.replicas_now(known.releases, known.cloneset)
    try:
        return WayBack(base, history.rollback(base, replicas, asked.strategy))
    except ValidationError as error:
        raise BadInput(problems(error, "spec")) from error


def release(
    spec: DeployFlowSpec, *, namespace: str, request_id: str, requested_by: str, freeze_override: str = ""
) -> Json:
    """The DeployFlow to create; the same request gives the same name."""
    return manifest(
        spec,
        name=deployflow_name(spec.application.instance_name, request_id),
        namespace=namespace,
        request_id=request_id,
        requested_by=requested_by,
        freeze_override=freeze_override,
    )
