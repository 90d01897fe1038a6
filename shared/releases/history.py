"""Reads from the releases of an instance which were successful, and how many pods it has now. Pure."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.domain import deployflow as df
from shared.domain.deploy_commands import Refusal, requested_strategy_of
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.domain.messages import AppRef
from shared.kube.clonesets import CloneSet
from shared.kube.ownership import NOT_OURS, Ownership, explain_not_ours, ownership_of

_OF_THE_APPLICATION: Final = df.inherited_by(df.InheritedBy.ALL)
"""Strategy fields that describe the application, not one release of it."""
NO_GOOD_TEMPLATE: Final = "NoGoodTemplate"
"""The reason why an action that would make pods of a refused template is refused."""
_IDENTITY: Final = ("appID", "groupID", "appName", "instanceName")
_REFUSED: Final = ("InvalidSpec", "AlreadyExists")
"""The reasons of releases that the planner never took up: what they say of the strategy counts for nothing."""


def updates(releases: Sequence[Json]) -> list[Json]:
    """Return the releases with a template, oldest first."""
    found = [flow for flow in releases if flow["spec"].get("action") in df.UPDATING]
    return sorted(found, key=age)


def age(flow: Json) -> tuple[str, str, str]:
    """Return the sort key of age; of two created in the same second, the first to begin is older."""
    began = (flow.get("status") or {}).get("startedAt") or "later"
    return flow["metadata"]["creationTimestamp"], began, flow["metadata"]["name"]


def is_good(flow: Json) -> bool:
    return (flow.get("status") or {}).get("phase") == FlowPhase.SUCCESS


def last_good(releases: Sequence[Json], instance: str, cloneset: Json | None = None) -> Json:
    """Return the newest successful create, update or rollback; raise `Refusal` if there is none.

    Where all of these were deleted, the CloneSet stands for it.
    """
    brought = updates(releases)
    if not brought and cloneset is not None:
        return _release_of(cloneset, instance)
    for flow in reversed(brought):
        if is_good(flow):
            return flow
    hint = "its first one is not finished" if brought else "create it first (action create)"
    raise Refusal("NoRelease", f"{instance} has no successful release: {hint}")


def _release_of(cloneset: Json, instance: str) -> Json:
    """Return the release that the CloneSet looks like, with the parts that a base has; raise `Refusal`."""
    template = copy.deepcopy(cloneset["spec"].get("template") or {})
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    identity = _identity_of(cloneset, instance)
    ours = df.Application.model_validate(identity, context=df.STORED).labels()
    # a label of an adopted CloneSet's owner stays, also where Triton has another value for it
    labels = {
        name: value for name, value in (metadata.get("labels") or {}).items() if ours.get(name) != value
    }
    gates = [
        gate for gate in spec.get("readinessGates") or [] if gate.get("conditionType") != df.READINESS_GATE
    ]
    # what Triton adds is added again
    template["metadata"] = _without_empty({**metadata, "labels": labels, "creationTimestamp": None})
    template["spec"] = _without_empty({**spec, "readinessGates": gates})
    application = {**identity, "template": template, "replicas": int(cloneset["spec"].get("replicas", 1))}
    return {
        "metadata": {"name": instance},
        "spec": {"action": str(df.Action.UPDATE), "application": application},
        "status": {"phase": str(FlowPhase.SUCCESS), "finished": True},
    }


def _without_empty(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _identity_of(cloneset: Json, instance: str) -> Json:
    """Return the names and ids of the application that the CloneSet's labels say; raise `Refusal`."""
    app = AppRef.of(labels := cloneset["metadata"].get("labels") or {})
    if refusal := refuse_foreign(cloneset):
        raise Refusal(NOT_OURS, refusal)
    if not (app.name and labels.get("app", "").isdecimal() and labels.get("group", "").isdecimal()):
        raise Refusal(
            "NoRelease",
            f"{instance} has no release, and its CloneSet lacks Triton's labels app, group and {df.NAME_LABEL}: apply "
            f"a DeployFlow (action update), or set them (triton adopt {instance} --app-id … --group-id … --app-name …)",
        )
    return dict(zip(_IDENTITY, (app.app_id, app.group_id, app.name, instance), strict=True))


