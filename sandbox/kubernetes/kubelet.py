"""Scheduler and kubelet in one: gives pods a node, lets them start, keeps Ready in step with the gates, ends
them.

Every pod is a handful of timers. What a pod does is said by `behaviours`, what that looks like by
`pod_states`; here is only when. A pod's changes are answered in the next turn of the loop, so Ready follows a
gate within a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from shared.domain.json_types import Json

from . import hooks, pod_states
from .api import Api
from .behaviours import Behaviour, Span, behaviour_of, init_kind, is_image
from .builtins import NODES, PODS
from .objects import is_terminating, is_true, name_of, namespace_of, uid_of
from .pod_defaults import Addresses
from .recorder import Recorder
from .store import Event

RESTARTS_AT_FIRST = 3
"""How often a crashing container has been restarted when it is first seen: what the project's real test
cluster shows."""

RESTARTS_AT_MOST = 12
RESTART_SECONDS = 2.0
"""Until the next restart of a crashing container; each later one waits twice as long, up to five minutes."""

PULL_RETRY_SECONDS = 1.0

INIT_SECONDS = 0.1
"""How long an init container runs."""

PROBE_FAILED = "Readiness probe failed: HTTP probe failed with statuscode: 503 (simulated)"

START = Span(0.2, 1.2)
STOP = Span(0.1, 0.5)


@dataclass(frozen=True)
class Timing:
    """The default durations of pods, in seconds."""

    start: Span = START
    stop: Span = STOP


def _first(pod: Json) -> Json:
    container: Json = pod["spec"]["containers"][0]
    return container


def _is_sidecar(container: Json) -> bool:
    return container.get("restartPolicy") == "Always"


def _restart_wait(restarts: int) -> float:
    return min(RESTART_SECONDS * 2.0 ** max(restarts - RESTARTS_AT_FIRST, 0), 300.0)


class _Pod(NamedTuple):
    """A pod on its node: what it does, its address, and the timers and hooks that wait for it."""

    behaviour: Behaviour
    address: str
    timers: dict[str, asyncio.TimerHandle | asyncio.Task[None]]


class Kubelet:
    """All nodes' kubelets, and the scheduler."""

    def __init__(self, api: Api, recorder: Recorder, timing: Timing, nodes: list[str]) -> None:
        self._api = api
        self._recorder = recorder
        self._timing = timing
        self._nodes = nodes
        self._turn = 0
        self._addresses = Addresses("10.128.0.0/12")
        self._pods: dict[str, _Pod] = {}
        self._dirty: dict[str, None] = {}
        self._waking = False
        self._loop = asyncio.get_running_loop()
        api.store.listen(PODS.key, self._changed)

    def _changed(self, event: Event) -> None:
        uid = uid_of(event.record.obj)
        if event.kind == "DELETED":
            if pod := self._pods.pop(uid, None):
                for timer in pod.timers.values():
                    timer.cancel()
            return
        self._dirty[uid] = None
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._waking = False
        dirty, self._dirty = self._dirty, {}
        for uid in dirty:
            if pod := self._live(uid):
                self._step(pod)

    def _live(self, uid: str) -> Json | None:
        place = self._api.store.places.get(uid)
        record = self._api.store.at(place) if place else None
        return record.obj if record else None

    def _step(self, pod: Json) -> None:
        """Act on one pod after it has changed."""
        known = self._pods.get(uid_of(pod))
        if known is None:
            behaviour = behaviour_of(pod, self._timing.start, self._timing.stop)
            known = _Pod(behaviour, behaviour.address or self._addresses.take(), {})
            self._pods[uid_of(pod)] = known
            self._admit(pod, known)
        elif is_terminating(pod):
            self._end(pod, known)
        elif "containerStatuses" in (pod.get("status") or {}):
            self._follow(pod, known)

    def _admit(self, pod: Json, known: _Pod) -> None:
        if known.behaviour.kind == "unschedulable" and not pod["spec"].get("nodeName"):
            self._write(pod_states.unschedulable(pod))
            self._recorder.about(
                pod,
                "FailedScheduling",
                "0/5 nodes are available (simulated).",
                "Warning",
                "default-scheduler",
            )
            return
        node = pod["spec"].get("nodeName") or self._pick_node()
        self._write(pod_states.scheduled(pod, node))
        self._recorder.about(
            pod,
            "Scheduled",
            f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {node}",
            component="default-scheduler",
        )
        self._later(uid_of(pod), "start", known.behaviour.start.draw(), self._start)

    def _pick_node(self) -> str:
        """Return the next node in turn that is not cordoned; any node when all are."""
        self._turn += 1
        order = [self._nodes[(self._turn + n) % len(self._nodes)] for n in range(len(self._nodes))]
        return next((name for name in order if not self._is_cordoned(name)), order[0])

    def _is_cordoned(self, name: str) -> bool:
        node = self._api.store.get(NODES.key, "", name)
        return node is not None and bool(node.obj.get("spec", {}).get("unschedulable"))

    def _start(self, pod: Json, known: _Pod) -> None:
        """Run the init containers, one after the other, and then the containers."""
        if is_terminating(pod):
            return
        if pod["spec"].get("initContainers"):
            self._initialize(pod, known, 0)
        else:
            self._run(pod, known)

    def _initialize(self, pod: Json, known: _Pod, done: int, restarts: int = RESTARTS_AT_FIRST) -> None:
        """Let the init container run that comes after the first `done`; one that fails is run again and again."""
        if is_terminating(pod):
            return
        containers = pod["spec"]["initContainers"]
        states = [
            pod_states.init_state(pod, container, "runs" if _is_sidecar(container) else "completed")
            | {"ready": True}
            for container in containers[:done]
        ]
        if done == len(containers):
            self._write(pod_states.initializing(pod, known.address, states))
            self._later(uid_of(pod), "start", 0.0, self._run)
            return
        container = containers[done]
        kind = init_kind(container) if is_image(container["image"]) else "invalid"
        state = pod_states.init_state(pod, container, kind if kind and kind != "hang" else "runs", restarts)
        later: list[Json] = [{} for _ in containers[done + 1 :]]
        self._write(pod_states.initializing(pod, known.address, [*states, state, *later]))
        if not kind:
            self._later(
                uid_of(pod), "init", INIT_SECONDS, lambda live, it: self._initialize(live, it, done + 1)
            )
        elif kind == "crash":
            where = f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"
            text = f"Back-off restarting failed container {container['name']} in pod {where}"
            self._warn(pod, "BackOff", text)
            if restarts < RESTARTS_AT_MOST:
                self._later(
                    uid_of(pod),
                    "init",
                    _restart_wait(restarts),
                    lambda live, it: self._initialize(live, it, done, restarts + 1),
                )
        elif kind == "imagepull":
            self._warn(pod, "BackOff", f'Back-off pulling image "{container["image"]}"')
        elif kind == "invalid":
            self._warn(pod, "InspectFailed", pod_states.invalid_image_text(container["image"]))

    def _run(self, pod: Json, known: _Pod) -> None:
        if is_terminating(pod):
            return
        unreadable = [c for c in pod["spec"]["containers"] if not is_image(c["image"])]
        if unreadable:
            self._write(pod_states.invalid_image(pod, [container["name"] for container in unreadable]))
            for container in unreadable:
                self._warn(pod, "InspectFailed", pod_states.invalid_image_text(container["image"]))
            self._warn(pod, "Failed", "Error: InvalidImageName")
            return
        match known.behaviour.kind:
            case "crash":
                self._crash(pod, known, RESTARTS_AT_FIRST)
            case "imagepull":
                self._write(pod_states.image_missing(pod, "ErrImagePull"))
                image = _first(pod)["image"]
                self._warn(pod, "Failed", f'Failed to pull image "{image}": not found (simulated)')
                self._warn(pod, "Failed", "Error: ErrImagePull")
                self._later(uid_of(pod), "pull", PULL_RETRY_SECONDS, self._back_off_pull)
            case kind:
                self._write(pod_states.running(pod, known.address, ready=kind not in ("hang", "never-ready")))
                self._recorder.about(pod, "Started", f"Started container {_first(pod)['name']}")
                if kind in ("hang", "never-ready"):
                    self._warn(pod, "Unhealthy", PROBE_FAILED)

    def _back_off_pull(self, pod: Json, _known: _Pod) -> None:
        if not is_terminating(pod):
            self._write(pod_states.image_missing(pod, "ImagePullBackOff"))
            self._warn(pod, "BackOff", f'Back-off pulling image "{_first(pod)["image"]}"')
            self._warn(pod, "Failed", "Error: ImagePullBackOff")

    def _crash(self, pod: Json, known: _Pod, restarts: int) -> None:
        if is_terminating(pod):
            return
        self._write(pod_states.crashed(pod, known.address, restarts))
        where = f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"
        self._warn(
            pod, "BackOff", f"Back-off restarting failed container {_first(pod)['name']} in pod {where}"
        )
        if restarts < RESTARTS_AT_MOST:
            self._later(
                uid_of(pod),
                "crash",
                _restart_wait(restarts),
                lambda live, it: self._crash(live, it, restarts + 1),
            )

    def _lose_ready(self, pod: Json, _known: _Pod) -> None:
        if not is_terminating(pod):
            self._write(pod_states.unready(pod))
            self._warn(pod, "Unhealthy", PROBE_FAILED)

    def _follow(self, pod: Json, known: _Pod) -> None:
        kind = known.behaviour.kind
        if kind == "unready-in-traffic" and is_true(pod, "ContainersReady") and pod_states.gates_open(pod):
            self._lose_ready(pod, known)
            return
        changed = pod_states.with_readiness(pod)
        if changed is not pod:
            self._write(changed)
        if not is_true(changed, "Ready") or "fail" in known.timers:
            return
        after = known.behaviour.fail_after
        if kind == "crash-after-ready":
            self._later(uid_of(pod), "fail", after, lambda live, it: self._crash(live, it, 1))
        elif kind == "unready-after-ready":
            self._later(uid_of(pod), "fail", after, self._lose_ready)

    def _end(self, pod: Json, known: _Pod) -> None:
        """Take Ready away at once, and the pod after its hooks and stop time or its grace period, whichever
        is shorter.
        """
        if not pod["metadata"].get("deletionGracePeriodSeconds"):
            return
        if not known.timers.keys() & {"stop", "hooks"}:
            grace = float(pod["metadata"]["deletionGracePeriodSeconds"])
            if found := hooks.hooks_of(pod):
                known.timers["hooks"] = self._loop.create_task(self._run_hooks(pod, known, found, grace))
            else:
                self._later(uid_of(pod), "stop", min(known.behaviour.stop.draw(), grace), self._stop)
            self._recorder.about(pod, "Killing", f"Stopping container {_first(pod)['name']}")
        if "containerStatuses" in pod["status"]:
            changed = pod_states.with_readiness(pod)
            if changed is not pod:
                self._write(changed)

    async def _run_hooks(self, pod: Json, known: _Pod, found: list[hooks.Hook], grace: float) -> None:
        """Run all hooks at once, as containers stop side by side; report a failure and go ahead all the same."""
        end = self._loop.time() + grace

        async def one(hook: hooks.Hook) -> None:
            try:
                said = await hooks.run(hook, known.behaviour.address)
            except hooks.HookFailed as error:
                self._recorder.about(pod, "FailedPreStopHook", f"PreStopHook failed: {error}", "Warning")
            else:
                self._recorder.about(pod, "PreStopHook", said)

        try:
            async with asyncio.timeout(grace):
                await asyncio.gather(*(one(hook) for hook in found))
        except TimeoutError:
            text = f"PreStopHook failed: not done within the grace period of {grace:g} s"
            self._recorder.about(pod, "FailedPreStopHook", text, "Warning")
        left = max(end - self._loop.time(), hooks.EXTENSION_SECONDS)
        self._later(uid_of(pod), "stop", min(known.behaviour.stop.draw(), left), self._stop)

    def _stop(self, pod: Json, _known: _Pod) -> None:
        self._api.finish_delete(PODS, namespace_of(pod), name_of(pod), uid_of(pod))

    def _warn(self, pod: Json, reason: str, message: str) -> None:
        self._recorder.about(pod, reason, message, "Warning")

    def _write(self, pod: Json) -> None:
        self._api.store.put(PODS.key, pod)

    def _later(self, uid: str, what: str, seconds: float, action: Callable[[Json, _Pod], None]) -> None:
        """Schedule an action on a pod in its state at that time; skip it if the pod is gone."""

        def due() -> None:
            known, pod = self._pods.get(uid), self._live(uid)
            if known is not None and pod is not None:
                action(pod, known)

        known = self._pods.get(uid)
        if known is not None:
            known.timers[what] = self._loop.call_later(seconds, due)

    def close(self) -> None:
        for pod in self._pods.values():
            for timer in pod.timers.values():
                timer.cancel()
