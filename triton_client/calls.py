"""Every call of the API as a value: what is sent, and how the answer is read. Nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from shared.domain.deployflow import DeployFlowSpec
from triton_client.answers import DeployFlow, Event, Instance, OneOfMany, Page, Plan, Pod

Json = dict[str, Any]
Spec = DeployFlowSpec | Json
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Ask(Generic[T]):
    """A request and how its answer is read. `match`: the ETag that the DeployFlow must still have; empty: any."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: Json | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    match: str = ""


@dataclass(frozen=True)
class Listen(Generic[T]):
    """A stream and how each of its events, an id and its data, is read. `after`: the id to go on behind."""

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
    go_on: str = "",
    all_namespaces: bool = False,
) -> Ask[Page]:
    """The releases, newest first, a page of at most 1000; `go_on` is what the page before said."""
    query = {
        "instanceName": instance,
        "action": action,
        "phase": phase,
        "after": _time(changed_after),
        "limit": limit,
        "continue": go_on,
    }
    path = "/api/v2/deployflows" if all_namespaces else _in(namespace, "deployflows")
    return Ask("GET", path, _page, query=_given(query))


def deployflow(namespace: str, name: str) -> Ask[DeployFlow]:
    """A release as it is now."""
    return Ask("GET", _in(namespace, "deployflows", name), _flow)


def watch(namespace: str, name: str) -> Listen[DeployFlow]:
    """A release as it is now and after every change, until it is over or deleted; connects again where it breaks."""
    return Listen(_in(namespace, "deployflows", name, "watch"), lambda _, data: DeployFlow(json.loads(data)))


def events(namespace: str, name: str, *, after: str = "") -> Listen[Event]:
    """What has happened to a release, from its beginning or behind the event `after`, and then what happens, until it
    is over. Where the connection breaks it goes on behind the last event.
    """
    path = _in(namespace, "deployflows", name, "events")
    return Listen(path, lambda at, data: Event(at, json.loads(data)), after)


# --- making and changing releases ---


def create(
    namespace: str, spec: Spec, *, name: str = "", queue: bool = False, freeze_override: str = ""
) -> Ask[DeployFlow]:
    """Begin a release of any action. `queue`: wait for one that runs, else that is a conflict."""
    body = _given({"name": name, "queue": queue, "freezeOverride": freeze_override})
    return Ask("POST", _in(namespace, "deployflows"), _flow, {"spec": _json(spec), **body})


def steer(namespace: str, name: str, strategy: Json, *, if_match: str = "") -> Ask[DeployFlow]:
    """Change fields of the strategy of a release that runs; one that is None is taken away."""
    return Ask("PATCH", _in(namespace, "deployflows", name), _flow, strategy, match=if_match)


def delete(namespace: str, name: str, *, if_match: str = "") -> Ask[None]:
    """Take a release that is over from the list."""
    return Ask("DELETE", _in(namespace, "deployflows", name), lambda _: None, match=if_match)


def next(  # noqa: A001 - as everywhere
    namespace: str, name: str, *, batch: int | None = None, stage: str | None = None, if_match: str = ""
) -> Ask[DeployFlow]:
    """Let a release that waits go one step on. `batch` and `stage`: the place it is meant for; past it nothing happens."""
    return _command(namespace, name, "next", if_match, _given({"batch": batch, "stage": stage}))


def continue_(
    namespace: str, name: str, *, batches: int | None = None, stage: str | None = None, if_match: str = ""
) -> Ask[DeployFlow]:
    """Let a release go on as far as a batch, a stage, or both."""
    target = _given({"batches": batches, "stage": stage})
    return _command(namespace, name, "continue", if_match, {"target": target})


def promote(namespace: str, name: str, *, if_match: str = "") -> Ask[DeployFlow]:
    """Let a release go past every gate, to its end."""
    return _command(namespace, name, "promote", if_match)


def pause(namespace: str, name: str, *, if_match: str = "") -> Ask[DeployFlow]:
    """No new batch begins and no pod is made until it is resumed."""
    return _command(namespace, name, "pause", if_match)


def resume(namespace: str, name: str, *, if_match: str = "") -> Ask[DeployFlow]:
    """Go on after a pause."""
    return _command(namespace, name, "resume", if_match)


def cancel(namespace: str, name: str, *, if_match: str = "") -> Ask[DeployFlow]:
    """End it: what was never baked goes, the rest keeps serving."""
    return _command(namespace, name, "cancel", if_match)


def retry(namespace: str, name: str, *, if_match: str = "") -> Ask[DeployFlow]:
    """Start the batch that failed anew."""
    return _command(namespace, name, "retry", if_match)


def _command(
    namespace: str, name: str, kind: str, if_match: str, body: Json | None = None
) -> Ask[DeployFlow]:
    return Ask("POST", _in(namespace, "deployflows", name, kind), _flow, body or None, match=if_match)


# --- instances ---


