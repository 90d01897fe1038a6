"""One CloneSet and its pods: what executor, OpenKruise and readiness make of the planner's commands.

The executor's own pure decision carries the commands out. Nothing happens by itself: whoever drives it says
when OpenKruise looks, when pods are gone and when gates are opened. Time is a number that the driver moves on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import msgspec

from services.executor.cloneset_change import (
    Answer,
    Create,
    Delete,
    Patch,
    Rejection,
    decide_change,
    dry_run_body,
)
from services.executor.image_changes import image_changes
from shared.domain import messages as m
from shared.domain.deployflow import PodPhase
from shared.domain.json_types import Json
from shared.kube.clonesets import NO_PULL_IN, CloneSet, facts_of

NAMESPACE, INSTANCE = "default", "web"
HEAD: Json = {"namespace": NAMESPACE, "instance": INSTANCE}
OLD = "old"
"""The revision of the pods that are there at the start."""


@dataclasses.dataclass
class SimulatedPod:
    """`troubled`: something that no release did keeps it from serving, or made it. `connections`: None where it reports
    none.
    """

    name: str
    revision: str
    containers_ready: bool = False
    open: bool = False
    pulled_out: bool = False
    failed: bool = False
    deleting: bool = False
    troubled: bool = False
    marked: bool = False
    sequence: int = 0
    created_at: int = 0
    connections: int | None = None
    held: str = ""

    @property
    def uid(self) -> str:
        return f"uid-{self.name}"

    @property
    def ready(self) -> bool:
        return self.containers_ready and self.open and not self.failed and not self.deleting

    def crash(self) -> None:
        self.failed, self.troubled = True, True

    def fact(self) -> m.PodFact:
        phase = PodPhase.RUNNING
        if self.failed:
            phase = PodPhase.FAILED
        elif self.ready:
            phase = PodPhase.READY
        elif self.containers_ready:
            phase = PodPhase.CONTAINERS_READY
        return m.PodFact(
            **self._common(),
            phase=phase,
            sequence=self.sequence,
            deleting=self.deleting,
            reason="CrashLoopBackOff" if self.failed else "",
            message="back-off restarting failed container" if self.failed else "",
            at=self.created_at,
            held=self.held if self.deleting else "",
        )

    def ref(self) -> m.PodRef:
        return m.PodRef(**self._common())

    def _common(self) -> Json:
        return {
            "uid": self.uid,
            "name": self.name,
            "revision": self.revision,
            "ready": self.ready,
            "containers_ready": self.containers_ready and not self.failed and not self.deleting,
            "gate": m.Gate.OPEN if self.open else m.Gate.CLOSED,
            "created_at": self.created_at,
            "drained": self.connections is None or not (self.open or (self.pulled_out and self.connections)),
        }


def application(revision: str, replicas: int) -> Json:
    """What a DeployFlow releases; its pods will have this revision."""
    return {
        "appID": 1,
        "groupID": 1,
        "appName": "web",
        "instanceName": INSTANCE,
        "replicas": replicas,
        "template": {"spec": {"containers": [{"name": "web", "image": f"web:{revision}"}]}},
    }


def merged(live: Any, body: Any) -> Any:
    """A JSON merge patch (RFC 7386), written once more by somebody else than the code under test."""
    if not isinstance(body, dict):
        return body
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in body.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class Cluster:
    """`refusals`: kinds of commands that the API server refuses, each with its reason."""

    def __init__(self, replicas: int | None) -> None:
        self.now = 1_000_000
        self.body: Json | None = None
        self.pods: list[SimulatedPod] = []
        self.refusals: dict[str, str] = {}
        self.containers_start = True
        self.most: int | None = None
        """The most pods that a quota allows."""
        self.keeps_surplus = False
        """Pods beyond the count that nobody names are not removed: a hook of their owner holds them."""
        self.disturbed = False
        """Pods went by themselves: what a command did can't be distinguished from that any more."""
        self._made = 0
        self._target = self._before = OLD
        """The revision of the template, and the one before it: what pods beyond the partition are made of."""
        self._reported: dict[str, m.PodFact] = {}
        if replicas is not None:
            self.body = _at_rest(replicas)
            self.pods = [
                SimulatedPod(f"{OLD}-{n}", OLD, containers_ready=True, open=True, created_at=1000 + n)
                for n in range(replicas)
            ]
        self._known = {pod.uid: pod.name for pod in self.pods}
        """The pods whose end is still to be reported."""

    @property
    def cloneset(self) -> CloneSet | None:
        return None if self.body is None else msgspec.convert(self.body, CloneSet)

    @property
    def labels(self) -> Json:
        """The CloneSet's own labels, to be changed as anybody may."""
        assert self.body is not None
        labels: Json = self.body["metadata"]["labels"]
        return labels

    @property
    def facts(self) -> m.CloneSetFacts:
        return facts_of(self.cloneset)

    @property
    def live(self) -> list[SimulatedPod]:
        return [pod for pod in self.pods if not pod.deleting]

    # --- the executor ---

    def carry_out(self, command: m.ExecutorCommand) -> m.Result:
        head: Json = {**HEAD, "sequence": command.sequence}
        if command.type in self.refusals:
            reason = self.refusals[command.type]
            return m.Refused(**head, reason=reason, message=f"the API server says {reason}")
        todo = decide_change(command, self.cloneset, [pod.ref() for pod in self.live])
        match todo:
            case Answer(result=m.Done() as done) if isinstance(command, m.Observe):
                return done.model_copy(update=self._compared(command))
            case Answer():
                return todo.result
            case Rejection():
                self._write(todo.body)
                return todo.result
            case Create(body=body):
                self.body = merged(body, {"metadata": {"uid": "uid-cloneset", "generation": 1}})
                before: tuple[m.PodRef, ...] = ()
            case Delete():
                if not (self.cloneset and self.cloneset.metadata.finalizers):
                    self.body, self.pods = None, []
                return m.Done(**head, cloneset=self.facts)
            case Patch(body=body, before=before):
                self._write(body)
        return m.Done(**head, cloneset=self.facts, pods=list(before))

    def _compared(self, command: m.Observe) -> Json:
        """Return what a dry run of the command's application shows."""
        live = self.cloneset
        if command.application is None:
            return {}
        tried = merged(self.body or {}, dry_run_body(command, live))["spec"]["template"]
        return {
            "same_template": live is not None and tried == live.spec.template,
            "images": image_changes(live, tried),
        }

    def _write(self, patch: Json) -> None:
        assert self.body is not None
        spec = self.body["spec"]
        self.body = merged(self.body, patch)
        self.body["metadata"]["generation"] += spec != self.body["spec"]

    def scale(self, by: int) -> None:
        """Somebody else, an HPA perhaps, changes the CloneSet's replicas."""
        assert self.body is not None
        self._write({"spec": {"replicas": max(self.body["spec"]["replicas"] + by, 0)}})

    def scale_to(self, count: int) -> None:
        assert self.body is not None
        self._write({"spec": {"replicas": count}})

    # --- OpenKruise ---

    def reconcile(self) -> m.CloneSetSeen | None:
        """The CloneSet's controller catches up; what the executor reports of it."""
        live = self.cloneset
        if self.body is None or live is None:
            return None
        named = set(live.spec.scale_strategy.get("podsToDelete") or [])
        for pod in self.pods:
            pod.deleting = pod.deleting or pod.name in named
        target = self.body["spec"]["template"]["spec"]["containers"][0]["image"].removeprefix("web:")
        generation = self.body["metadata"]["generation"]
        self.body["status"] = {"observedGeneration": generation, "updateRevision": target}
        self._count(self.facts.partition, live.spec.replicas, target)
        if not live.spec.update_strategy.get("paused"):
            strays = [pod.name for pod in self.live if pod.revision != target]
            assert self.disturbed or not strays, f"OpenKruise would update these by itself: {strays}"
        facts = self.facts
        watched = facts.sequence and self.labels.get("managed-by") == "triton-io"
        return m.CloneSetSeen(**HEAD, sequence=facts.sequence, cloneset=facts) if watched else None

    def _count(self, partition: int, replicas: int, target: str) -> None:
        live = self.live
        partition = min(partition, replicas)
        assert self.body is not None
        hooked = "preDelete" in (self.body["spec"].get("lifecycle") or {})
        for pod in [pod for pod in live if pod.marked][
            : max(replicas - len(live) + sum(p.marked for p in live), 0)
        ]:
            pod.marked = False
        if any(pod.marked for pod in live) and hooked:
            # a scale-in stands while pods are marked
            return
        for pod in [pod for pod in live if pod.marked]:
            pod.deleting = True
            live.remove(pod)
        # too many and nobody named: from the revision that has more than the partition says, the youngest
        for _ in range(0 if self.keeps_surplus else len(live) - replicas):
            others = sum(pod.revision != target for pod in live)
            surplus = [pod for pod in live if (pod.revision != target) == (others > partition)]
            first = min(surplus or live, key=lambda pod: (pod.ready, -pod.created_at, pod.name))
            first.marked, first.deleting = hooked, not hooked
            live.remove(first)
        if target != self._target:
            self._before, self._target = self._target, target
        if all(pod.revision == target for pod in self.live):
            # with its last pod OpenKruise forgets a revision
            self._before = target
        wanted = replicas if self.most is None else min(replicas, self.most)
        for _ in range(wanted - len(self.live)):
            self._made += 1
            others = sum(pod.revision != target for pod in self.live)
            revision = self._before if others < partition else target
            pod = SimulatedPod(f"{revision}-{self._made + 100}", revision, created_at=self.now)
            pod.containers_ready = self.containers_start
            self.pods.append(pod)

    def terminate(self) -> None:
        """The pods that are being deleted are gone."""
        self.pods = [pod for pod in self.pods if not pod.deleting or pod.held]

    # --- readiness ---

    def move_gates(self, command: m.GateCommand) -> None:
        opened = isinstance(command, m.PullIn)
        for pod in self.live:
            if pod.uid in command.uids and pod.sequence <= command.sequence and pod.open != opened:
                pod.open, pod.pulled_out, pod.sequence = opened, not opened, command.sequence

    def open_unclaimed(self) -> None:
        """The gates of ready pods that no release claims."""
        live = self.cloneset
        if live is None or NO_PULL_IN in live.metadata.annotations:
            return
        target = live.status.update_revision
        for pod in self.live:
            claimed = live.hold is not None or bool(live.owner)
            held = claimed and not (live.settled and pod.revision != target)
            if pod.containers_ready and not pod.open and not pod.pulled_out and not held:
                pod.open = True

    def news(self) -> m.PodsSeen | None:
        """What has changed among the pods since the last report."""
        now_is = {pod.uid: pod.fact() for pod in self.pods}
        changed = [fact for uid, fact in now_is.items() if self._reported.get(uid) != fact]
        gone = [m.PodGone(uid=uid, name=name) for uid, name in self._known.items() if uid not in now_is]
        self._reported = now_is
        self._known = {uid: fact.name for uid, fact in now_is.items()}
        return m.PodsSeen(**HEAD, pods=changed, gone=gone, at=self.now) if changed or gone else None

    def everything(self) -> m.PodsSeen:
        """All pods there are, as after a rebalance."""
        self._reported = {pod.uid: pod.fact() for pod in self.pods}
        self._known = {pod.uid: pod.name for pod in self.pods}
        return m.PodsSeen(**HEAD, pods=list(self._reported.values()), complete=True, at=self.now)

    # --- what can be seen ---

    def serving(self) -> int:
        return sum(pod.ready for pod in self.pods)

    def of(self, revision: str) -> list[SimulatedPod]:
        return [pod for pod in self.live if pod.revision == revision]

    def named(self, uids: Iterable[str]) -> list[SimulatedPod]:
        return [pod for pod in self.pods if pod.uid in set(uids)]


def _at_rest(replicas: int) -> Json:
    """A CloneSet as a release of Triton's, long over, has left it."""
    command = m.Surge(
        **HEAD,
        sequence=0,
        flow=m.FlowRef(name="", uid=""),
        replicas=replicas,
        partition=0,
        hold=m.Hold(flow="", batch=0, surge=0, updated=0, others=0),
        application=application(OLD, replicas),
        create=True,
    )
    created = decide_change(command, None, [])
    assert isinstance(created, Create)
    return {
        **created.body,
        "metadata": {
            **created.body["metadata"],
            "uid": "uid-cloneset",
            "generation": 1,
            "annotations": {},
        },
        "spec": {**created.body["spec"], "updateStrategy": {"type": "ReCreate", "partition": 0}},
        "status": {"observedGeneration": 1, "updateRevision": OLD},
    }
