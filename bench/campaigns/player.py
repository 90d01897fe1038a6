"""Plays a story against a running sandbox: each release, what happens around it, and a person who sees it to its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from bench.campaigns import disturbances
from bench.campaigns.expectation import NOTHING, Rest, Scale, after
from bench.campaigns.kinds import KINDS
from bench.campaigns.observed import Flow, Snapshot, does, image_name, image_of, never_ready, stays_well
from bench.campaigns.person import Move, Person, is_failed, manifest, next_move, strategy_of
from bench.campaigns.place import Place
from bench.campaigns.rest_checks import LOG, at_rest, in_log
from bench.campaigns.running_checks import Violation
from bench.campaigns.story import AT_ONCE, GOOD, SICK_LATER, Disturbance, Release, Story
from bench.campaigns.watcher import Sight
from shared.clock import now_milliseconds
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import Action
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import NAMESPACES, ApiError
from shared.kube.pods import Pod

STANDS: Final = "stands-still"
ENDLESS: Final = "never-ends"
HEALTHY: Final = "healthy-release-failed"
NAMESPACE: Final = "namespace-stays"
_POLL_SECONDS: Final = 0.02
_THINK_SECONDS: Final = 0.3
"""A person looks for a moment before each move, so that what waits for the same moment comes first."""
_SEEN_SECONDS: Final = 10
"""From a write to its arrival by the watch, at most."""
_plays = itertools.count(1)


@dataclass
class Played:
    """What came of a story. `ends`: its releases by action and final phase; `done` and `missed`: its disturbances by
    kind, those that were carried out and those whose moment never came.
    """

    story: Story
    namespace: str = ""
    violations: list[Violation] = field(default_factory=list)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    facts: list[str] = field(default_factory=list)
    """What was seen when a check did not hold, for people."""
    state: str = ""
    """The planner's state of the instance then."""

    @property
    def releases(self) -> int:
        return self.ends.total()


async def play(place: Place, story: Story) -> Played:
    """Play the story in a namespace of its own; it ends with its first violation."""
    return await Player(place, story).play()


