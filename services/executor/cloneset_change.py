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
from services.executor.stable_template import forget_template, keep_template, stable_template
from shared.domain import deployflow as df
from shared.domain import messages as m
from shared.domain.deployflow import INSTANCE_LABEL, READINESS_GATE, Application
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet, facts_of
from shared.kube.ownership import is_adopted, labels_for_template, refusal_of

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


class Rejection(NamedTuple):
    """An answer that holds from now on: the command may be delivered again, when the count fits once more, and the
    planner has decided on another since. `body`: the patch that records it.
    """

    body: Json
    result: m.Result


def decide_change(
    command: m.ExecutorCommand, live: CloneSet | None, pods: Sequence[m.PodRef], revised: Json | None = None
) -> Create | Patch | Delete | Answer | Rejection:
    """Decide what to do for `command`; `pods` are those of the CloneSet that are not being deleted.

    `revised`: the template of the ControllerRevision that the CloneSet names, for a cancel. Raises `BadTemplate`,
    `TooLarge` and `Unavailable`.
    """
    head: Json = {"namespace": command.namespace, "instance": command.instance, "sequence": command.sequence}
    if live is not None and (refusal := refusal_of(live)) is not None:
        reason, text = refusal
        return Answer(m.Refused(**head, reason=reason, message=text))
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
        if live.rejected == command.sequence:
            return Answer(m.ReplicasChanged(**head, replicas=live.spec.replicas))
        return Answer(m.Done(**head, cloneset=facts_of(live), pods=list(before)))
    if isinstance(command, m.Halt) and _is_overwritten(live, command):
        return _reject(live, m.ReplicasChanged(**head, replicas=live.spec.replicas))
    if isinstance(command, m.Scale):
        # the count first: pods that it has taken are missing too
        if not _is_accepted(live, command):
            return _reject(live, m.ReplicasChanged(**head, replicas=live.spec.replicas))
        missing = sorted(set(command.retire) - {pod.uid for pod in pods})
        if missing:
            return Answer(m.VictimsGone(**head, gone=missing))
    return Patch(_patch(command, live, pods, revised), before)


def _is_accepted(live: CloneSet, command: m.Scale) -> bool:
    """Return whether the live count is the one that the planner decided on, or one that Triton wrote since."""
    if live.spec.replicas == command.accept_replicas:
        return True
    return live.spec.replicas == live.replicas_set and not _is_overwritten(live, command)


def _is_overwritten(live: CloneSet, command: m.CountAware) -> bool:
    """Return whether somebody else has set the count again that Triton wrote last, and the planner knows another one.

    Nothing of ours has been written since the planner saw that, or only the record of a command that was rejected.
    """
    again = live.spec.replicas == live.replicas_set and live.spec.replicas != command.accept_replicas
    return again and (live.sequence == command.accept_sequence or 0 < live.sequence == live.rejected)


def _reject(live: CloneSet, result: m.ReplicasChanged) -> Answer | Rejection:
    if not live.sequence:
        # nothing of ours is there yet
        return Answer(result)
    annotations = dict.fromkeys((cs.SEQUENCE, cs.REJECTED), str(result.sequence))
    return Rejection({"metadata": {"annotations": annotations}, "spec": {}}, result)