def refuse_foreign(cloneset: Json) -> str:
    """Return why no release changes this CloneSet, which Triton did not make; empty for one that it may change."""
    meta = cloneset["metadata"]
    # what an API shows of an instance has the label, and nothing else that proves whose it is
    if df.MANAGED_BY.items() <= (meta.get("labels") or {}).items():
        return ""
    if ownership_of(_read(cloneset)) != Ownership.FOREIGN:
        return ""
    return explain_not_ours(str(meta.get("namespace", "")), str(meta.get("name", "")))


def update_base(releases: Sequence[Json], instance: str, cloneset: Json | None = None) -> Json:
    """Return the release that an update starts from; raise `Refusal` if there is none.

    The last good one; where all good ones were deleted, what the CloneSet has; where none was good and the newest has
    finished, that one: the update then acts as the first create.
    """
    brought = updates(releases)
    if any(is_good(flow) for flow in brought) or not brought:
        return last_good(releases, instance, cloneset)
    newest = brought[-1]
    if not (newest.get("status") or {}).get("finished"):
        return last_good(releases, instance)
    if cloneset is None or any(flow["spec"]["action"] == df.Action.CREATE for flow in brought):
        return newest
    # the successful ones were deleted: what they have left is better than what failed since
    return newest if _read(cloneset).has_no_good_template else _release_of(cloneset, instance)


def explain_no_good_template(instance: str) -> str:
    return (
        f"the template of {instance} was never good: its create was canceled, and no release was successful since. "
        "Make an update, which acts as the first create"
    )


def refuse_bad_template(instance: str, action: df.Action, cloneset: Json | None) -> None:
    """Raise `Refusal` for an action that would make pods of a template that was never good."""
    if action in df.KEEPING and cloneset is not None and _read(cloneset).has_no_good_template:
        raise Refusal(NO_GOOD_TEMPLATE, explain_no_good_template(instance))


def rollback_to(releases: Sequence[Json], instance: str, name: str | None = None) -> Json:
    """Return the release to go back to: the one named, else the last successful one that had another template than
    the newest release, finished or not. Raises `Refusal`.
    """
    brought = updates(releases)
    if name is not None:
        named = next((flow for flow in releases if flow["metadata"]["name"] == name), None)
        if named is None:
            raise Refusal("NotFound", f"deployFlow: {instance} has no release {name}")
        if named not in brought:
            action = named["spec"].get("action")
            raise Refusal(
                "NoTemplate", f"deployFlow: {name} is a {action}, it brought no template to go back to"
            )
        return named
    if not brought:
        raise Refusal("NoRelease", f"instanceName: {instance} has no release to go back to")
    newest = brought[-1]
    if newest["spec"]["action"] == df.Action.ROLLBACK and not (newest.get("status") or {}).get("finished"):
        # two people who press it go back once
        at = newest["metadata"]["name"]
        raise Refusal(
            "RollingBack", f"{instance} is being rolled back already by {at}; name a release to go elsewhere"
        )
    now = newest["spec"]["application"].get("template")
    for flow in reversed(brought):
        if is_good(flow) and flow["spec"]["application"].get("template") != now:
            return flow
    raise Refusal("NoRelease", f"instanceName: {instance} has no earlier successful release to go back to")


def replicas_now(releases: Sequence[Json], cloneset: Json | None) -> int | None:
    """Return the wanted replicas of an instance: by the release that changes it now, else by its CloneSet."""
    running = next((flow for flow in releases if is_under_way(flow)), None)
    live = int(cloneset["spec"].get("replicas", 1)) if cloneset is not None else None
    if running is None:
        return live
    action = running["spec"].get("action")
    keeps = (running["metadata"].get("annotations") or {}).get(df.KEEPS_REPLICAS) == "true"
    if action in {*df.UPDATING, df.Action.SCALE_IN, df.Action.SCALE_OUT} and not (keeps and cloneset):
        return int(running["spec"]["application"].get("replicas", 1))
    if action in df.SHRINKING:
        return 0
    if cloneset is None:
        return None
    before = count_without_batch(cloneset)
    return max(before, stopped_from(cloneset)) if action == df.Action.START else before