class Player:
    """One play of a story. `disturbances` act through it."""

    def __init__(self, place: Place, story: Story) -> None:
        self.place = place
        self.story = story
        self.namespace = f"campaign-{story.seed}-{story.number}-{next(_plays)}"
        self.person = Person(place.client, self.namespace)
        self.sight = Sight()
        self.played = Played(story, self.namespace)
        self.rest: Rest = NOTHING
        self.main = ""
        """The release of this round."""
        self.base = 0
        """Its count."""
        self.deleted: list[int] = []
        """Counts of releases that were deleted since this round began: Triton may learn of it after the next began."""
        self.scales: list[Scale] = []
        self.unknown = False
        """Somebody did what leaves no rule for the count and the images."""
        self._images = itertools.count(1)
        self._names = itertools.count(1)
        self._manifests: dict[str, Json] = {}
        self._retried: Counter[str] = Counter()
        self._acting = 0
        self._excused = False
        self._before: frozenset[str] = frozenset()

    # --- the story ---

    async def play(self) -> Played:
        begun = time.monotonic()
        self.place.watcher.sights[self.namespace] = self.sight
        try:
            await self.place.client.create(NAMESPACES, None, {"metadata": {"name": self.namespace}})
            for release in self.story.releases:
                await self._round(release)
                if self.played.violations or self.is_going:
                    break
        finally:
            self.played.seconds = time.monotonic() - begun
            if self.played.violations:
                with contextlib.suppress(Unavailable):
                    self.played.state = await self.place.state(self.namespace)
            else:
                await self._clean_up()
            self.place.watcher.sights.pop(self.namespace, None)
        return self.played

    async def _clean_up(self) -> None:
        with contextlib.suppress(ApiError, Unavailable):
            await self.place.client.delete(NAMESPACES, "", self.namespace)

    is_going = False
    """The namespace is being deleted."""

    async def _round(self, release: Release) -> None:
        self._before = frozenset(self.sight.now.flows)
        self.scales, self.unknown = [], False
        self._excused = any(KINDS[d.kind].excuses for d in release.disturbances)
        release = self._fitting(release)
        self.base = self._count(release)
        self.main = await self.apply(release, self.base, begins=True)
        tasks = [asyncio.create_task(self._disturb(one)) for one in release.disturbances]
        try:
            await self._see_to_the_end(release, tasks)
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.is_going:
            await self._namespace_goes()
        elif not self.played.violations:
            await self._come_to_rest()
        self._tally()

    def _fitting(self, release: Release) -> Release:
        """Return the release, a create in its place where there is no instance."""
        if self.sight.now.cloneset is None and release.action != Action.CREATE:
            strategy = {"mode": release.strategy.get("mode", "auto")}
            return Release(
                Action.CREATE, 0, GOOD, strategy, release.after_failure, disturbances=release.disturbances
            )
        return release

    def _count(self, release: Release) -> int:
        if release.action == Action.CREATE:
            return self.story.replicas
        if release.action in {Action.STOP, Action.DELETE}:
            return 0
        cloneset = self.sight.now.cloneset
        now = cloneset.spec.replicas if cloneset else 0
        if not now and release.action in {Action.UPDATE, Action.START}:
            now = max(self.rest.stopped, default=0) or self.story.replicas
        return max(now + release.change, 0 if release.action == Action.SCALE_IN else 1)

    # --- what people and disturbances use ---

    async def apply(
        self, release: Release, count: int, *, begins: bool = False, name: str | None = None
    ) -> str:
        """Apply a release with an image of its own, and return its name; `begins`: the first of a round."""
        name = name or self.new_name()
        if release.action == Action.ROLLBACK:
            self._floor(self.rest.least if begins else None, self.rest.least)
            if await self.person.roll_back(name):
                return name
            # nothing to go back to
            release = Release(Action.UPDATE, 0, GOOD, {"mode": "auto"})
        image = image_name(next(self._images), release.image)
        body = manifest(release, name, image, count)
        self._manifests[name] = body["spec"]
        strategy = release.strategy
        waits = strategy.get("canary") or strategy.get("stage") == "Smoked"
        if release.updating and waits and count:
            self.sight.gates.waiting[image] = name
        falls = release.image in SICK_LATER or any(does(image) in SICK_LATER for image in self.rest.images)
        self._floor(self.rest.least if begins else None, 0 if falls else count)
        await self.person.apply(body)
        return name

    def _floor(self, before: int | None, target: int) -> None:
        """Set the floor at the beginning of a round: no lower than before it, or than what is wanted. Later, lower it.

        Pods that fail by themselves, after they were accepted, leave none.
        """
        floor = self.sight.floor
        if before is None:
            floor.lower(target)
        else:
            floor.begin(min(before, target, *self.deleted))
            self.deleted.clear()

    def new_name(self) -> str:
        return f"release-{next(self._names)}"

    def manifest_of(self, name: str) -> Json | None:
        return self._manifests.get(name)

    def flow(self, name: str | None = None) -> Flow | None:
        return self.sight.now.flows.get(name or self.main)

    def approve(self, name: str) -> None:
        """The pods of that release may have traffic from now on."""
        self.sight.gates.approve(name)

    def approve_all(self) -> None:
        """What happened changes the plans: where pods are only removed there is no canary."""
        self.sight.gates.waiting.clear()

    def scaled(self, count: int, *, own: bool) -> None:
        self.scales.append(Scale(now_milliseconds(), count, own))

    async def until_seen(self, condition: Callable[[], bool]) -> None:
        """Wait until the watch shows what was written."""
        await self._wait(condition, _SEEN_SECONDS)

    def violate(self, check: str, text: str) -> None:
        self.sight.violations.append(Violation(check, text))

    # --- disturbances ---

    async def _disturb(self, disturbance: Disturbance) -> None:
        if not await self._reached(disturbance.phase):
            self.played.missed[disturbance.kind] += 1
            return
        self._acting += 1
        try:
            await asyncio.sleep(disturbance.delay)
            carried_out = await disturbances.carry_out(self, disturbance)
            (self.played.done if carried_out else self.played.missed)[disturbance.kind] += 1
        finally:
            self._acting -= 1

    async def _reached(self, phase: str) -> bool:
        """Wait for the release to be in that phase; return False where it has finished before."""
        await self._wait(lambda: self.flow() is not None or self.is_going, _SEEN_SECONDS)
        while not self.sight.violations:
            flow = self.flow()
            if flow is not None and (phase == AT_ONCE or _is_in(flow, phase)):
                return True
            if self._all_finished():
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return False

    def _all_finished(self) -> bool:
        flows = self.sight.now.flows
        main_is_done = self.main not in flows or flows[self.main].finished
        return main_is_done and bool(self.main) and not self.sight.now.unfinished

    # --- a person sees it to its end ---

    async def _see_to_the_end(self, release: Release, tasks: list[asyncio.Task[None]]) -> None:
        """Return when no release is unfinished and nobody disturbs any more, or a check does not hold."""
        await self._wait(lambda: self.flow() is not None or self.is_going, _SEEN_SECONDS)
        still = Stillness(self.place)
        while not self._violated():
            unfinished = self.sight.now.unfinished
            if not unfinished and all(task.done() for task in tasks):
                if await self._is_rolled_back():
                    continue
                return
            if self.is_going and not unfinished:
                return
            if unfinished and not self._acting and not self.is_going and not self.place.disturbed:
                moved = await self._act(unfinished, release)
                if (why := still.too_long(self.sight, moved=moved)) is not None:
                    self.violate(*why)
            else:
                still.too_long(self.sight, moved=True)
                if self.is_going and still.going_too_long():
                    self.violate(NAMESPACE, _described(unfinished))
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_rolled_back(self) -> bool:
        """Wait for the rollback that a failed release requests by its `onFailure`; it is made a moment after its end."""
        flow = self.flow()
        if flow is None or flow.phase != "Failed" or self._rollbacks():
            return False
        if (flow.spec.get("updateStrategy") or {}).get("onFailure") != "rollback":
            return False
        return await self._wait(lambda: bool(self._rollbacks()), _SEEN_SECONDS)

    def _rollbacks(self) -> list[Flow]:
        """Return those of this round."""
        flows = self.sight.now.flows.values()
        return [flow for flow in flows if flow.action == Action.ROLLBACK and flow.name not in self._before]

    async def _act(self, unfinished: list[Flow], release: Release) -> bool:
        """Make the move of a person, if it is a person's turn; return whether it was."""
        for flow in unfinished:
            after_failure = release.after_failure if flow.name == self.main else "cancel"
            if is_failed(flow):
                self._judge_failure(flow)
            move = next_move(flow, after_failure, self._retried[flow.name])
            if move is None:
                continue
            await asyncio.sleep(_THINK_SECONDS)
            now = self.flow(flow.name)
            if self._acting or now is None or next_move(now, after_failure, self._retried[flow.name]) != move:
                return True
            await self._make(move, flow.name)
            return True
        return False

    async def _make(self, move: Move, name: str) -> None:
        match move:
            case Move.NEXT:
                self.approve(name)
                await self.person.press(name, CommandType.NEXT)
            case Move.RESUME:
                await self.person.press(name, CommandType.RESUME)
            case Move.RETRY:
                self._retried[name] += 1
                await self.person.press(name, CommandType.RETRY)
            case Move.CANCEL:
                await self.person.press(name, CommandType.CANCEL)
            case Move.ROLLBACK:
                if not await self.person.roll_back(self.new_name()):
                    await self.person.press(name, CommandType.CANCEL)
            case Move.UPDATE:
                update = Release(Action.UPDATE, 0, GOOD, {"mode": "auto", "batchSize": 2})
                made = await self.apply(update, max(self.base, 1))
                await self._wait(lambda: self.flow(made) is not None, _SEEN_SECONDS)
        # until it is seen, the same would be done again
        changes = self.sight.changes
        await self._wait(lambda: self.sight.changes != changes, 0.5)

    def _judge_failure(self, flow: Flow) -> None:
        """A release of a good image must not fail, unless somebody took its pods or refused its writes."""
        images = {image_of(pod) for pod in self.sight.now.live}
        well = stays_well(flow.image) if flow.image else all(map(stays_well, images))
        if well and not self._excused:
            self.violate(HEALTHY, _described([flow]))

    def _violated(self) -> bool:
        if self.sight.violations and not self.played.violations:
            self._record(self.sight.violations)
        return bool(self.played.violations)

    def _record(self, violations: list[Violation]) -> None:
        self.played.violations += violations
        self.played.facts = described(self.sight.now)

    # --- rest ---

    async def _come_to_rest(self) -> None:
        expected: Rest = self.rest
        found: list[Violation] = []

        def rests() -> bool:
            nonlocal expected, found
            expected = self._expected()
            found = at_rest(self.sight.now, expected)
            return not found

        while not await self._wait(rests, self.place.limits.rests):
            if self.sight.violations or not self.place.disturbed:
                break
        if self.sight.violations or found:
            self._record([*self.sight.violations, *found])
            return
        await self._check_log()
        self.rest = self._known(expected)

    def _expected(self) -> Rest:
        flows = [flow for name, flow in self.sight.now.flows.items() if name not in self._before]
        if self.unknown:
            images = {image_of(pod) for pod in self.sight.now.live if not never_ready(image_of(pod))}
            return Rest(None, frozenset(images))
        if self.main not in self.sight.now.flows:
            # it was deleted: how far it came is not known any more
            return self._deleted()
        expected = after(self.rest, flows, self.scales)
        if self.scales and not expected.images:
            # somebody scaled what has no good template: its pods get no traffic
            return replace(expected, images=frozenset(map(image_of, self.sight.now.live)))
        return expected

    def _deleted(self) -> Rest:
        counts = {*(self.rest.counts or ()), self.base, *(scale.wanted for scale in self.scales)}
        others = [flow.replicas for flow in self.sight.now.flows.values() if flow.name not in self._before]
        between = frozenset(range(min([*counts, *others]), max([*counts, *others]) + 1))
        # what somebody has scaled may have no good template: its pods get no traffic
        images = {image_of(p) for p in self.sight.now.live if self.scales or not never_ready(image_of(p))}
        return Rest(between, self.rest.images | images, self.rest.stopped)

    def _known(self, expected: Rest) -> Rest:
        """Return it with the count and the images that are there: the next round begins from them."""
        cloneset = self.sight.now.cloneset
        count = cloneset.spec.replicas if cloneset else 0
        images = frozenset(map(image_of, self.sight.now.live)) or expected.images
        if cloneset and cloneset.spec.update_strategy.get("paused"):
            # a mixture, of which pods of one template alone may be left: new ones have the other
            images |= expected.images
        return Rest(frozenset({count}), images, expected.stopped)

    async def _check_log(self) -> None:
        for name in sorted(set(self.sight.now.flows) - self._before):
            if found := await self._missing_in_log(name):
                self._record(found)
                return

    async def _missing_in_log(self, name: str) -> list[Violation]:
        """Return what the log lacks of a release after the time that it may be behind."""
        deadline = time.monotonic() + self.place.limits.rests
        while True:
            if (flow := self.flow(name)) is None:
                return []
            try:
                found = in_log(flow, await self.place.logged(self.namespace, name))
            except Unavailable as error:
                found = [Violation(LOG, str(error))]
            if not found or (time.monotonic() > deadline and not self.place.disturbed):
                return found
            await asyncio.sleep(0.1)

    async def _namespace_goes(self) -> None:
        async def gone() -> bool:
            try:
                await self.place.client.get(NAMESPACES, "", self.namespace)
            except ApiError as error:
                return error.code == 404
            return False

        deadline = time.monotonic() + self.place.limits.ends
        while not await gone():
            if time.monotonic() > deadline:
                self._record([Violation(NAMESPACE, f"{self.namespace} is still there")])
                return
            await asyncio.sleep(0.2)

    def _tally(self) -> None:
        for name, flow in self.sight.now.flows.items():
            if name not in self._before:
                self.played.ends[flow.action, flow.phase] += 1
        if self.main not in self.sight.now.flows:
            self.played.ends["any", "deleted"] += 1

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.sight.violations:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True


