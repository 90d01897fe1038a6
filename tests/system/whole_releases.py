"""One whole release for a cell of the matrix: what it begins from, what happens to it, and what a user sees of it."""

from __future__ import annotations

from typing import Any, Final

from sandbox.environment import Sandbox
from shared.domain.deployflow import SHRINKING, UPDATING, Action
from shared.domain.json_types import Json
from shared.kube import client as k8s
from shared.kube.client import ApiError
from shared.releases import history as past
from tests.system import matrix
from tests.system.by_hand import BY_HAND, Do, Hand, by_hand, crashed, report
from tests.system.history import GATE, History, is_ready, recorded
from tests.system.matrix import ADDING, TALLY, WAYS, Cell, Way, strategy_field
from tests.system.releases import Releases, deployflow, until

INSTANCE: Final = "shop"
RUN: Final = "run"
"""The release that is looked at."""
LONG: Final = 300
"""Seconds of a wait that a test does not wait for."""
SOON: Final = {"sandbox.triton.io/start-seconds": "0.2-0.4", "sandbox.triton.io/stop-seconds": "0-0.1"}
HELD: Final = (matrix.SMOKE_FAILURE, matrix.CANCEL_SMOKING, matrix.CANCEL_SMOKED)
"""Outcomes for which the test says when containers start."""
RETIRING: Final = tuple(action for action in matrix.ACTIONS if action not in ADDING)


async def run(sandbox: Sandbox, cell: Cell) -> None:
    """The whole release of a cell; fails where anything of it is not as it should be."""
    async with Releases(sandbox, str(cell).lower().replace("_", "-")) as releases:
        await releases.make_namespace()
        async with by_hand(releases) as hand:
            scene = Scene(releases, hand, cell)
            await scene.prepare()
            async with recorded(releases, INSTANCE) as history:
                await scene.play()
                await scene.settles(history)
            await scene.check(history)
    TALLY.count(cell.action, cell.outcome)