def count_without_batch(cloneset: Json) -> int:
    """Return its replicas; in the middle of a batch without the pods that this makes beside those that they replace."""
    read = _read(cloneset)
    return read.hold.updated + read.hold.others if read.hold else read.spec.replicas


def is_waiting(releases: Sequence[Json]) -> bool:
    """Return whether a release of the instance has not begun: it may still change the count."""
    return any(
        not status.get("startedAt") and not status.get("finished")
        for status in (flow.get("status") or {} for flow in releases)
    )


def is_being_deleted(releases: Sequence[Json], cloneset: Json) -> bool:
    """Return whether the instance will be gone soon: an unfinished release deletes it, or somebody its CloneSet."""
    return "deletionTimestamp" in cloneset["metadata"] or any(map(is_deletion, releases))


def is_deletion(flow: Json) -> bool:
    """Return whether a release that has not finished deletes the instance."""
    finished = (flow.get("status") or {}).get("finished")
    return flow["spec"].get("action") == df.Action.DELETE and not finished


def running_update(releases: Sequence[Json]) -> Json | None:
    """Return the create, update or rollback that runs; a paused one ends where another is requested."""
    return next(
        (flow for flow in updates(releases) if is_under_way(flow) and not flow["status"].get("paused")), None
    )


def is_under_way(flow: Json) -> bool:
    """Return whether a release has begun and has not finished."""
    status = flow.get("status") or {}
    return bool(status.get("startedAt")) and not status.get("finished")


def stopped_from(cloneset: Json | None) -> int:
    """Return the replicas of a stopped instance before its stop; 0 if it was not stopped."""
    return _read(cloneset).stopped if cloneset is not None else 0


def _read(cloneset: Json) -> CloneSet:
    return msgspec.convert({"metadata": {}, **cloneset}, CloneSet)


def identity(releases: Sequence[Json], instance: str, cloneset: Json | None = None) -> Json:
    """Return the names and ids of the application from its newest release, else from its CloneSet: all that an action
    without a template contains of it. Raise `Refusal` if there is neither.
    """
    if not releases and cloneset is not None:
        return _identity_of(cloneset, instance)
    if not releases:
        raise Refusal("NoRelease", f"{instance} has no release: create it first (action create)")
    newest = max(releases, key=age)
    application = newest["spec"]["application"]
    return {field: application[field] for field in _IDENTITY}


def of_the_application(base: Json) -> Json:
    """Return the fields of `base`'s strategy that describe the application, not that one release."""
    strategy = base["spec"].get("updateStrategy") or {}
    return {key: value for key, value in strategy.items() if key in _OF_THE_APPLICATION}


def last_requested(releases: Sequence[Json]) -> Json | None:
    """Return the newest create or update, however it ended; None if there is none.

    The next update inherits its strategy, as it was requested.
    """
    for flow in reversed(updates(releases)):
        refused = (flow.get("status") or {}).get("reason") in _REFUSED
        if flow["spec"]["action"] in df.PASSING_ON and not refused:
            return flow
    return None


def inherited_strategy(releases: Sequence[Json], base: Json) -> Json:
    """Return the strategy that an update of `base` inherits: as the last create or update requested it."""
    last = last_requested(releases)
    return of_the_application(base) if last is None else requested_strategy_of(last)


def new_spec(base: Json, action: df.Action, replicas: int | None, strategy: Json) -> Json:
    """Return the spec of a new release of `base`'s application."""
    application: Json = copy.deepcopy(base["spec"]["application"])
    if replicas is not None:
        application["replicas"] = replicas
    return {"action": str(action), "application": application, "updateStrategy": strategy}


def rollback(base: Json, replicas: int | None, strategy: Json | None = None) -> df.DeployFlowSpec:
    """Return the spec of a rollback to `base`: all pods in one batch, unless `strategy` says otherwise."""
    fast: Json = {"mode": str(df.Mode.AUTO), **of_the_application(base)}
    spec = new_spec(base, df.Action.ROLLBACK, replicas, fast | (strategy or {}))
    return df.DeployFlowSpec.model_validate(spec)