def instances(namespace: str, *, selector: str = "") -> Ask[list[Instance]]:
    """The instances that Triton made, by name; those with such labels, as `kubectl -l` takes them."""
    return Ask("GET", _in(namespace, "instances"), _items(Instance), query=_given({"selector": selector}))


def instance(namespace: str, instance: str) -> Ask[Instance]:
    """An instance as it is now."""
    return Ask("GET", _in(namespace, "instances", instance), _one(Instance))


def pods(namespace: str, instance: str) -> Ask[list[Pod]]:
    """The pods of an instance, oldest first."""
    return Ask("GET", _in(namespace, "instances", instance, "pods"), _items(Pod))


def history(
    namespace: str,
    instance: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> Ask[list[Json]]:
    """The documents of the release log of an instance, oldest first; so many of the newest, at most 10,000."""
    query = _given({"since": _time(since), "until": _time(until), "limit": limit})
    return Ask(
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
) -> Ask[DeployFlow]:
    """Release another image; all else stays as the last successful release has it."""
    body = {"container": container, "replicas": replicas, "freezeOverride": freeze_override}
    return _start(namespace, instance, "updates", strategy, queue, {"image": image, **_given(body)})


def rollback(namespace: str, instance: str, *, to: str = "", strategy: Json | None = None) -> Ask[DeployFlow]:
    """Go back to the release `to`, else the last successful one before this; whatever runs is taken over."""
    return _start(namespace, instance, "rollbacks", strategy, queue=False, body=_given({"deployName": to}))


def restart(
    namespace: str,
    instance: str,
    *,
    pods: Sequence[str] = (),
    strategy: Json | None = None,
    queue: bool = False,
) -> Ask[DeployFlow]:
    """Replace all pods, or those named, by fresh ones."""
    return _start(namespace, instance, "restarts", strategy, queue, _given({"pods": [*pods]}))


def scale(
    namespace: str,
    instance: str,
    replicas: int,
    *,
    pods: Sequence[str] = (),
    strategy: Json | None = None,
    queue: bool = False,
) -> Ask[DeployFlow]:
    """More or fewer pods; of fewer, those named go first. Refused as `NothingToDo` where there are that many."""
    body = {"replicas": replicas, **_given({"pods": [*pods]})}
    return _start(namespace, instance, "scales", strategy, queue, body)


def stop(
    namespace: str, instance: str, *, strategy: Json | None = None, queue: bool = False
) -> Ask[DeployFlow]:
    """No pods; it is remembered how many there were."""
    return _start(namespace, instance, "stops", strategy, queue)


def start(
    namespace: str, instance: str, *, strategy: Json | None = None, queue: bool = False
) -> Ask[DeployFlow]:
    """As many pods as before the stop."""
    return _start(namespace, instance, "starts", strategy, queue)


def delete_instance(namespace: str, instance: str) -> Ask[DeployFlow]:
    """Begin a release that takes all its pods away, drained, and then the instance."""
    return Ask("DELETE", _in(namespace, "instances", instance), _flow)


def _start(
    namespace: str,
    instance: str,
    kind: str,
    strategy: Json | None,
    queue: bool,
    body: Json | None = None,
) -> Ask[DeployFlow]:
    body = {**(body or {}), **_given({"strategy": strategy, "queue": queue})}
    return Ask("POST", _in(namespace, "instances", instance, kind), _flow, body)


# --- plans, and many at once ---


def plan(namespace: str, spec: Spec) -> Ask[Plan]:
    """The batches that a release would have now; nothing is started."""
    return Ask("POST", _in(namespace, "plans"), _one(Plan), {"spec": _json(spec)})


def restart_all(
    namespace: str, selector: str, *, strategy: Json | None = None, queue: bool = False
) -> Ask[list[OneOfMany]]:
    """Restart every instance with such labels, at most 100; each answers for itself."""
    body = {"selector": selector, **_given({"strategy": strategy, "queue": queue})}
    return Ask("POST", _in(namespace, "restarts"), _items(OneOfMany), body)


def scale_all(
    namespace: str, selector: str, replicas: int, *, strategy: Json | None = None, queue: bool = False
) -> Ask[list[OneOfMany]]:
    """Give every instance with such labels so many pods, at most 100 instances; each answers for itself."""
    body = {"selector": selector, "replicas": replicas, **_given({"strategy": strategy, "queue": queue})}
    return Ask("POST", _in(namespace, "scales"), _items(OneOfMany), body)


# --- how it is written and read ---


def _in(namespace: str, *parts: str) -> str:
    return "/".join(["/api/v2/namespaces", *(quote(part, safe="") for part in (namespace, *parts))])


def _given(fields: Json) -> Json:
    """Without what nobody asked for."""
    return {key: value for key, value in fields.items() if value or (value == 0 and value is not False)}


def _json(spec: Spec) -> Json:
    if isinstance(spec, DeployFlowSpec):
        return spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
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
