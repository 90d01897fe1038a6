"""Adds a `preStop` hook to the containers that are to shut down gracefully and have none. Pure.

An annotation is part of the template and changes with it alone. The setting may change in the middle of a release,
and must not make another revision then: a template that the release has already written keeps its hooks.
"""

from __future__ import annotations

from typing import Any, Final

from services.executor.cloneset_change import BadTemplate
from shared.domain import messages as m
from shared.domain.deployflow import containers_of
from shared.domain.graceful_exit import GRACEFUL_SHUTDOWN, drain_of, number
from shared.domain.json_types import Json
from shared.kube.clonesets import CloneSet

PATH: Final = "/gracefully_shutdown"


def with_hooks(command: m.ExecutorCommand, live: CloneSet | None, *, by_setting: bool) -> m.ExecutorCommand:
    """Return the command with the hooks in its template, if it carries one; raise `BadTemplate`."""
    if not isinstance(command, (m.Observe, m.Surge)) or not (command.application or {}).get("template"):
        return command
    application = command.application or {}
    written = live.spec.template if live is not None and _wrote_template(command, live) else None
    template = graceful(application["template"], by_setting=by_setting, written=written)
    return command.model_copy(update={"application": {**application, "template": template}})


def _wrote_template(command: m.Observe | m.Surge, live: CloneSet) -> bool:
    """Decide whether the release of this command wrote the template of the CloneSet."""
    if isinstance(command, m.Surge) and command.hold.batch > 1:
        return True
    return live.hold is not None and live.hold.flow == command.flow.uid


def graceful(template: Any, *, by_setting: bool, written: Json | None = None) -> Any:
    """Return the template with its hooks. A value that is no template comes back unchanged: the decision refuses it."""
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
        wanted = _ports_by_annotation(annotations, containers)
    except ValueError as error:
        raise BadTemplate(f"application.template.metadata.annotations: {error}") from error
    if wanted is None:
        wanted = _ports_by_setting(containers, written) if written is not None else {}
        if written is None and by_setting:
            wanted = _first_ports(containers)
    hooked = [_with_hook(c, wanted[n]) if n in wanted else c for n, c in enumerate(containers)]
    return (
        template if hooked == containers else {**template, "spec": {**template["spec"], "containers": hooked}}
    )


def _ports_by_annotation(annotations: Json, containers: list[Json]) -> dict[int, int] | None:
    """Return by the index of a container the port of its hook; None where no annotation says."""
    match value := annotations.get(GRACEFUL_SHUTDOWN):
        case None:
            return None
        case "false":
            return {}
        case "true":
            if wanted := _first_ports(containers):
                return wanted
            raise ValueError(f"{GRACEFUL_SHUTDOWN} is true, but no container has a port: name one")
        case str() if not value.isdecimal():
            raise ValueError(f"{GRACEFUL_SHUTDOWN} must be true, false or a port, not {value!r}")
    port = number(GRACEFUL_SHUTDOWN, value, 65_535)
    index = next((n for n, container in enumerate(containers) if port in _ports(container)), 0)
    return {index: port}


def _first_ports(containers: list[Json]) -> dict[int, int]:
    """Return by the index of each container that has a port its first one."""
    return {n: ports[0] for n, container in enumerate(containers) if (ports := _ports(container))}


def _ports_by_setting(containers: list[Json], written: Json) -> dict[int, int]:
    """Return the containers that got a hook by the setting when the template was written."""
    written_containers = {container.get("name"): container for container in containers_of(written)}
    hooked = {}
    for n, port in _first_ports(containers).items():
        hook = (written_containers.get(containers[n].get("name"), {}).get("lifecycle") or {}).get(
            "preStop"
        ) or {}
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


def _with_hook(container: Json, port: int) -> Json:
    lifecycle = container.get("lifecycle") or {}
    if not isinstance(lifecycle, dict) or lifecycle.get("preStop"):
        return container
    hook = {"httpGet": {"path": PATH, "port": port}}
    return {**container, "lifecycle": {**lifecycle, "preStop": hook}}
