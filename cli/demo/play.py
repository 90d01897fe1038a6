"""The three parts of the demo, one after another, with the duration of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.connection import Cluster, Place, connect
from cli.demo import applications as apps
from cli.demo import checks
from cli.demo.checks import Check
from cli.demo.summary import Report, Stage
from cli.demo.witness import Witness
from cli.exits import Failure
from cli.manifests import Document, apply
from cli.options import strategy_of
from cli.output import Format
from cli.planning import plan_lines, planned
from cli.rendering import progress, status_of
from cli.watching import follow
from services.planner.views.plan_preview import assume
from shared.domain.deploy_commands import CommandType
from shared.domain.json_types import Json
from shared.domain.requesters import Origin, Via
from shared.event_store import EventStore, Query, Stream, open_store
from shared.kube.client import CLONESETS, DEPLOYFLOWS
from shared.releases import history
from shared.releases.specs import Wish, release, updated
from shared.settings import Settings

if TYPE_CHECKING:
    from sandbox.environment import Stack


RELEASE_SECONDS: Final = 90.0
"""The time limit of a release, five times what it takes; a stuck one ends the demo with its status."""
SETTLE_SECONDS: Final = 15.0
HOLD_SECONDS: Final = 1.0
"""How long to wait before each `next`, to see that the release really waits."""
REQUESTED_BY: Final = "demo"


async def play(state: Path | None, stack: Stack, output: Format | None) -> bool:
    """Run the whole demo on these parts; return whether all checks hold."""
    from sandbox.environment import Sandbox

    report = Report(Stage(quiet=output is not None))
    report.stage.say(f"A demonstration on a simulated cluster: {stack.played}.")
    began = time.monotonic()
    async with Sandbox(state, stack=stack, say=report.stage.say) as sandbox:
        report.took("sandbox ready", began)
        store = open_store(Settings(event_store=sandbox.event_store))
        try:
            async with connect(Place(sandbox.kubeconfig, "default")) as cluster:
                demo = Demo(cluster, store, report)
                await demo.canary_release()
                await demo.update_and_failure()
                await demo.print_log()
        finally:
            await store.close()
        report.memory = sandbox.peak_memory_bytes()
        if not report.holds:
            sandbox.keep_state = True
            report.stage.say(f"the logs of the services are in {sandbox.state}")
    report.took("everything", began)
    report.print(output)
    return report.holds


class Demo:
    """The state that the parts share: the cluster, the event store and the report."""

    def __init__(self, cluster: Cluster, store: EventStore, report: Report) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._store = store
        self._report = report
        self._stage = report.stage
        self._releases: list[str] = []

    # --- part one: a canary that waits for approvals ---

    async def canary_release(self) -> None:
        self._stage.title(f"A canary release: {apps.NGINX}, {apps.NGINX_REPLICAS} replicas, canary 1")
        flow, service = (Document(f"demo ({body['kind']})", body) for body in apps.nginx())
        spec = flow.spec()
        assumption = assume(spec, await self._cluster.cloneset(apps.NGINX))
        self._stage.lines(plan_lines(spec, planned(spec, assumption)))
        began = time.monotonic()
        await self._apply(service)
        async with Witness(self._client, "default", apps.NGINX_SERVICE, apps.NGINX) as witness:
            await self._apply(flow)
            async with self._within(RELEASE_SECONDS, apps.NGINX_FLOW):
                presses = await self._press_through(apps.NGINX_FLOW, witness)
            await witness.wait_for(apps.NGINX_REPLICAS, SETTLE_SECONDS)
            self._report.took("canary release of 3", began)
            final = await self._flow(apps.NGINX_FLOW)
            self._report.add(
                checks.equal("canary: phase", status_of(final).get("phase"), "Success"),
                checks.equal(
                    "canary: where it waited", "; ".join(map(_gate, presses)), "; ".join(map(_gate, _GATES))
                ),
                checks.equal("canary: ready endpoints at the end", len(witness.now), apps.NGINX_REPLICAS),
            )
        self._releases.append(apps.NGINX_FLOW)
        await self._check_log(apps.NGINX_FLOW, batches=3)

    async def _press_through(self, name: str, witness: Witness) -> list[tuple[int, str, int]]:
        """Watch the release and press `next` wherever it waits; return (batch, phase, endpoints) of each place."""
        presses: list[tuple[int, str, int]] = []
        with self._stage.screen() as screen:
            async for flow in follow(self._cluster, name):
                screen.show(flow)
                status = status_of(flow)
                if status.get("finished"):
                    break
                if status.get("reason") != "WaitingForNext":
                    continue
                last = status["conditions"][-1]
                place = (last["batch"], last["phase"])
                if place in {press[:2] for press in presses}:
                    continue
                await asyncio.sleep(HOLD_SECONDS)
                presses.append((*place, len(witness.now)))
                self._stage.say(f"ready endpoints while it waits: {len(witness.now)}; pressing next")
                await self._act(name, CommandType.NEXT)
        return presses

    # --- parts two and three: ten replicas ---

    async def update_and_failure(self) -> None:
        self._stage.title(f"Another application: {apps.WEB}, {apps.WEB_REPLICAS} replicas at once")
        flow, service = (Document(f"demo ({body['kind']})", body) for body in apps.web())
        await self._apply(service)
        async with Witness(self._client, "default", apps.WEB_SERVICE, apps.WEB) as witness:
            began = time.monotonic()
            await self._apply(flow)
            await self._watch(apps.WEB_FLOW)
            served = await witness.wait_for(apps.WEB_REPLICAS, SETTLE_SECONDS)
            self._report.took("creation of 10", began)
            self._report.add(Check("10 replicas serve", served, f"{len(witness.now)} ready endpoints"))
            self._releases.append(apps.WEB_FLOW)
            await self._update(witness)
            await self._failing_update(witness)

    async def _update(self, witness: Witness) -> None:
        self._stage.title(f"An update to {apps.NEW_IMAGE}, {apps.BATCH_SIZE} at a time")
        began = time.monotonic()
        name = await self._release(apps.NEW_IMAGE)
        final = status_of(await self._watch(name))
        self._report.took("update of 10, 5 batches", began)
        cloneset = await self._cluster.call(self._client.get(CLONESETS, "default", apps.WEB))
        image = cloneset["spec"]["template"]["spec"]["containers"][0]["image"]
        self._report.add(
            checks.equal("update: phase", final.get("phase"), "Success"),
            checks.equal("update: batches finished", final.get("finishedBatches"), 5),
            checks.equal("update: new pods ready", final.get("updatedReadyReplicas"), apps.WEB_REPLICAS),
            checks.equal("update: image of the CloneSet", image, apps.NEW_IMAGE),
            checks.never_below("update", witness.since(began), apps.WEB_REPLICAS),
        )
        await self._check_log(name, batches=5)

    async def _failing_update(self, witness: Witness) -> None:
        self._stage.title(f"An update to {apps.CRASHING_IMAGE}, whose containers crash")
        began = time.monotonic()
        name = await self._release(apps.CRASHING_IMAGE)
        failed = await self._watch(name, until_failed=True)
        self._report.took("failing update stopped", began)
        condition = (status_of(failed).get("conditions") or [{}])[-1]
        self._stage.say(f"stopped: {condition.get('phase')}: {status_of(failed).get('message')}")
        canceled = time.monotonic()
        await self._act(name, CommandType.CANCEL)
        final = status_of(await self._watch(name))
        gone = await witness.wait_for_end_of(apps.CRASHING_IMAGE, SETTLE_SECONDS)
        self._report.took("failing update canceled", canceled)
        history = witness.since(began)
        self._report.add(
            checks.equal(
                "failing update: first batch",
                (condition.get("batch"), condition.get("phase")),
                (1, "SmokeFailed"),
            ),
            Check(
                "failing update: the reason is reported",
                bool(status_of(failed).get("message")),
                str(status_of(failed).get("message")),
            ),
            checks.equal("failing update: phase after cancel", final.get("phase"), "Canceled"),
            Check("failing update: its pods are gone", gone, f"images that run: {sorted(witness.living)}"),
            checks.equal("failing update: what serves", sorted(witness.living), [apps.NEW_IMAGE]),
            checks.never_below("failing update", history, apps.WEB_REPLICAS),
            checks.never_in_endpoints(witness.history, witness.images, apps.CRASHING_IMAGE),
        )
        documents = await self._documents(name)
        self._report.add(checks.stopped_at_first_batch(name, documents))

    # --- steps ---

    async def _apply(self, document: Document) -> None:
        self._stage.say(
            await apply(
                self._cluster,
                document,
                namespace_explicit=False,
                requested_by=REQUESTED_BY,
                origin=Origin(Via.CLI),
            )
        )

    async def _release(self, image: str) -> str:
        """Do the same as `triton update`; return the new DeployFlow's name."""
        from cli.control import new_request_id

        base = history.last_good(await self._cluster.releases(apps.WEB), apps.WEB)
        spec = updated(base, Wish(image, strategy=strategy_of(str(apps.BATCH_SIZE), "auto")))
        assumption = assume(spec, await self._cluster.cloneset(apps.WEB))
        self._stage.lines(plan_lines(spec, planned(spec, assumption)))
        body = release(spec, namespace="default", request_id=new_request_id(), requested_by=REQUESTED_BY)
        made = await self._cluster.call(self._client.create(DEPLOYFLOWS, "default", body))
        name = str(made["metadata"]["name"])
        self._releases.append(name)
        return name

    async def _act(self, name: str, kind: CommandType) -> None:
        from cli.control import act, command_for, place_of

        flow = await self._flow(name)
        batch, stage = place_of(flow) if kind == CommandType.NEXT else (None, None)
        command = command_for(flow, kind, REQUESTED_BY, batch=batch, stage=stage)
        self._stage.say(await act(self._cluster, flow, command))

    async def _flow(self, name: str) -> Json:
        return await self._cluster.call(self._client.get(DEPLOYFLOWS, "default", name))

    async def _watch(self, name: str, *, until_failed: bool = False) -> Json:
        """Show the release until it is finished, or until a batch has failed; return it."""
        async with self._within(RELEASE_SECONDS, name):
            with self._stage.screen() as screen:
                async for flow in follow(self._cluster, name):
                    view = progress(flow)
                    screen.show(flow)
                    if view.finished or (until_failed and any(batch.failed for batch in view.batches)):
                        return flow
        msg = f"the watch of {name} ended early"
        raise Failure(msg)

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            status = status_of(await self._flow(name))
            where = f"{status.get('phase')}, {status.get('reason')}: {status.get('message')}"
            msg = f"{name} was not finished within {seconds:g} s; it is {where}"
            raise Failure(msg) from None

    async def _check_log(self, name: str, *, batches: int) -> None:
        self._report.add(checks.batches_in_order(name, await self._documents(name), batches))

    async def _documents(self, name: str) -> list[Json]:
        """Return the release's own events, once its end is among them."""
        query = Query([Stream.DEPLOYFLOW], namespace="default", deployflow=name)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            documents = await self._store.search(query)
            finished = documents and documents[-1]["triton"]["phase"] in {"Success", "Canceled"}
            if finished or time.monotonic() > deadline:
                return documents
            await asyncio.sleep(0.1)

    async def print_log(self) -> None:
        """Print the release log from the event store."""
        from cli.log_text import LogText

        self._stage.title("The release log")
        for name in self._releases:
            text = LogText()
            for document in await self._documents(name):
                self._stage.toned(text.add(document))
            self._stage.toned(text.end())


def _gate(press: tuple[int, str, int]) -> str:
    batch, phase, endpoints = press
    return f"batch {batch} at {phase}, {endpoints} ready endpoints"


_GATES: Final = [(1, "Smoked", 0), (1, "Baking", 1), (1, "Baked", 1)]
"""The places in which the canary waits, and how many pods take traffic in each."""
