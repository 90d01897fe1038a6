"""Which containers are asked to shut down gracefully: those get a `preStop` that have none. Pure.

What the template says by annotation holds for as long as there is the template. A setting may change in the middle
of a release, and must not make another revision of it then: a template that the release has written before keeps
the hooks that it was given.
"""

from __future__ import annotations

from typing import Any, Final

from services.executor.change import BadTemplate
from shared.domain import messages as m
from shared.domain.deployflow import containers_of
from shared.domain.graceful_exit import GRACEFUL_SHUTDOWN, drain_of, number
from shared.kube.clonesets import CloneSet

Json = dict[str, Any]

PATH: Final = "/gracefully_shutdown"


def with_hooks(command: m.ExecutorCommand, live: CloneSet | None, *, by_setting: bool) -> m.ExecutorCommand:
    """The command with the hooks in the template that it carries, if any; raises `BadTemplate`."""
    if not isinstance(command, (m.Observe, m.Surge)) or not (command.application or {}).get("template"):
        return command
    application = command.application or {}
    written = live.spec.template if live is not None and _has_written(command, live) else None
    template = graceful(application["template"], by_setting=by_setting, written=written)
    return command.model_copy(update={"application": {**application, "template": template}})


def _has_written(command: m.Observe | m.Surge, live: CloneSet) -> bool:
    """Whether the template of the CloneSet is this release's own."""
    if isinstance(command, m.Surge) and command.hold.batch > 1:
        return True
    return live.hold is not None and live.hold.flow == command.flow.uid


def graceful(template: Any, *, by_setting: bool, written: Json | None = None) -> Any:
    """The template with its hooks. What is no template at all is left to those who refuse it."""
    metadata = template.get("metadata") or {} if isinstance(template, dict) else None
    annotations = metadata.get("annotations") or {} if isinstance(metadata, dict) else None
    containers = containers_of(template) if isinstance(template, dict) else []
    if (
        not isinstance(annotations, dict)
        or not containers
        or not all(isinstance(c, dict) for c in containers)
    ):
        return template
    try:
        drain_of(annotations, [port for container in containers for port in _ports(container)])
        wanted = _wanted(annotations, containers)
    except ValueError as error:
        raise BadTemplate(f"application.template.metadata.annotations: {error}") from error
    if wanted is None:
        wanted = _of_setting(containers, written) if written is not None else {}
        if written is None and by_setting:
            wanted = _each(containers)
    hooked = [_hooked(c, wanted[n]) if n in wanted else c for n, c in enumerate(containers)]
    return (
        template if hooked == containers else {**template, "spec": {**template["spec"], "containers": hooked}}
    )


def _wanted(annotations: Json, containers: list[Json]) -> dict[int, int] | None:
    """By the index of a container: the port that it is asked at. None: the template does not say."""
    match wish := annotations.get(GRACEFUL_SHUTDOWN):
        case None:
            return None
        case "false":
            return {}
        case "true":
            if wanted := _each(containers):
                return wanted
            raise ValueError(f"{GRACEFUL_SHUTDOWN} is true, but no container has a port: name one")
        case str() if not wish.isdecimal():
            raise ValueError(f"{GRACEFUL_SHUTDOWN} must be true, false or a port, not {wish!r}")
    port = number(GRACEFUL_SHUTDOWN, wish, 65_535)
    index = next((n for n, container in enumerate(containers) if port in _ports(container)), 0)
    return {index: port}


def _each(containers: list[Json]) -> dict[int, int]:
    """Every container that has a port, at its first."""
    return {n: ports[0] for n, container in enumerate(containers) if (ports := _ports(container))}


def _of_setting(containers: list[Json], written: Json) -> dict[int, int]:
    """Those that the setting has given a hook when the template was written."""
    there = {container.get("name"): container for container in containers_of(written)}
    hooked = {}
    for n, port in _each(containers).items():
        hook = (there.get(containers[n].get("name"), {}).get("lifecycle") or {}).get("preStop") or {}
        get = hook.get("httpGet") or {}
        if (get.get("path"), get.get("port")) == (PATH, port):
            hooked[n] = port
    return hooked


def _ports(container: Json) -> list[int]:
    ports = container.get("ports")
    return [
        port["containerPort"]
        for port in (ports if isinstance(ports, list) else [])
        if isinstance(port, dict)
        and isinstance(port.get("containerPort"), int)
        and port.get("protocol", "TCP") == "TCP"
    ]


def _hooked(container: Json, port: int) -> Json:
    lifecycle = container.get("lifecycle") or {}
    if not isinstance(lifecycle, dict) or lifecycle.get("preStop"):
        return container
    hook = {"httpGet": {"path": PATH, "port": port}}
    return {**container, "lifecycle": {**lifecycle, "preStop": hook}}