class Stillness:
    """Since when nothing has changed, and since when the same release runs."""

    def __init__(self, place: Place) -> None:
        self._limits = place.limits
        self._changes = -1
        self._since = self._began = time.monotonic()
        self._release = ""
        self._begun = time.monotonic()

    def too_long(self, sight: Sight, *, moved: bool) -> tuple[str, str] | None:
        """Return the check and the text where a release stands still too long, with a reason or without one."""
        now = time.monotonic()
        if moved or sight.changes != self._changes:
            self._changes, self._since = sight.changes, now
            return None
        (first, *_) = sight.now.unfinished
        named = bool(first.reason)
        limit = self._limits.ends if named else self._limits.stands
        if now - self._since > limit:
            return (ENDLESS if named else STANDS), f"{limit:g} s: {_described(sight.now.unfinished)}"
        return None

    def going_too_long(self) -> bool:
        return time.monotonic() - self._began > self._limits.ends


def _is_in(flow: Flow, phase: str) -> bool:
    if phase == "BatchFinished":
        return flow.phase == phase
    if phase == "Ending":
        return bool(strategy_of(flow.spec).get("canceled")) or flow.message.startswith("ending:")
    if phase == "Failed":
        return is_failed(flow)
    return bool(flow.conditions) and flow.conditions[-1]["phase"] == phase


