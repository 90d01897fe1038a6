"""Every operation of the API as a value: the request, and how to read its answer. Nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from triton_client.models import Event, Instance, OneOfMany, Page, Plan, Pod
from triton_client.resources import DeployFlow, DeployFlowSpec, Json

Spec = DeployFlowSpec | Json
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Operation(Generic[T]):
    """A request and how to read its answer. `if_match`: the ETag that the DeployFlow must still have; empty: any."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: Json | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    if_match: str = ""


@dataclass(frozen=True)
class Subscription(Generic[T]):
    """A stream and how to read each of its events from its id and data. `after`: the id of the last known event."""

    path: str
    read: Callable[[str, str], T]
    after: str = ""


# --- reading releases ---


def deployflows(
    namespace: str,
    *,
    instance: str = "",
    action: str = "",
    phase: str = "",
    changed_after: datetime | None = None,
    limit: int = 100,
    continue_token: str = "",
    all_namespaces: bool = False,
) -> Operation[Page]:
    """Return a page of at most 1000 releases, newest first; `continue_token` is that of the page before."""
    query = {
        "instanceName": instance,
        "action": action,
        "phase": phase,
        "after": _time(changed_after),
        "limit": limit,
        "continue": continue_token,
    }
    path = "/api/v2/deployflows" if all_namespaces else _in(namespace, "deployflows")
    return Operation("GET", path, _page, query=_without_empty(query))


def deployflow(namespace: str, name: str) -> Operation[DeployFlow]:
    """Return the current state of a release."""
    return Operation("GET", _in(namespace, "deployflows", name), _flow)


def watch(namespace: str, name: str) -> Subscription[DeployFlow]:
    """Yield a release now and after every change, until it is finished or deleted; reconnects if the stream breaks."""
    return Subscription(
        _in(namespace, "deployflows", name, "watch"), lambda _, data: DeployFlow(json.loads(data))
    )


def events(namespace: str, name: str, *, after: str = "") -> Subscription[Event]:
    """Yield the events of a release, from its start or after the event `after`, until it is finished.

    If the stream breaks it continues after the last event.
    """
    path = _in(namespace, "deployflows", name, "events")
    return Subscription(path, lambda at, data: Event(at, json.loads(data)), after)


# --- making and changing releases ---


def create(
    namespace: str,
    spec: Spec,
    *,
    name: str = "",
    queue: bool = False,
    freeze_override: str = "",
    keep: bool = False,
) -> Operation[DeployFlow]:
    """Create a release of any action.

    `queue`: wait for a running release of the instance, which else is a conflict. `keep`: it is not deleted beyond the
    history limit of its instance.
    """
    body = _without_empty({"name": name, "queue": queue, "freezeOverride": freeze_override, "keep": keep})
    return Operation("POST", _in(namespace, "deployflows"), _flow, {"spec": _json(spec), **body})


def steer(namespace: str, name: str, strategy: Json, *, if_match: str = "") -> Operation[DeployFlow]:
    """Change fields of the strategy of a running release; a field that is None is removed."""
    return Operation("PATCH", _in(namespace, "deployflows", name), _flow, strategy, if_match=if_match)


def delete(namespace: str, name: str, *, if_match: str = "") -> Operation[None]:
    """Delete the object of a finished release."""
    return Operation("DELETE", _in(namespace, "deployflows", name), lambda _: None, if_match=if_match)


def next(  # noqa: A001 - as everywhere
    namespace: str, name: str, *, batch: int | None = None, stage: str | None = None, if_match: str = ""
) -> Operation[DeployFlow]:
    """Approve the next step of a waiting release.

    `batch` and `stage`: the place it is meant for; once past it, nothing happens.
    """
    return _command(namespace, name, "next", if_match, _without_empty({"batch": batch, "stage": stage}))


def continue_(
    namespace: str, name: str, *, batches: int | None = None, stage: str | None = None, if_match: str = ""
) -> Operation[DeployFlow]:
    """Approve a release up to a batch, a phase, or both."""
    target = _without_empty({"batches": batches, "stage": stage})
    return _command(namespace, name, "continue", if_match, {"target": target})


