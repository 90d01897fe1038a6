"""The CloneSet controller: makes the pods what the spec says, step by step, as OpenKruise 1.8 does.

A reconcile either scales or updates, never both, and is run again when a pod changes. Differences from the
real one: in-place updates are done by recreating, volume claims and the hooks of in-place
updates are ignored, and pods are `Normal` from birth, and when they are given back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from shared.domain.json_types import Json

from .api import Api
from .builtins import PODS
from .cloneset_arithmetic import DEFAULT_MAX_UNAVAILABLE, PodView, Steps, Wanted, partition_of, steps
from .cloneset_revisions import HASH_LABEL, Revisions, owner_reference
from .errors import ApiError
from .objects import (
    condition_of,
    encode,
    is_terminating,
    is_true,
    labels_of,
    name_of,
    namespace_of,
    parsed_time,
    random_suffix,
    timestamp,
    uid_of,
    with_metadata,
)
from .pod_ranking import deletion_order
from .recorder import Recorder
from .resources import Resource
from .selectors import as_text, from_spec, matches
from .store import Event, ObjectKey
from .strategies import KRUISE_GATES

SPECIFIED_DELETE = "apps.kruise.io/specified-delete"
LIFECYCLE_STATE = "lifecycle.apps.kruise.io/state"
INSTANCE_ID = "apps.kruise.io/cloneset-instance-id"

FIRST_SECONDS = 0.002
"""The delay from a change to its reconcile: long enough for the changes of one write burst to be seen
together."""

BETWEEN_SECONDS = 0.02
"""Between two reconciles of one CloneSet at least, so that 500 pods turning Ready are not 500 times 500 pods seen."""

SHARE = 4
"""The rest after a reconcile, in times of what it took: a set of 5,000 pods leaves the loop to others as well."""

BURST = 100
"""Pods made or deleted in one reconcile, so that a big step does not hold up every other request."""

RETRY_SECONDS = 0.005
"""Until a failed reconcile is tried again; each later one in a row waits twice as long, as in controller-runtime."""

RETRY_AT_MOST_SECONDS = 1000.0


class CloneSetController:
    """Looks after all CloneSets."""

    def __init__(self, api: Api, resource: Resource, recorder: Recorder) -> None:
        self._api = api
        self._resource = resource
        self._recorder = recorder
        self._revisions = Revisions(api)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        api.store.listen(resource.key, self._changed)
        api.store.listen(PODS.key, self._pod_changed)

    def _changed(self, event: Event) -> None:
        uid = uid_of(event.record.obj)
        if event.kind == "DELETED":
            self._not_before.pop(uid, None)
            self._failures.pop(uid, None)
            return
        generations = [
            record.obj["metadata"].get("generation") for record in (event.before, event.record) if record
        ]
        if len(generations) == 1 or generations[0] != generations[1]:
            self._soon(uid)

    def _pod_changed(self, event: Event) -> None:
        for owner in event.record.obj["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == self._resource.kind and owner.get("controller"):
                self._soon(str(owner["uid"]))

    def _soon(self, uid: str, seconds: float = FIRST_SECONDS) -> None:
        now = self._loop.time()
        due = max(now + seconds, self._not_before.get(uid, 0.0))
        waiting = self._timers.get(uid)
        if waiting is not None and waiting.when() <= due:
            return
        if waiting is not None:
            waiting.cancel()
        self._timers[uid] = self._loop.call_at(due, self._work, uid)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _work(self, uid: str) -> None:
        self._timers.pop(uid, None)
        begun = self._loop.time()
        if begun < self._not_before.get(uid, 0.0):
            self._soon(uid, 0.0)
            return
        place = self._api.store.places.get(uid)
        record = self._api.store.at(place) if place is not None else None
        if place is None or record is None:
            return
        try:
            self._reconcile(place, record.obj)
        except ApiError:
            failures = self._failures[uid] = self._failures.get(uid, 0) + 1
            self._soon(uid, min(RETRY_SECONDS * 2 ** min(failures, 30), RETRY_AT_MOST_SECONDS))
        else:
            self._failures.pop(uid, None)
        took = self._loop.time() - begun
        self._not_before[uid] = begun + took + max(BETWEEN_SECONDS, SHARE * took)

    def _reconcile(self, place: ObjectKey, cloneset: Json) -> None:
        """Do one step, and write the status also when it fails; raise `ApiError` for what is to be tried again."""
        update = self._revisions.update_revision(cloneset)
        current = (cloneset.get("status") or {}).get("currentRevision") or update
        pods = self._active_pods(cloneset)
        named = set((cloneset["spec"].get("scaleStrategy") or {}).get("podsToDelete") or ())
        min_ready = cloneset["spec"].get("minReadySeconds") or 0
        views = [_view(pod, update, named, min_ready) for pod in pods]
        if self._give_back(cloneset, pods, views):
            # what was marked and is wanted again is an ordinary pod at the next look
            return
        todo = steps(_wanted(cloneset), views)
        failure: ApiError | None = None
        if not is_terminating(cloneset):
            scaling, failure = self._scale(cloneset, current, update, pods, views, todo)
            if not scaling and not (cloneset["spec"].get("updateStrategy") or {}).get("paused"):
                self._update(pods, views, todo)
        status = _status(cloneset, current, update, pods, views)
        if failure is not None:
            status["conditions"] = [_failed_scale(failure)]
        self._write_status(place, status)
        self._forget_dead_names(place, pods, named)
        self._revisions.truncate(
            cloneset, {labels_of(pod).get(HASH_LABEL, "") for pod in pods} | {current, update}
        )
        if any(view.ready and not view.available for view in views):
            self._soon(uid_of(cloneset), 0.25)
        if failure is not None:
            raise failure

    def _give_back(self, cloneset: Json, pods: list[Json], views: list[PodView]) -> bool:
        """Give back pods that a preDelete hook held while the count has risen again; return whether there were any."""
        if is_terminating(cloneset) or _pre_delete(cloneset).get("markPodNotReady"):
            return False
        going = sum(view.named or view.preparing for view in views)
        wanted = cloneset["spec"]["replicas"] - len(pods) + going
        held = [pod for pod, view in zip(pods, views, strict=True) if view.preparing and not view.named]
        for pod in held[: max(wanted, 0)]:
            self._mark(pod, "Normal")
        return wanted > 0 and bool(held)

    def _mark(self, pod: Json, state: str) -> None:
        if labels_of(pod).get(LIFECYCLE_STATE) != state:
            self._api.store.put(
                PODS.key, with_metadata(pod, labels={**labels_of(pod), LIFECYCLE_STATE: state})
            )

    def _active_pods(self, cloneset: Json) -> list[Json]:
        """Return the pods that count; those whose labels no longer match the selector are released."""
        selector = from_spec(cloneset["spec"]["selector"])
        active = []
        for record in self._api.store.dependents(uid_of(cloneset), PODS.key):
            pod = record.obj
            if is_terminating(pod) or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
                continue
            if matches(selector, labels_of(pod)):
                active.append(pod)
                continue
            others = [
                owner for owner in pod["metadata"]["ownerReferences"] if owner["uid"] != uid_of(cloneset)
            ]
            self._api.store.put(PODS.key, with_metadata(pod, ownerReferences=others or None))
        return active

    def _scale(
        self, cloneset: Json, current: str, update: str, pods: list[Json], views: list[PodView], todo: Steps
    ) -> tuple[bool, ApiError | None]:
        """Create or delete pods; return whether something was done, which postpones updating, and what failed."""
        if todo.create > 0:
            old = min(todo.create, todo.create_old)
            revisions = [current] * old + [update] * (todo.create - old)
            created, failure = self._create(cloneset, revisions[:BURST])
            if len(revisions) > BURST and failure is None:
                self._soon(uid_of(cloneset))
            return created > 0, failure
        pairs = list(zip(pods, views, strict=True))
        named = [(pod, view) for pod, view in pairs if view.named]
        preparing = [(pod, view) for pod, view in pairs if view.preparing]
        if preparing:
            deleted, failure = self._delete(cloneset, preparing, len(preparing))
            if deleted or failure is not None:
                return deleted, failure
        chosen = [(pod, view) for pod, view in named if not view.preparing]
        if not named and not preparing and todo.delete > 0:
            old_pods = [pair for pair in pairs if not pair[1].updated]
            new_pods = [pair for pair in pairs if pair[1].updated]
            number_old = min(max(todo.delete_old, 0), todo.delete)
            chosen = (
                deletion_order(old_pods)[:number_old] + deletion_order(new_pods)[: todo.delete - number_old]
            )
        return self._delete(cloneset, chosen, todo.delete_ready_limit)

    def _create(self, cloneset: Json, revisions: list[str]) -> tuple[int, ApiError | None]:
        """Create pods, one at first and then twice as many at a time, up to the first time that one fails.

        Return how many were created, and a failure.
        """
        templates = {revision: self._revisions.template(cloneset, revision) for revision in set(revisions)}
        created, batch = 0, 1
        while revisions:
            failure: ApiError | None = None
            for revision in revisions[:batch]:
                pod = _pod(cloneset, templates[revision], revision)
                try:
                    self._api.create(PODS, namespace_of(cloneset), pod)
                except ApiError as error:
                    failure = error
                    text = f"failed to create pod: {error.message}, pod: {encode(pod).decode()}"
                    self._report(cloneset, "FailedCreate", text, "Warning")
                else:
                    created += 1
                    self._report(cloneset, "SuccessfulCreate", f"succeed to create pod {name_of(pod)}")
            if failure is not None:
                return created, failure
            revisions, batch = revisions[batch:], batch * 2
        return created, None

    def _delete(
        self, cloneset: Json, chosen: list[tuple[Json, PodView]], ready_limit: int
    ) -> tuple[bool, ApiError | None]:
        """Delete pods, of the Ready ones at most `ready_limit`, up to the first that fails."""
        deleted = False
        for pod, view in chosen:
            if view.ready:
                if ready_limit <= 0:
                    continue
                ready_limit -= 1
            if _is_hooked(_pre_delete(cloneset), pod):
                self._mark(pod, "PreparingDelete")
                continue
            try:
                self._api.delete(PODS, namespace_of(pod), name_of(pod))
            except ApiError as error:
                text = f"failed to delete pod {name_of(pod)}: {error.message}"
                self._report(cloneset, "FailedDelete", text, "Warning")
                return deleted, error
            self._report(cloneset, "SuccessfulDelete", f"succeed to delete pod {name_of(pod)}")
            deleted = True
        return deleted, None

    def _report(self, cloneset: Json, reason: str, message: str, kind: str = "Normal") -> None:
        self._recorder.about(cloneset, reason, message, kind, "cloneset-controller")

    def _update(self, pods: list[Json], views: list[PodView], todo: Steps) -> None:
        """Mark old pods for deletion, as an update by recreating begins."""
        waiting = deletion_order([pair for pair in zip(pods, views, strict=True) if not pair[1].updated])
        not_ready = sum(not view.ready for view in views)
        for pod, view in waiting[: todo.update]:
            if view.ready:
                if not_ready >= todo.update_max_unavailable:
                    break
                not_ready += 1
            if SPECIFIED_DELETE not in labels_of(pod):
                self._api.store.put(
                    PODS.key, with_metadata(pod, labels={**labels_of(pod), SPECIFIED_DELETE: "true"})
                )

    def _write_status(self, place: ObjectKey, status: Json) -> None:
        """Write a status whose numbers or revisions are new; conditions alone are not written, as in OpenKruise."""
        record = self._api.store.at(place)
        if record is None:
            return
        before = record.obj.get("status") or {}
        if {**status, "conditions": None} != {**before, "conditions": None}:
            self._api.store.put(place.resource, {**record.obj, "status": status})

    def _forget_dead_names(self, place: ObjectKey, pods: list[Json], named: set[str]) -> None:
        """Remove names of pods that are no longer live from podsToDelete."""
        live = {name_of(pod) for pod in pods}
        record = self._api.store.at(place)
        if record is None or named <= live:
            return
        strategy = record.obj["spec"].get("scaleStrategy") or {}
        left = [name for name in strategy.get("podsToDelete") or () if name in live]
        changed = {key: value for key, value in {**strategy, "podsToDelete": left}.items() if value != []}
        obj = with_metadata(record.obj, generation=record.obj["metadata"]["generation"] + 1)
        self._api.store.put(place.resource, {**obj, "spec": {**obj["spec"], "scaleStrategy": changed}})


def _failed_scale(error: ApiError) -> Json:
    return {
        "type": "FailedScale",
        "status": "True",
        "lastTransitionTime": timestamp(),
        "message": error.message,
    }


def _pre_delete(cloneset: Json) -> Json:
    return (cloneset["spec"].get("lifecycle") or {}).get("preDelete") or {}


def _is_hooked(hook: Json, pod: Json) -> bool:
    """Return whether any of the hook's labels or finalizers is on the pod, which then is only marked."""
    finalizers = pod["metadata"].get("finalizers") or ()
    return any(name in finalizers for name in hook.get("finalizersHandler") or ()) or any(
        labels_of(pod).get(name) == value for name, value in (hook.get("labelsHandler") or {}).items()
    )


