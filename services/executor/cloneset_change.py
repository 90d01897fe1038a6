"""Decides from a batch command and the live CloneSet on its one change, or on the answer that none is needed.

Pure. Every change is an absolute merge patch with the command's sequence in it: writing it twice has the effect of
writing it once, and a lower sequence is never written. `guarded_write` makes it conditional on the state it was
decided on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from services.executor import application_extras
from shared.domain import deployflow as df
from shared.domain import messages as m
from shared.domain.deployflow import READINESS_GATE, Application
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet, facts_of

T = TypeVar("T", dict[str, Any], list[Any])

TRITON_STRATEGY: Json = {"paused": True, "maxSurge": 0, "maxUnavailable": "100%"}
"""With it the CloneSet never updates a pod on its own, and only creates and deletes the pods of a command; every other
combination can block a deletion forever (OpenKruise 1.8's scale arithmetic)."""
RELEASED_STRATEGY: Json = {"paused": False, "partition": 0, "maxSurge": None, "maxUnavailable": None}


class BadTemplate(Exception):
    """The template has a shape that labels and gate cannot be added to, and that no API server would accept."""


class Create(NamedTuple):
    body: Json


class Patch(NamedTuple):
    """`before`: the pods that existed before the change."""

    body: Json
    before: tuple[m.PodRef, ...]


class Delete(NamedTuple):
    """`body`: DeleteOptions with the uid and the resource version that were read as preconditions."""

    body: Json


class Answer(NamedTuple):
    result: m.Result


def decide_change(
    command: m.ExecutorCommand, live: CloneSet | None, pods: Sequence[m.PodRef]
) -> Create | Patch | Delete | Answer:
    """Decide what to do for `command`; `pods` are those of the CloneSet that are not being deleted."""
    head: Json = {"namespace": command.namespace, "instance": command.instance, "sequence": command.sequence}
    if isinstance(command, m.Observe):
        return Answer(m.Done(**head, cloneset=facts_of(live), pods=list(pods)))
    if live is None:
        if isinstance(command, m.Surge) and command.create:
            return Create(_new_cloneset(command))
        if isinstance(command, m.Remove):
            return Answer(m.Done(**head, cloneset=facts_of(None)))
        text = f"CloneSet {command.namespace}/{command.instance} does not exist"
        return Answer(m.Refused(**head, reason="NotFound", message=text))
    if live.sequence > command.sequence:
        return Answer(m.Superseded(**head, current=live.sequence))
    if isinstance(command, m.Remove):
        return _remove(live, head)
    before = tuple(pods_before(command, live, pods))
    if live.sequence == command.sequence:
        return Answer(m.Done(**head, cloneset=facts_of(live), pods=list(before)))
    if isinstance(command, m.Scale):
        missing = sorted(set(command.retire) - {pod.uid for pod in pods})
        if missing:
            return Answer(m.VictimsGone(**head, gone=missing))
        if live.spec.replicas not in {live.replicas_set, command.accept_replicas}:
            return Answer(m.ReplicasChanged(**head, replicas=live.spec.replicas))
    return Patch(_patch(command, live, pods), before)


def _remove(live: CloneSet, head: Json) -> Delete | Answer:
    if live.spec.replicas:
        # somebody has scaled it up meanwhile: its pods are drained first
        return Answer(m.ReplicasChanged(**head, replicas=live.spec.replicas))
    preconditions = {"uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version}
    return Delete({"propagationPolicy": "Background", "preconditions": preconditions})


def pods_before(command: m.Command, live: CloneSet, pods: Sequence[m.PodRef]) -> list[m.PodRef]:
    """Return the pods that no surge of this batch created.

    Once the surge is written, pods with a closed gate count as created by it. Their revision is not known before the
    CloneSet's controller has caught up.
    """
    hold = live.hold
    if not isinstance(command, m.Surge) or hold is None:
        return list(pods)
    if (hold.flow, hold.batch) != (command.hold.flow, command.hold.batch):
        return list(pods)
    target = live.status.update_revision
    return [pod for pod in pods if pod.gate != m.Gate.CLOSED or (live.settled and pod.revision != target)]


def _patch(command: m.ExecutorCommand, live: CloneSet, pods: Sequence[m.PodRef]) -> Json:
    annotations: Json = {cs.SEQUENCE: str(command.sequence), cs.RELEASE: command.flow.model_dump_json()}
    body: Json = {"metadata": {"annotations": annotations}, "spec": {}}
    if live.owner:
        # Triton 0.1.x made the DeployFlow its owner: deleting the DeployFlow would delete the CloneSet
        body["metadata"]["ownerReferences"] = live.other_owners or None
    spec = body["spec"]
    match command:
        case m.Surge():
            _write_strategy(live, annotations, spec, command.partition)
            _write_count(annotations, spec, command.replicas)
            annotations[cs.HOLD] = command.hold.model_dump_json()
            annotations[cs.NO_PULL_IN] = "true" if command.no_pull_in else None
            spec["scaleStrategy"] = {"podsToDelete": _names_to_delete(command.retire, live, pods)}
            if command.application is not None:
                _write_template(command.application, live, body)
        case m.Retire():
            _write_strategy(live, annotations, spec, command.partition)
            _write_count(annotations, spec, command.replicas)
            annotations[cs.HOLD] = None
            spec["scaleStrategy"] = {"podsToDelete": _names_to_delete(command.retire, live, pods)}
        case m.Halt():
            _write_count(annotations, spec, _halted_replicas(live, len(pods)))
            spec["scaleStrategy"] = {"podsToDelete": []}
        case m.Cancel():
            _cancel(command, live, pods, body)
        case m.Finish():
            _finish(command, live, annotations, spec)
    return body


def _finish(command: m.Finish, live: CloneSet, annotations: Json, spec: Json) -> None:
    spec["scaleStrategy"] = {"podsToDelete": []}
    annotations |= {cs.HOLD: None, cs.RELEASE: None, cs.STABLE_TEMPLATE: None}
    application_extras.forget_stable_claims(live, annotations)
    if not command.mixed:
        owner = json.loads(live.metadata.annotations.get(cs.OWNER_STRATEGY, "{}"))
        spec["updateStrategy"] = {**RELEASED_STRATEGY, **owner, "partition": 0, "paused": False}
        annotations[cs.OWNER_STRATEGY] = None
    first = live.metadata.annotations.get(cs.FIRST_RELEASE)
    if first == command.flow.uid or (first and command.good_template):
        annotations[cs.FIRST_RELEASE] = None
    if command.stopped or live.spec.replicas:
        annotations[cs.STOPPED] = str(command.stopped) if command.stopped else None


def _write_strategy(live: CloneSet, annotations: Json, spec: Json, partition: int) -> None:
    spec["updateStrategy"] = {**TRITON_STRATEGY, "partition": partition}
    if cs.OWNER_STRATEGY not in live.metadata.annotations:
        annotations[cs.OWNER_STRATEGY] = json.dumps(live.spec.update_strategy)


def _write_count(annotations: Json, spec: Json, replicas: int) -> None:
    spec["replicas"] = replicas
    annotations[cs.REPLICAS] = str(replicas)


def _write_template(application: Json, live: CloneSet, body: Json) -> None:
    wanted = template_of(Application.model_validate(application))
    body["spec"]["template"] = replacement_patch(live.spec.template, wanted)
    body["metadata"]["labels"] = Application.model_validate(application).labels()
    if cs.STABLE_TEMPLATE not in live.metadata.annotations:
        body["metadata"]["annotations"][cs.STABLE_TEMPLATE] = json.dumps(live.spec.template)
    application_extras.write_extras(Application.model_validate(application), live, body)


def _names_to_delete(uids: Sequence[str], live: CloneSet, pods: Sequence[m.PodRef]) -> list[str]:
    """Return the names of these pods, and of those named before that still exist."""
    names = {pod.name for pod in pods}
    before = [name for name in live.spec.scale_strategy.get("podsToDelete") or [] if name in names]
    wanted = [pod.name for pod in pods if pod.uid in set(uids)]
    return sorted({*before, *wanted})


def _halted_replicas(live: CloneSet, count: int) -> int:
    """Return the replicas at which no pod is created or deleted: the live count, but no less than served before."""
    hold = live.hold
    floor = hold.updated + hold.others if hold else live.spec.replicas
    return max(count, min(floor, live.spec.replicas))


def _cancel(command: m.Cancel, live: CloneSet, pods: Sequence[m.PodRef], body: Json) -> None:
    stable = live.metadata.annotations.get(cs.STABLE_TEMPLATE)
    restored = command.restore_template and stable is not None
    annotations, spec = body["metadata"]["annotations"], body["spec"]
    if restored:
        spec["template"] = replacement_patch(live.spec.template, json.loads(stable or "{}"))
        application_extras.restore_claims(live, body)
    others = command.keep - command.baked if command.restore_template else 0
    if live.metadata.annotations.get(cs.FIRST_RELEASE) == command.flow.uid:
        annotations[cs.FIRST_RELEASE] = cs.CANCELED
    # without a template to restore, the partition makes the replacement of a lost old pod an old one too
    _write_strategy(live, annotations, spec, command.baked if restored else others)
    _write_count(annotations, spec, command.keep)
    drop = set(command.drop)
    spec["scaleStrategy"] = {"podsToDelete": sorted(pod.name for pod in pods if pod.uid in drop)}
    annotations |= {cs.HOLD: None, cs.RELEASE: None, cs.STABLE_TEMPLATE: None}
    application_extras.forget_stable_claims(live, annotations)


def replacement_patch(live: Any, wanted: Any) -> Any:
    """Return the merge patch that makes `live` equal to `wanted`: what `wanted` lacks becomes null."""
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return wanted
    missing: Json = {key: None for key in live if key not in wanted}
    return missing | {key: replacement_patch(live.get(key), value) for key, value in wanted.items()}


def template_of(application: Application) -> Json:
    """Return the pod template with Triton's labels and readiness gate beside the owner's; raise `BadTemplate`."""
    template = application.template or {}
    metadata = _field(template, "metadata", dict)
    spec = _field(template, "spec", dict)
    own = _field(metadata, "labels", dict, "metadata.")
    labels = {**(application.application_label or {}), **own, **application.labels()}
    ours = {"conditionType": READINESS_GATE}
    gates = [gate for gate in _field(spec, "readinessGates", list, "spec.") if gate != ours]
    return {
        **template,
        "metadata": {**metadata, "labels": labels},
        "spec": {**spec, "readinessGates": [*gates, ours]},
    }


def _field(parent: Json, field: str, kind: type[T], path: str = "") -> T:
    value = parent.get(field)
    if value is not None and not isinstance(value, kind):
        msg = (
            f"application.template.{path}{field} must be a {'list' if kind is list else 'map'}, not {value!r}"
        )
        raise BadTemplate(msg)
    return value or kind()


def _new_cloneset(command: m.Surge) -> Json:
    """Return the CloneSet that the first release of an instance creates."""
    application = Application.model_validate(command.application)
    selector = application.selector or df.LabelSelector(match_labels=application.labels())
    body: Json = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "metadata": {
            "name": application.instance_name,
            "namespace": command.namespace,
            "labels": {**(application.application_label or {}), **application.labels()},
            "annotations": {
                cs.SEQUENCE: str(command.sequence),
                cs.HOLD: command.hold.model_dump_json(),
                cs.RELEASE: command.flow.model_dump_json(),
                cs.REPLICAS: str(command.replicas),
                cs.OWNER_STRATEGY: "{}",
                cs.FIRST_RELEASE: command.flow.uid,
                **({cs.NO_PULL_IN: "true"} if command.no_pull_in else {}),
            },
        },
        "spec": {
            "replicas": command.replicas,
            "selector": selector.model_dump(exclude_none=True),
            "template": template_of(application),
            "updateStrategy": {**TRITON_STRATEGY, "partition": command.partition},
        },
    }
    application_extras.write_extras(application, None, body)
    return body


def dry_run_body(command: m.Observe, live: CloneSet | None) -> Json:
    """Return the body of a server-side dry run: the patch of the template, or the whole new CloneSet."""
    application = command.application or {}
    if live is None:
        hold = m.Hold(flow=command.flow.uid, batch=0, surge=0, updated=0, others=0)
        head = command.model_dump(include={"namespace", "instance", "sequence", "flow"})
        return _new_cloneset(
            m.Surge(**head, replicas=0, partition=0, hold=hold, application=application, create=True)
        )
    wanted = Application.model_validate(application)
    return {
        "spec": {
            "template": replacement_patch(live.spec.template, template_of(wanted)),
            **application_extras.dry_run_extras(wanted),
        }
    }