def promote(namespace: str, name: str, *, if_match: str = "") -> Operation[DeployFlow]:
    """Approve a release to its end."""
    return _command(namespace, name, "promote", if_match)


def pause(namespace: str, name: str, *, if_match: str = "") -> Operation[DeployFlow]:
    """Pause a release: no new batch starts and no pod is made until it is resumed."""
    return _command(namespace, name, "pause", if_match)


def resume(namespace: str, name: str, *, if_match: str = "") -> Operation[DeployFlow]:
    """Resume a paused release."""
    return _command(namespace, name, "resume", if_match)


def cancel(namespace: str, name: str, *, if_match: str = "") -> Operation[DeployFlow]:
    """End a release: new pods that are not baked are deleted, the others keep serving."""
    return _command(namespace, name, "cancel", if_match)


def retry(namespace: str, name: str, *, if_match: str = "") -> Operation[DeployFlow]:
    """Start the failed batch again."""
    return _command(namespace, name, "retry", if_match)


def _command(
    namespace: str, name: str, kind: str, if_match: str, body: Json | None = None
) -> Operation[DeployFlow]:
    return Operation(
        "POST", _in(namespace, "deployflows", name, kind), _flow, body or None, if_match=if_match
    )


# --- instances ---


def instances(namespace: str, *, selector: str = "") -> Operation[list[Instance]]:
    """Return the instances that Triton manages, by name; `selector` is one of labels, as in `kubectl -l`."""
    return Operation(
        "GET", _in(namespace, "instances"), _items(Instance), query=_without_empty({"selector": selector})
    )


def instance(namespace: str, instance: str) -> Operation[Instance]:
    """Return the current state of an instance."""
    return Operation("GET", _in(namespace, "instances", instance), _one(Instance))


def pods(namespace: str, instance: str) -> Operation[list[Pod]]:
    """Return the pods of an instance, oldest first."""
    return Operation("GET", _in(namespace, "instances", instance, "pods"), _items(Pod))