def _wanted(cloneset: Json) -> Wanted:
    spec = cloneset["spec"]
    update = spec.get("updateStrategy") or {}
    unavailable = update.get("maxUnavailable")
    return Wanted(
        replicas=spec["replicas"],
        partition=update.get("partition") or 0,
        max_unavailable=DEFAULT_MAX_UNAVAILABLE if unavailable is None else unavailable,
        max_surge=update.get("maxSurge") or 0,
        paused=bool(update.get("paused")),
        scale_max_unavailable=(spec.get("scaleStrategy") or {}).get("maxUnavailable"),
    )


def _view(pod: Json, update: str, named: set[str], min_ready_seconds: int) -> PodView:
    labels = labels_of(pod)
    condition = condition_of(pod, "InPlaceUpdateReady")
    ready = (
        (pod.get("status") or {}).get("phase") == "Running"
        and is_true(pod, "Ready")
        and (condition is None or condition["status"] == "True")
    )
    preparing = labels.get(LIFECYCLE_STATE) == "PreparingDelete"
    ready = ready and not preparing
    available = ready
    if ready and min_ready_seconds:
        since = parsed_time((condition_of(pod, "Ready") or {})["lastTransitionTime"])
        available = (datetime.now(UTC) - since).total_seconds() >= min_ready_seconds
    return PodView(
        name_of(pod),
        labels.get(HASH_LABEL) == update,
        ready,
        available,
        name_of(pod) in named or labels.get(SPECIFIED_DELETE) == "true",
        preparing,
    )


