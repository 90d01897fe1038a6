"""The statuses a kubelet reports: conditions and container states of pods that start, run, crash or end."""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .objects import condition_of, is_terminating, is_true, timestamp, with_condition

CRASH_MESSAGE = "the sandbox lets this container crash: its image tag or an annotation says so"


def gates_open(pod: Json) -> bool:
    return all(is_true(pod, gate["conditionType"]) for gate in pod["spec"].get("readinessGates") or ())


def closed_gates(pod: Json) -> list[str]:
    return [
        gate["conditionType"]
        for gate in pod["spec"].get("readinessGates") or ()
        if not is_true(pod, gate["conditionType"])
    ]


def scheduled(pod: Json, node: str) -> Json:
    """Return the pod bound to a node, as the scheduler leaves it."""
    status = pod.get("status") or {}
    conditions = with_condition(status.get("conditions") or [], "PodScheduled", True)
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {**status, "conditions": conditions}}


def unschedulable(pod: Json) -> Json:
    status = pod.get("status") or {}
    conditions = with_condition(
        status.get("conditions") or [],
        "PodScheduled",
        False,
        reason="Unschedulable",
        message="0/5 nodes are available: the sandbox keeps this pod unscheduled: its image tag or an annotation says "
        "so.",
    )
    return {**pod, "status": {**status, "conditions": conditions}}


def _container_id(pod: Json, name: str, restarts: int) -> str:
    return f"sandbox://{pod['metadata']['uid']}/{name}/{restarts}"


def _container(
    pod: Json, container: Json, state: Json, ready: bool, restarts: int, last: Json | None
) -> Json:
    started = "running" in state
    entry: Json = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": container.get("image", "") if started or restarts else "",
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }
    if started or restarts:
        entry["containerID"] = _container_id(pod, container["name"], restarts)
    return entry


def _with_containers(pod: Json, containers: list[Json], ready: bool, **more: Any) -> Json:
    status = pod.get("status") or {}
    conditions = with_condition(status.get("conditions") or [], "PodReadyToStartContainers", True)
    conditions = with_condition(conditions, "Initialized", True)
    details = (
        {}
        if ready
        else {"reason": "ContainersNotReady", "message": f"containers with unready status: [{_names(pod)}]"}
    )
    conditions = with_condition(
        _without_reason(conditions, "ContainersReady"), "ContainersReady", ready, **details
    )
    changed = {**pod, "status": {**status, **more, "conditions": conditions, "containerStatuses": containers}}
    return with_readiness(changed)


def _names(pod: Json) -> str:
    return " ".join(container["name"] for container in pod["spec"].get("containers") or ())


def _without_reason(conditions: list[Json], kind: str) -> list[Json]:
    return [
        {key: value for key, value in entry.items() if key not in ("reason", "message")}
        if entry.get("type") == kind
        else entry
        for entry in conditions
    ]


def running(pod: Json, address: str, ready: bool) -> Json:
    """Return the pod with all containers running; `ready` is the result of their own probes."""
    now = timestamp()
    containers = [
        _container(pod, c, {"running": {"startedAt": now}}, ready, 0, None) for c in pod["spec"]["containers"]
    ]
    return _with_containers(
        pod,
        containers,
        ready,
        phase="Running",
        startTime=now,
        podIP=address,
        podIPs=[{"ip": address}],
        hostIP="10.0.0.1",
        hostIPs=[{"ip": "10.0.0.1"}],
    )


def unready(pod: Json) -> Json:
    """Return the pod with its containers running but their probes failing."""
    containers = [{**entry, "ready": False} for entry in pod["status"]["containerStatuses"]]
    return _with_containers(pod, containers, False)


def crashed(pod: Json, address: str, restarts: int, exit_code: int = 1) -> Json:
    """Return the pod in CrashLoopBackOff after so many restarts, the last exit of the container in lastState."""
    now = timestamp()
    waiting: Json = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
    }
    containers = []
    for container in pod["spec"]["containers"]:
        last = {
            "terminated": {
                "exitCode": exit_code,
                "reason": "Error",
                "message": CRASH_MESSAGE,
                "startedAt": now,
                "finishedAt": now,
                "containerID": _container_id(pod, container["name"], restarts - 1),
            }
        }
        containers.append(_container(pod, container, waiting, False, restarts, last))
    since = (pod.get("status") or {}).get("startTime") or now
    return _with_containers(
        pod,
        containers,
        False,
        phase="Running",
        startTime=since,
        podIP=address,
        podIPs=[{"ip": address}],
        hostIP="10.0.0.1",
        hostIPs=[{"ip": "10.0.0.1"}],
    )