def history(
    namespace: str,
    instance: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> Operation[list[Json]]:
    """Return the newest documents of an instance in the release log, oldest first; `limit` is at most 10,000."""
    query = _without_empty({"since": _time(since), "until": _time(until), "limit": limit})
    return Operation(
        "GET", _in(namespace, "instances", instance, "history"), lambda it: it.json()["items"], query=query
    )


def update(
    namespace: str,
    instance: str,
    image: str,
    *,
    container: str | None = None,
    replicas: int | None = None,
    strategy: Json | None = None,
    queue: bool = False,
    freeze_override: str = "",
) -> Operation[DeployFlow]:
    """Release another image; everything else stays as in the last successful release, the strategy as it was requested
    last.
    """
    body = {"container": container, "replicas": replicas, "freezeOverride": freeze_override}
    return _start(namespace, instance, "updates", strategy, queue, {"image": image, **_without_empty(body)})


def rollback(
    namespace: str, instance: str, *, to: str = "", strategy: Json | None = None
) -> Operation[DeployFlow]:
    """Release the template of the release `to` again, else of the last successful one; aborts the running release."""
    return _start(
        namespace, instance, "rollbacks", strategy, queue=False, body=_without_empty({"deployName": to})
    )


def restart(
    namespace: str,
    instance: str,
    *,
    pods: Sequence[str] = (),
    strategy: Json | None = None,
    queue: bool = False,
) -> Operation[DeployFlow]:
    """Replace all pods, or the named ones, by new pods."""
    return _start(namespace, instance, "restarts", strategy, queue, _without_empty({"pods": [*pods]}))


def scale(
    namespace: str,
    instance: str,
    replicas: int,
    *,
    pods: Sequence[str] = (),
    strategy: Json | None = None,
    queue: bool = False,
) -> Operation[DeployFlow]:
    """Change the number of pods; named pods are deleted first. Refused as `NothingToDo` if the number is the same."""
    body = {"replicas": replicas, **_without_empty({"pods": [*pods]})}
    return _start(namespace, instance, "scales", strategy, queue, body)


def stop(
    namespace: str, instance: str, *, strategy: Json | None = None, queue: bool = False
) -> Operation[DeployFlow]:
    """Delete all pods; `start` brings the same number back."""
    return _start(namespace, instance, "stops", strategy, queue)


def start(
    namespace: str, instance: str, *, strategy: Json | None = None, queue: bool = False
) -> Operation[DeployFlow]:
    """Make as many pods as there were before the stop."""
    return _start(namespace, instance, "starts", strategy, queue)


def adopt(
    namespace: str,
    instance: str,
    *,
    app_id: int | None = None,
    group_id: int | None = None,
    app_name: str | None = None,
) -> Operation[Instance]:
    """Have Triton adopt a CloneSet that it did not make; needs the right to update that CloneSet.

    The ids and the name of the application become labels of the CloneSet; without them it keeps its own.
    """
    body = _without_empty({"appID": app_id, "groupID": group_id, "appName": app_name})
    return Operation("POST", _in(namespace, "instances", instance, "adoptions"), _one(Instance), body)


def delete_instance(namespace: str, instance: str) -> Operation[DeployFlow]:
    """Create a release that drains and deletes all pods of an instance, and then the instance."""
    return Operation("DELETE", _in(namespace, "instances", instance), _flow)


def _start(
    namespace: str,
    instance: str,
    kind: str,
    strategy: Json | None,
    queue: bool,
    body: Json | None = None,
) -> Operation[DeployFlow]:
    body = {**(body or {}), **_without_empty({"strategy": strategy, "queue": queue})}
    return Operation("POST", _in(namespace, "instances", instance, kind), _flow, body)


# --- plans, and many at once ---


def plan(namespace: str, spec: Spec) -> Operation[Plan]:
    """Return the batches that a release would have now; nothing is started."""
    return Operation("POST", _in(namespace, "plans"), _one(Plan), {"spec": _json(spec)})


def restart_all(
    namespace: str, selector: str, *, strategy: Json | None = None, queue: bool = False
) -> Operation[list[OneOfMany]]:
    """Restart every instance that has the labels, at most 100; each has its own result."""
    body = {"selector": selector, **_without_empty({"strategy": strategy, "queue": queue})}
    return Operation("POST", _in(namespace, "restarts"), _items(OneOfMany), body)


def scale_all(
    namespace: str, selector: str, replicas: int, *, strategy: Json | None = None, queue: bool = False
) -> Operation[list[OneOfMany]]:
    """Scale every instance that has the labels, at most 100; each has its own result."""
    body = {
        "selector": selector,
        "replicas": replicas,
        **_without_empty({"strategy": strategy, "queue": queue}),
    }
    return Operation("POST", _in(namespace, "scales"), _items(OneOfMany), body)


# --- writing requests and reading answers ---


def _in(namespace: str, *parts: str) -> str:
    return "/".join(["/api/v2/namespaces", *(quote(part, safe="") for part in (namespace, *parts))])


def _without_empty(fields: Json) -> Json:
    """Return the fields without those that are empty or False."""
    return {key: value for key, value in fields.items() if value or (value == 0 and value is not False)}


def _json(spec: Spec) -> Json:
    if isinstance(spec, DeployFlowSpec):
        return spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return spec


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat() if moment else ""


def _flow(answer: httpx.Response) -> DeployFlow:
    return DeployFlow(answer.json(), answer.headers.get("ETag", ""))


def _page(answer: httpx.Response) -> Page:
    body = answer.json()
    return Page([DeployFlow(item) for item in body["items"]], body["continue"])


def _one(model: type[Model]) -> Callable[[httpx.Response], Model]:
    return lambda answer: model.model_validate(answer.json())


def _items(model: type[Model]) -> Callable[[httpx.Response], list[Model]]:
    return lambda answer: [model.model_validate(item) for item in answer.json()["items"]]