def _pod(cloneset: Json, template: Json, revision: str) -> Json:
    identity = random_suffix()
    metadata: dict[str, Any] = template.get("metadata") or {}
    labels = {
        **(metadata.get("labels") or {}),
        HASH_LABEL: revision,
        INSTANCE_ID: identity,
        "pod-template-hash": revision.rpartition("-")[2],
        LIFECYCLE_STATE: "Normal",
    }
    spec = template["spec"]
    theirs = [gate for gate in spec.get("readinessGates") or () if gate["conditionType"] not in KRUISE_GATES]
    gates = [*theirs, *({"conditionType": gate} for gate in KRUISE_GATES)]
    return {
        "metadata": {
            "name": f"{name_of(cloneset)}-{identity}",
            "labels": labels,
            "annotations": {**(metadata.get("annotations") or {})},
            "ownerReferences": [owner_reference(cloneset)],
        },
        "spec": {**spec, "readinessGates": gates},
    }


def _status(cloneset: Json, current: str, update: str, pods: list[Json], views: list[PodView]) -> Json:
    spec = cloneset["spec"]
    revisions = Counter(labels_of(pod).get(HASH_LABEL) for pod in pods)
    if revisions[update] == len(pods):
        current = update
    partition = partition_of((spec.get("updateStrategy") or {}).get("partition") or 0, spec["replicas"])
    return {
        "observedGeneration": cloneset["metadata"]["generation"],
        "replicas": len(views),
        "readyReplicas": sum(view.ready for view in views),
        "availableReplicas": sum(view.available for view in views),
        "updatedReplicas": sum(view.updated for view in views),
        "updatedReadyReplicas": sum(view.updated and view.ready for view in views),
        "updatedAvailableReplicas": sum(view.updated and view.available for view in views),
        "expectedUpdatedReplicas": spec["replicas"] - (0 if current == update else partition),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": (cloneset.get("status") or {}).get("collisionCount", 0),
        "labelSelector": as_text(from_spec(spec["selector"])),
    }