def image_missing(pod: Json, reason: str) -> Json:
    """Return the Pending pod in ErrImagePull at first, in ImagePullBackOff later."""
    containers = []
    for container in pod["spec"]["containers"]:
        image = container.get("image", "")
        message = (
            f'Back-off pulling image "{image}"'
            if reason == "ImagePullBackOff"
            else f'failed to pull and unpack image "{image}": not found (simulated)'
        )
        containers.append(
            _container(pod, container, {"waiting": {"reason": reason, "message": message}}, False, 0, None)
        )
    return _with_containers(pod, containers, False, phase="Pending", startTime=timestamp())


def invalid_image(pod: Json, names: list[str]) -> Json:
    """Return the Pending pod whose containers of these names have images that a kubelet can't read."""
    containers = [
        _waiting(pod, container, "InvalidImageName", invalid_image_text(container["image"]))
        if container["name"] in names
        else _waiting(pod, container, "ContainerCreating", "")
        for container in pod["spec"]["containers"]
    ]
    return _with_containers(pod, containers, False, phase="Pending", startTime=timestamp())


def invalid_image_text(image: str) -> str:
    cause = f'couldn\'t parse image name "{image}": invalid reference format'
    return f'Failed to apply default image tag "{image}": {cause}'


def initializing(pod: Json, address: str, states: list[Json]) -> Json:
    """Return the Pending pod with its init containers in these states, in order; all `Completed`: initialized.

    A state has the fields of a container's status that differ from one that has not run.
    """
    status = pod.get("status") or {}
    init = pod["spec"]["initContainers"]
    entries = [
        {**_waiting(pod, container, "PodInitializing", ""), **state}
        for container, state in zip(init, states, strict=True)
    ]
    incomplete = [entry["name"] for entry in entries if not entry["ready"]]
    details = (
        {
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{' '.join(incomplete)}]",
        }
        if incomplete
        else {}
    )
    conditions = with_condition(status.get("conditions") or [], "PodReadyToStartContainers", True)
    conditions = _without_reason(conditions, "Initialized")
    conditions = with_condition(conditions, "Initialized", not incomplete, **details)
    for kind in ("ContainersReady", "Ready"):
        text = f"containers with unready status: [{_names(pod)}]"
        conditions = with_condition(conditions, kind, False, reason="ContainersNotReady", message=text)
    changed: Json = {
        **status,
        "phase": "Pending",
        "startTime": status.get("startTime") or timestamp(),
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions,
        "initContainerStatuses": entries,
        "containerStatuses": [_waiting(pod, c, "PodInitializing", "") for c in pod["spec"]["containers"]],
    }
    return {**pod, "status": changed}


def init_state(pod: Json, container: Json, kind: str, restarts: int = 0) -> Json:
    """Return the state of an init container that `completed`, `runs`, or is in trouble (`crash`, `imagepull`)."""
    now = timestamp()
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
    match kind:
        case "completed":
            state: Json = {"terminated": ended}
        case "runs":
            state = {"running": {"startedAt": now}}
        case "invalid":
            return _waiting(pod, container, "InvalidImageName", invalid_image_text(container["image"]))
        case "imagepull":
            return _waiting(
                pod, container, "ImagePullBackOff", f'Back-off pulling image "{container["image"]}"'
            )
        case _:
            failed = {**ended, "exitCode": 1, "reason": "Error", "message": CRASH_MESSAGE}
            entry = _waiting(pod, container, "CrashLoopBackOff", "back-off restarting failed container")
            return {**entry, "restartCount": restarts, "lastState": {"terminated": failed}}
    return _container(pod, container, state, kind == "completed", restarts, None)


def _waiting(pod: Json, container: Json, reason: str, message: str) -> Json:
    waiting = {"reason": reason, "message": message} if message else {"reason": reason}
    return _container(pod, container, {"waiting": waiting}, False, 0, None)


def with_readiness(pod: Json) -> Json:
    """Return the pod with the Ready that follows from its containers and gates; the same object when unchanged."""
    contained = is_true(pod, "ContainersReady")
    ready = contained and gates_open(pod) and not is_terminating(pod)
    before = condition_of(pod, "Ready")
    details: dict[str, str] = {}
    if not contained:
        details = {
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{_names(pod)}]",
        }
    elif not ready and (closed := closed_gates(pod)):
        text = ", ".join(f'condition "{gate}" is not "True"' for gate in closed)
        details = {"reason": "ReadinessGatesNotReady", "message": f"corresponding {text}"}
    wanted = "True" if ready else "False"
    if (
        before
        and before["status"] == wanted
        and all(before.get(key) == text for key, text in details.items())
    ):
        return pod
    conditions = with_condition(
        _without_reason(pod["status"].get("conditions") or [], "Ready"), "Ready", ready, **details
    )
    return {**pod, "status": {**pod["status"], "conditions": conditions}}