class Scene:
    """An instance in a namespace of its own, before, while and after its release."""

    def __init__(self, releases: Releases, hand: Hand, cell: Cell) -> None:
        self.releases = releases
        self.hand = hand
        self.action, self.outcome, self.names_pods = cell
        self.way: Way = WAYS[cell.action]
        self.annotations = BY_HAND if self.outcome in HELD else SOON
        self.before: dict[str, str] = {}
        """The pods before the release: uids by their names."""
        self.named: list[str] = []
        """Those of them that the release names."""

    # --- before it ---

    async def prepare(self) -> None:
        await self.releases.service(INSTANCE)
        there = {Action.CREATE: 0, Action.START: 2}.get(self.action, self.way.before)
        if there:
            await self.first(Action.CREATE, replicas=there, image="nginx:1")
        if self.action == Action.ROLLBACK:
            await self.first(Action.UPDATE, replicas=there, image="nginx:2")
        if self.action == Action.START:
            await self.first(Action.STOP)
        await stands(self.releases, self.way.before)
        pods = await self.releases.pods(INSTANCE)
        self.before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
        if self.names_pods:
            # of equally old ones the first by name would go else
            self.named = sorted(self.before)[-max(self.way.before - self.way.after, 1) :]

    async def first(self, action: Action, **fields: Any) -> None:
        name = str(action)
        await self.apply(name, action, {}, **fields)
        await self.releases.finished(name, "Success")
        TALLY.count(action, matrix.SUCCESS)

    async def apply(self, name: str, action: Action, strategy: Json, **fields: Any) -> None:
        body = deployflow(name, INSTANCE, action=action, annotations=self.annotations, **fields, **strategy)
        if action not in UPDATING:
            body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
            del body["spec"]["application"]["template"]
        await self.releases.apply(body)

    # --- the release ---

    async def begin(self, **strategy: Any) -> None:
        strategy = {"batchSize": 1, **strategy, **({"podsToDelete": self.named} if self.named else {})}
        if self.action != Action.ROLLBACK:
            await self.apply(RUN, self.action, strategy, replicas=self.way.after, image="nginx:2")
            return
        base = await self.releases.flow(str(Action.CREATE))
        spec = past.rollback(base, self.way.after, {"mode": "auto", **strategy})
        body = deployflow(RUN, INSTANCE)
        body["spec"] = spec.model_dump(mode="json", exclude_none=True)
        await self.releases.apply(body)

    async def steer(self, **fields: Any) -> None:
        body = {"spec": {strategy_field(self.action): fields}}
        await self.releases.client.patch(k8s.DEPLOYFLOWS, self.releases.namespace, RUN, body)

    async def play(self) -> None:
        """From its beginning to its end."""
        match self.outcome:
            case matrix.SUCCESS:
                await self.begin(pullOutSeconds=1 if self.action in RETIRING else 0)
                status = await self.releases.finished(RUN, "Success")
                assert {c["phase"] for c in status["conditions"]} == {"Baked"}
                assert status["finishedBatches"] == status["batches"] == (len(self.named) or 2)
                return
            case matrix.SMOKE_FAILURE:
                await self.hand.shall(Do.CRASH)
                await self.begin()
                await self.failed("SmokeFailed")
            case matrix.BAKE_FAILURE:
                await self.begin(bakeSeconds=LONG)
                (pod,) = await self.baking()
                await report(self.releases, pod, crashed(pod))
                await self.failed("BakeFailed")
                await self.releases.serves(INSTANCE, self.way.before)
            case matrix.CANCEL_SMOKING:
                await self.hand.shall(Do.WAIT)
                await self.begin()
                await self.releases.batch_is(RUN, 1, "Smoking")
                await until("a pod is made", self.fresh)
            case matrix.CANCEL_SMOKED:
                await self.smoked()
            case matrix.CANCEL_BAKING:
                await self.begin(bakeSeconds=LONG)
                await self.baking()
            case matrix.CANCEL_BAKED:
                await self.begin(pullOutSeconds=LONG)
                await self.releases.batch_is(RUN, 1, "Baked")
                await until("a pod is pulled out", self.pulled_out)
            case matrix.CANCEL_BETWEEN:
                await self.begin(mode="manual")
                status = await self.releases.until_status(
                    RUN, "waits for a person", lambda s: s.get("reason") == "WaitingForNext"
                )
                assert status["phase"] == "BatchFinished"
        await self.steer(canceled=True)
        await self.releases.finished(RUN, "Canceled")

    async def failed(self, phase: str) -> None:
        """Check that it waits, reports what is wrong, and has touched none of the old pods."""
        status = await self.releases.batch_is(RUN, 1, phase)
        assert (status["phase"], status["paused"], status["reason"]) == ("BatchStarted", True, phase)
        assert status["failedReplicas"] == 1
        (pod,) = await self.fresh()
        assert f"{pod['metadata']['name']} (CrashLoopBackOff" in status["message"]
        pods = await self.releases.pods(INSTANCE)
        ready = {pod["metadata"]["name"] for pod in pods if is_ready(pod)}
        assert ready == set(self.before)

    async def baking(self) -> list[Json]:
        """Wait until the first batch's pod has its traffic."""
        await self.releases.batch_is(RUN, 1, "Baking")

        async def serves() -> list[Json]:
            return [pod for pod in await self.fresh() if is_ready(pod)]

        pods: list[Json] = await until("the fresh pod is Ready", serves)
        await self.releases.until_status(RUN, "pulled in", lambda s: s["conditions"][0].get("pulledInAt"))
        return pods

    async def smoked(self) -> None:
        if self.action in UPDATING:
            await self.begin(stage="Smoked")
        else:
            # without a stage to wait at: paused while its containers start
            await self.hand.shall(Do.WAIT)
            await self.begin()
            await self.releases.until_status(RUN, "its pod is reported", _has_reported_pods)
            await self.steer(paused=True)
            await self.releases.until_status(RUN, "paused", lambda s: s.get("reason") == "Paused")
            await self.hand.shall(Do.START)
        await self.releases.batch_is(RUN, 1, "Smoked")
        (pod,) = await self.fresh()
        assert not is_ready(pod)

    async def fresh(self) -> list[Json]:
        pods = await self.releases.pods(INSTANCE)
        return [pod for pod in pods if pod["metadata"]["name"] not in self.before]

    async def pulled_out(self) -> list[str]:
        pods = await self.releases.pods(INSTANCE)
        return [
            pod["metadata"]["name"]
            for pod in pods
            if pod["metadata"]["name"] in self.before and not is_ready(pod)
        ]

    # --- after it ---

    async def settles(self, history: History) -> None:
        kept, fresh = self.ends()
        await stands(self.releases, kept + fresh)
        gone = len(self.before) - kept
        await until(f"{gone} old pods are gone", lambda: len(self.gone(history)) >= gone)

    def gone(self, history: History) -> set[str]:
        """Those of the pods from before that were deleted."""
        return set(self.before.values()) & history.pods_gone()

    async def check(self, history: History) -> None:
        kept, fresh = self.ends()
        history.check(self.way.least, served_before=self.way.least > 0)
        old = {pod["metadata"]["name"] for pod in await self.releases.pods(INSTANCE)} & set(self.before)
        assert len(old) == kept
        assert not old & set(self.named)
        assert len(self.gone(history)) == len(self.before) - kept
        for pod in await self.fresh():
            assert image_of(pod) == self.image()
        if self.outcome in {matrix.SUCCESS, matrix.CANCEL_BAKED} and self.action in RETIRING:
            history.pulled_out_first()
        try:
            cloneset = await self.releases.cloneset(INSTANCE)
        except ApiError as error:
            assert (error.code, self.action, self.outcome) == (404, Action.DELETE, matrix.SUCCESS)
            return
        assert (self.action, self.outcome) != (Action.DELETE, matrix.SUCCESS)
        assert cloneset["spec"]["replicas"] == kept + fresh
        assert image_of(cloneset["spec"]["template"]) == self.image_at_rest()
        assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]
        await until("nobody is named to be deleted any more", self.nobody_named)

    async def nobody_named(self) -> bool:
        cloneset = await self.releases.cloneset(INSTANCE)
        return not cloneset["spec"].get("scaleStrategy", {}).get("podsToDelete")

    def ends(self) -> tuple[int, int]:
        """How many pods from before stay, and how many of the release: after no batch, one, or both."""
        finished = {matrix.SUCCESS: len(self.named) or 2, matrix.CANCEL_BETWEEN: 1}.get(self.outcome, 0)
        if self.outcome == matrix.CANCEL_BAKED and self.action not in SHRINKING:
            # what is baked serves: it stays, and those that were pulled out for it go
            finished = 1
        made = 0 if self.action in SHRINKING else finished
        gone = finished if self.action in RETIRING else 0
        return self.way.before - gone, made

    def image(self) -> str:
        """Of the pods that the release makes."""
        return "nginx:2" if self.action in {Action.CREATE, Action.UPDATE} else "nginx:1"

    def image_at_rest(self) -> str:
        """Of the template that the CloneSet is left with: what an update or rollback brought only where it succeeded."""
        if self.action == Action.ROLLBACK and self.outcome != matrix.SUCCESS:
            return "nginx:2"
        return "nginx:1" if self.action == Action.UPDATE and self.outcome != matrix.SUCCESS else self.image()


async def stands(releases: Releases, number: int, *, image: str = "") -> None:
    """Wait until so many pods are all that there is, each of them Ready and with traffic, its gate open."""

    async def stand() -> bool:
        labels = f"app.kubernetes.io/instance={INSTANCE}"
        pods = await releases.client.list(k8s.PODS, releases.namespace, labels=labels)
        fits = [pod for pod in pods if is_ready(pod) and _gate(pod) == "True" and image in image_of(pod)]
        names = {pod["metadata"]["name"] for pod in fits}
        return len(names) == len(pods) == number and await releases.endpoints(INSTANCE) == names

    await until(f"{number} pods {image} are all that there is, and serve", stand)


def _has_reported_pods(status: Json) -> bool:
    return any(condition["pods"] for condition in status.get("conditions") or [])


def image_of(pod: Json) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _gate(pod: Json) -> str:
    conditions = pod["status"].get("conditions") or []
    return next((c["status"] for c in conditions if c["type"] == GATE), "")
