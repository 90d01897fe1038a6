"""What must hold at every moment, checked at each change of an object. Each check keeps what it needs, and does no I/O."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.campaigns.observed import Flow, image_of, never_ready
from shared.domain.messages import Gate
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod


class Violation(NamedTuple):
    """`check`: the name of what does not hold; `text`: what was seen."""

    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.check}: {self.text}"


READY: Final = "ready-under-wanted"
GATE: Final = "gate-not-smoked"
UNAPPROVED: Final = "gate-not-approved"
CRASHING: Final = "traffic-for-crashing"
BATCHES: Final = "batches-went-back"
SEQUENCE: Final = "sequence-went-back"
TWO: Final = "two-releases-at-once"


class ReadyFloor:
    """No fewer pods than wanted are Ready, but for those that somebody took, and those that failed by themselves.

    The floor holds from the moment that as many pods were Ready. Each Ready pod that somebody else took, or that failed,
    lowers it by one until the round ends: whether the pod that became Ready next took its place, or was the next of a
    batch, cannot be seen from outside.
    """

    def __init__(self) -> None:
        self.floor = 0
        self._holds = False
        self._ready: set[str] = set()
        self._taken: set[str] = set()
        self._lost = 0
        """Pods that were taken or failed in this round."""

    def begin(self, floor: int) -> None:
        self.floor, self._lost = floor, 0
        self._holds = len(self._ready) >= floor

    def lower(self, floor: int) -> None:
        """Fewer are wanted from now on."""
        self.floor = min(self.floor, floor)

    def take(self, uid: str) -> None:
        """Somebody else takes this pod."""
        self._taken.add(uid)

    def scale(self, live: int, count: int) -> None:
        """Somebody else writes a count: of so many pods that live, OpenKruise chooses those that go."""
        self.lower(count)
        self._lost += max(live - count, 0)

    def pod(self, old: Pod | None, new: Pod | None) -> Violation | None:
        pod = new or old
        assert pod is not None
        uid = pod.metadata.uid
        if new is not None and new.ready and not new.deleting:
            self._ready.add(uid)
            self._holds = self._holds or len(self._ready) >= self.floor
            return None
        if uid not in self._ready:
            return None
        self._ready.discard(uid)
        fails = new is not None and not new.deleting and not new.containers_ready
        if uid in self._taken or fails:
            self._lost += 1
            return None
        if not self._holds or len(self._ready) >= self.floor - self._lost:
            return None
        self._holds = False
        how = "is being deleted" if new is None or new.deleting else "lost its gate"
        taken = f", {self._lost} were taken or failed" if self._lost else ""
        text = f"{pod.metadata.name} {how}: {len(self._ready)} pods are Ready, {self.floor} are wanted{taken}"
        return Violation(READY, text)


class OpenedGates:
    """A gate is opened only where the containers are ready, and not before the release may send traffic there."""

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        """Images whose pods may have no traffic yet, and the release that waits for a person."""

    def approve(self, release: str) -> None:
        """The pods of that release may have traffic from now on."""
        for image in [image for image, of in self.waiting.items() if of == release]:
            del self.waiting[image]

    def pod(self, old: Pod | None, new: Pod | None) -> Violation | None:
        if old is None or new is None or old.gate == Gate.OPEN or new.gate != Gate.OPEN or new.deleting:
            return None
        if not new.containers_ready:
            return Violation(
                GATE, f"the gate of {new.metadata.name} was opened, its containers are not ready"
            )
        if release := self.waiting.get(image_of(new)):
            return Violation(
                UNAPPROVED,
                f"the gate of {new.metadata.name} was opened, and nobody has approved {release} for traffic",
            )
        return None


class CrashingImages:
    """A pod whose containers never become ready gets no traffic."""

    def pod(self, _old: Pod | None, new: Pod | None) -> Violation | None:
        if new is None or not never_ready(image_of(new)) or not (new.ready or new.gate == Gate.OPEN):
            return None
        return Violation(CRASHING, f"{new.metadata.name} of {image_of(new)} has traffic")


class GrowingBatches:
    """Batches are never taken back, nor the sequence of the CloneSet; one release of an instance runs at a time."""

    def __init__(self) -> None:
        self._batches: dict[str, tuple[int, int]] = {}
        self._active: dict[str, str] = {}
        self._sequence = ("", 0)

    def flow(self, _old: Flow | None, new: Flow | None, name: str) -> Violation | None:
        if new is None or new.finished or new.phase == "Pending":
            self._active.pop(name, None)
        else:
            self._active[name] = new.phase
        if new is None:
            self._batches.pop(name, None)
            return None
        if len(self._active) > 1:
            return Violation(TWO, " and ".join(f"{name} ({phase})" for name, phase in self._active.items()))
        begun = sum(condition["phase"] != "Pending" for condition in new.conditions)
        now, before = (begun, new.finished_batches), self._batches.get(name, (0, 0))
        self._batches[name] = max(now, before)
        if now[0] < before[0] or now[1] < before[1]:
            return Violation(BATCHES, f"{name}: batches begun and finished went from {before} to {now}")
        return None

    def cloneset(self, new: CloneSet | None) -> Violation | None:
        if new is None:
            return None
        (uid, before), now = self._sequence, new.sequence
        self._sequence = new.metadata.uid, now
        if uid == new.metadata.uid and now < before:
            return Violation(SEQUENCE, f"the sequence of the CloneSet went from {before} to {now}")
        return None