def _remove(live: CloneSet, head: Json) -> Delete | Answer:
    if live.spec.replicas and not live.deleting:
        # somebody has scaled it up meanwhile: its pods are drained first
        return Answer(m.ReplicasChanged(**head, replicas=live.spec.replicas))
    preconditions = {"uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version}
    return Delete({"propagationPolicy": "Background", "preconditions": preconditions})


def pods_before(command: m.Command, live: CloneSet, pods: Sequence[m.PodRef]) -> list[m.PodRef]:
    """Return the pods that no surge of this batch created.

    Once the surge is written, pods with a closed gate count as created by it. Their revision is not known before the
    CloneSet's controller has caught up. Where the template of an adopted CloneSet has no gate yet, those beyond the
    count before the batch do, the youngest first.
    """
    hold = live.hold
    if not isinstance(command, m.Surge) or hold is None:
        return list(pods)
    if (hold.flow, hold.batch) != (command.hold.flow, command.hold.batch):
        return list(pods)
    target = live.status.update_revision
    before = [pod for pod in pods if pod.gate != m.Gate.CLOSED or (live.settled and pod.revision != target)]
    ungated = [pod for pod in before if pod.gate == m.Gate.NONE and pod.revision == target]
    ungated.sort(key=lambda pod: -pod.created_at)
    surplus = max(len(before) - hold.updated - hold.others, 0)
    created = {pod.uid for pod in ungated[:surplus]}
    return [pod for pod in before if pod.uid not in created]


def _patch(
    command: m.ExecutorCommand, live: CloneSet, pods: Sequence[m.PodRef], revised: Json | None
) -> Json:
    annotations: Json = {cs.SEQUENCE: str(command.sequence), cs.RELEASE: command.flow.model_dump_json()}
    if live.rejected:
        annotations[cs.REJECTED] = None
    body: Json = {"metadata": {"annotations": annotations}, "spec": {}}
    if live.owner:
        # Triton 0.1.x made the DeployFlow its owner: deleting the DeployFlow would delete the CloneSet
        body["metadata"]["ownerReferences"] = live.other_owners or None
    spec = body["spec"]
    match command:
        case m.Surge():
            _write_strategy(live, annotations, spec, "100%" if command.guard else command.partition)
            _write_guard(live, annotations, spec, on=command.guard)
            _write_count(annotations, spec, command.replicas)
            _write_scaled_to(live, annotations, command.scaled_to)
            annotations[cs.HOLD] = command.hold.model_dump_json()
            annotations[cs.NO_PULL_IN] = "true" if command.no_pull_in else None
            spec["scaleStrategy"] = {"podsToDelete": _names_to_delete(command.retire, live, pods)}
            if command.application is not None:
                _write_template(command.application, live, body)
        case m.Retire():
            _write_guard(live, annotations, spec, on=False)
            _write_strategy(live, annotations, spec, command.partition)
            _write_count(annotations, spec, command.replicas)
            _write_scaled_to(live, annotations, command.scaled_to)
            annotations[cs.HOLD] = None
            spec["scaleStrategy"] = {"podsToDelete": _names_to_delete(command.retire, live, pods)}
        case m.Halt():
            if not live.scaled_by_others:
                _write_count(annotations, spec, _halted_replicas(live, len(pods)))
            spec["scaleStrategy"] = {"podsToDelete": []}
        case m.Cancel():
            _cancel(command, live, pods, body, revised)
        case m.Finish():
            _finish(command, live, annotations, spec)
    return body


def _finish(command: m.Finish, live: CloneSet, annotations: Json, spec: Json) -> None:
    spec["scaleStrategy"] = {"podsToDelete": []}
    _write_guard(live, annotations, spec, on=False)
    annotations |= {cs.HOLD: None, cs.RELEASE: None}
    forget_template(live, annotations)
    _write_scaled_to(live, annotations, None)
    application_extras.forget_stable_claims(live, annotations)
    if not command.mixed:
        owner = cs.kept_value(live, cs.OWNER_STRATEGY, dict) or {}
        spec["updateStrategy"] = {**RELEASED_STRATEGY, **owner, "partition": 0, "paused": False}
        annotations[cs.OWNER_STRATEGY] = None
    first = live.metadata.annotations.get(cs.FIRST_RELEASE)
    if first == command.flow.uid or (first and command.good_template):
        annotations[cs.FIRST_RELEASE] = None
    if command.stopped or live.spec.replicas:
        annotations[cs.STOPPED] = str(command.stopped) if command.stopped else None


def _write_guard(live: CloneSet, annotations: Json, spec: Json, *, on: bool) -> None:
    """Set or take off the hook that lets OpenKruise only mark the pods that a count of somebody else would remove.

    A marked pod goes on serving, and a higher count gives it back. The owner's own hook stays beside ours.
    """
    is_kept = cs.OWNER_LIFECYCLE in live.metadata.annotations
    kept = cs.kept_value(live, cs.OWNER_LIFECYCLE, dict) or {}
    if on:
        owner = kept if is_kept else live.spec.lifecycle
        before = _dict(owner.get("preDelete"))
        labels = {**_dict(before.get("labelsHandler")), INSTANCE_LABEL: live.metadata.name}
        hook = {**before, "labelsHandler": labels, "markPodNotReady": False}
        spec["lifecycle"] = replacement_patch(live.spec.lifecycle, {**owner, "preDelete": hook})
        if not is_kept:
            annotations[cs.OWNER_LIFECYCLE] = json.dumps(live.spec.lifecycle)
    elif is_kept:
        spec["lifecycle"] = replacement_patch(live.spec.lifecycle, kept) if kept else None
        annotations[cs.OWNER_LIFECYCLE] = None


def _dict(value: Any) -> Json:
    """Return a value of a hook that somebody may have overwritten with another kind."""
    return value if isinstance(value, dict) else {}


def _write_strategy(live: CloneSet, annotations: Json, spec: Json, partition: int | str) -> None:
    spec["updateStrategy"] = {**TRITON_STRATEGY, "partition": partition}
    if cs.OWNER_STRATEGY not in live.metadata.annotations:
        annotations[cs.OWNER_STRATEGY] = json.dumps(live.spec.update_strategy)


def _write_count(annotations: Json, spec: Json, replicas: int) -> None:
    spec["replicas"] = replicas
    annotations[cs.REPLICAS] = str(replicas)


def _write_scaled_to(live: CloneSet, annotations: Json, scaled_to: int | None) -> None:
    if scaled_to is not None:
        annotations[cs.SCALED_TO] = str(scaled_to)
    elif cs.SCALED_TO in live.metadata.annotations:
        annotations[cs.SCALED_TO] = None


def _write_template(application: Json, live: CloneSet, body: Json) -> None:
    stored = stored_application(application)
    body["spec"]["template"] = replacement_patch(live.spec.template, template_of(stored, live))
    labels = stored.labels()
    if is_adopted(live):
        labels = {name: value for name, value in labels.items() if name not in live.metadata.labels}
    body["metadata"]["labels"] = labels
    body["metadata"]["annotations"] |= keep_template(live)
    application_extras.write_extras(stored, live, body)


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


def _cancel(
    command: m.Cancel, live: CloneSet, pods: Sequence[m.PodRef], body: Json, revised: Json | None
) -> None:
    stable = stable_template(live, revised)
    restored = command.restore_template and stable is not None
    annotations, spec = body["metadata"]["annotations"], body["spec"]
    if restored:
        spec["template"] = replacement_patch(live.spec.template, stable)
        application_extras.restore_claims(live, body)
    foreign = live.scaled_by_others or _is_overwritten(live, command)
    keep = live.spec.replicas if foreign else command.keep
    baked = min(command.baked, keep)
    others = keep - baked if command.restore_template else 0
    if live.metadata.annotations.get(cs.FIRST_RELEASE) == command.flow.uid:
        annotations[cs.FIRST_RELEASE] = cs.CANCELED
    # without a template to restore, the partition makes the replacement of a lost old pod an old one too
    _write_strategy(live, annotations, spec, baked if restored else others)
    _write_count(annotations, spec, keep)
    _write_guard(live, annotations, spec, on=False)
    _write_scaled_to(live, annotations, None if command.scaled_to is None else keep)
    # what somebody has made since the scale to 0 has the template that goes
    drop = {pod.uid for pod in pods} if command.scaled_to is not None else set(command.drop)
    if restored and command.revision:
        drop |= _idle_beyond(
            baked, [pod for pod in pods if pod.revision == command.revision and pod.uid not in drop]
        )
    drop |= _idle_beyond(keep, [pod for pod in pods if pod.uid not in drop])
    spec["scaleStrategy"] = {"podsToDelete": sorted(pod.name for pod in pods if pod.uid in drop)}
    annotations |= {cs.HOLD: None, cs.RELEASE: None}
    forget_template(live, annotations)
    application_extras.forget_stable_claims(live, annotations)


def _idle_beyond(count: int, pods: Sequence[m.PodRef]) -> set[str]:
    """Return the uids of the pods that are too many: of those without traffic, the youngest.

    The planner cannot name all of them: OpenKruise may have made one a moment ago in the place of a pod that somebody
    deleted, or for a count that somebody wrote.
    """
    idle = sorted((pod for pod in pods if pod.gate == m.Gate.CLOSED), key=lambda pod: -pod.created_at)
    return {pod.uid for pod in idle[: max(len(pods) - count, 0)]}


def replacement_patch(live: Any, wanted: Any) -> Any:
    """Return the merge patch that makes `live` equal to `wanted`: what `wanted` lacks becomes null."""
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return wanted
    missing: Json = {key: None for key in live if key not in wanted}
    return missing | {key: replacement_patch(live.get(key), value) for key, value in wanted.items()}


def template_of(application: Application, live: CloneSet | None = None) -> Json:
    """Return the pod template with Triton's labels and readiness gate beside the owner's; raise `BadTemplate`.

    `live`: the CloneSet that it is written into; None for a new one.
    """
    template = application.template or {}
    metadata = _field(template, "metadata", dict)
    spec = _field(template, "spec", dict)
    own = _field(metadata, "labels", dict, "metadata.")
    own = {**(application.application_label or {}), **own}
    labels = {**own, **application.labels()}
    if live is not None and is_adopted(live):
        labels = labels_for_template(live, own, application.labels())
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


def stored_application(application: Json | None) -> Application:
    """Parse the application of a DeployFlow that the cluster has accepted."""
    return Application.model_validate(application, context=df.STORED)


def _new_cloneset(command: m.Surge) -> Json:
    """Return the CloneSet that the first release of an instance creates."""
    application = stored_application(command.application)
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
    wanted = stored_application(application)
    return {
        "spec": {
            "template": replacement_patch(live.spec.template, template_of(wanted, live)),
            **application_extras.dry_run_extras(wanted),
        }
    }