def _described(flows: list[Flow]) -> str:
    return "; ".join(map(_description, flows))


def _description(flow: Flow) -> str:
    batch = ""
    if flow.conditions:
        last = flow.conditions[-1]
        batch = f", batch {last['batch']} {last['phase']}"
    why = f"{flow.reason or 'no reason'}: {flow.message or 'no message'}"
    return f"{flow.name} ({flow.action}) is {flow.phase}{batch}, {why}"


def _readiness(pod: Pod) -> str:
    if pod.ready:
        return "Ready"
    return "containers ready" if pod.containers_ready else "containers not ready"


def described(seen: Snapshot) -> list[str]:
    """Return what there is, a line for each object."""
    lines = list(map(_description, seen.flows.values()))
    if (cloneset := seen.cloneset) is not None:
        lines.append(
            f"CloneSet: replicas {cloneset.spec.replicas}, strategy {cloneset.spec.update_strategy}, "
            f"hold {cloneset.hold}, set by Triton {cloneset.replicas_set}, sequence {cloneset.sequence}, "
            f"status {cloneset.status}"
        )
    lines += [
        f"pod {pod.metadata.name}: {image_of(pod)}, {_readiness(pod)}, gate {pod.gate}"
        f"{', being deleted' if pod.deleting else ''}"
        for pod in seen.pods.values()
    ]
    return lines
