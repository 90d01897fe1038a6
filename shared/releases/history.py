"""Reads from the releases of an instance which were successful, and how many pods it has now. Pure."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.domain import deployflow as df
from shared.domain.deploy_commands import Refusal
from shared.domain.deployflow import FlowPhase
from shared.domain.json_types import Json
from shared.kube.clonesets import CloneSet

_OF_ONE_RELEASE: Final = df.inherited_by(df.InheritedBy.NONE)
"""Strategy fields that say where a release stood; a new one starts from its beginning."""
_OF_THE_APPLICATION: Final = df.inherited_by(df.InheritedBy.ALL)
"""Strategy fields that describe the application, not one release of it."""
NO_GOOD_TEMPLATE: Final = "NoGoodTemplate"
"""The reason why an action that would make pods of a refused template is refused."""
_IDENTITY: Final = ("appID", "groupID", "appName", "instanceName")


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


def last_good(releases: Sequence[Json], instance: str) -> Json:
    """Return the newest successful create, update or rollback; raise `Refusal` if there is none."""
    brought = updates(releases)
    for flow in reversed(brought):
        if is_good(flow):
            return flow
    hint = "its first one is not finished" if brought else "create it first (action create)"
    raise Refusal("NoRelease", f"{instance} has no successful release: {hint}")


def update_base(releases: Sequence[Json], instance: str) -> Json:
    """Return the release that an update starts from: the last good one or, where none was good and the newest has
    finished, that one: the update then acts as the first create. Raise `Refusal` if there is none.
    """
    brought = updates(releases)
    if any(is_good(flow) for flow in brought) or not brought:
        return last_good(releases, instance)
    newest = brought[-1]
    return newest if (newest.get("status") or {}).get("finished") else last_good(releases, instance)


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
    running = next((flow for flow in releases if _runs(flow)), None)
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
    read = _read(cloneset)
    # in the middle of a batch the pods that it makes are counted beside those that they replace
    before = read.hold.updated + read.hold.others if read.hold else read.spec.replicas
    return max(before, read.stopped) if action == df.Action.START else before


def _runs(flow: Json) -> bool:
    status = flow.get("status") or {}
    return bool(status.get("startedAt")) and not status.get("finished")


def stopped_from(cloneset: Json | None) -> int:
    """Return the replicas of a stopped instance before its stop; 0 if it was not stopped."""
    return _read(cloneset).stopped if cloneset is not None else 0


def _read(cloneset: Json) -> CloneSet:
    return msgspec.convert({"metadata": {}, **cloneset}, CloneSet)


def identity(releases: Sequence[Json], instance: str) -> Json:
    """Return the names and ids of the application from its newest release: all that an action without a template
    contains of it. Raise `Refusal` if there is no release.
    """
    if not releases:
        raise Refusal("NoRelease", f"{instance} has no release: create it first (action create)")
    newest = max(releases, key=age)
    application = newest["spec"]["application"]
    return {field: application[field] for field in _IDENTITY}


def of_the_application(base: Json) -> Json:
    """Return the fields of `base`'s strategy that describe the application, not that one release."""
    strategy = base["spec"].get("updateStrategy") or {}
    return {key: value for key, value in strategy.items() if key in _OF_THE_APPLICATION}


def new_spec(base: Json, action: df.Action, replicas: int | None) -> Json:
    """Return the spec of a new release of `base`'s application, with its strategy from the beginning."""
    application: Json = copy.deepcopy(base["spec"]["application"])
    if replicas is not None:
        application["replicas"] = replicas
    strategy: Json = {
        key: value
        for key, value in (base["spec"].get("updateStrategy") or {}).items()
        if key not in _OF_ONE_RELEASE
    }
    return {"action": str(action), "application": application, "updateStrategy": strategy}


def rollback(base: Json, replicas: int | None, strategy: Json | None = None) -> df.DeployFlowSpec:
    """Return the spec of a rollback to `base`: all pods in one batch, unless `strategy` says otherwise."""
    fast: Json = {"mode": str(df.Mode.AUTO), **of_the_application(base)}
    spec = new_spec(base, df.Action.ROLLBACK, replicas) | {"updateStrategy": fast | (strategy or {})}
    return df.DeployFlowSpec.model_validate(spec)
