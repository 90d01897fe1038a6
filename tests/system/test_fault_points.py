"""Every service ends between every two of its writes, in the middle of a release: the release is whole all the same.

Each case ends a process (see `crashing`) at one point, starts the service again, and compares the end with that of an
undisturbed release. A point that the process does not reach fails its case.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.group import LeaveGroupRequest

from sandbox.environment import Sandbox
from shared.domain.deploy_commands import deployflow_name
from shared.domain.json_types import Json
from tests.faults.published_events import each_event_once
from tests.system.conftest import REAL
from tests.system.crashing import ARMED, CODE, Point
from tests.system.history import History, is_ready, recorded
from tests.system.other_system import REPLIES, OtherSystem, press
from tests.system.programs import free_port
from tests.system.releases import Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

THERE: Final = 3
"""Pods of an instance before what is looked at begins."""
GROWN: Final = frozenset({"BatchStarted", "BatchSmoked", "BatchBaked", "BatchFinished"})
SHRUNK: Final = frozenset({"BatchStarted", "BatchFinished"})
REACHED_SECONDS: Final = 30.0
SESSION: Final = {} if REAL else {"TRITON_KAFKA_SESSION_TIMEOUT_MS": "2000"}
"""A group of the embedded broker settles this long, less a second, after a member has gone."""


class Ground(NamedTuple):
    """What a case has to work with."""

    releases: Releases
    paas: OtherSystem
    instance: str

    async def pods(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in await self.releases.pods(self.instance))


class Expected(NamedTuple):
    """How a release must have ended."""

    pods: int = THERE
    image: str = "nginx:2"
    phase: str = "Success"
    batches: int = 2
    kept: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    releases: int = 2
    """How many DeployFlows the instance has."""
    served: bool = True
    """Never did fewer pods serve than wanted."""
    exists: bool = True
    logged: frozenset[str] = GROWN
    """Reasons that the log has of every batch."""
    twice: frozenset[str] = frozenset()
    """Reasons that the log has more than once of one batch."""


Ended = Callable[[], Awaitable[Expected]]
"""Goes on with a release once the service runs again, until it ends by itself; returns how it must end."""
Begin = Callable[[Ground], Awaitable[tuple[str, Ended]]]
"""Makes a DeployFlow and returns its name."""


def _by_itself(expected: Expected) -> Ended:
    async def ended() -> Expected:
        return expected

    return ended


async def _apply(ground: Ground, number: int = 2, **fields: Any) -> str:
    name = f"{ground.instance}-{number}"
    body = deployflow(name, ground.instance, **{"replicas": THERE, "batchSize": 2} | fields)
    if body["spec"]["action"] not in {"create", "update"}:
        body["spec"]["nonUpdateStrategy"] = body["spec"].pop("updateStrategy")
    return await ground.releases.apply(body)


def update(**strategy: Any) -> Begin:
    async def begin(ground: Ground) -> tuple[str, Ended]:
        gone = tuple(await ground.pods())
        return await _apply(ground, image="nginx:2", **strategy), _by_itself(Expected(gone=gone))

    return begin


def act(action: str, *, replicas: int = THERE, named: int = 0, **expected: Any) -> Begin:
    """An action; `named`: how many pods it names."""

    async def begin(ground: Ground) -> tuple[str, Ended]:
        there = await ground.pods()
        gone, kept = there[:named], there[named:] if named else ()
        pods: Json = {"podsToDelete": gone} if gone else {}
        name = await _apply(ground, action=action, replicas=replicas, **pods)
        usual = {"image": "nginx:1", "kept": tuple(kept), "gone": tuple(gone)}
        return name, _by_itself(Expected(**usual | expected))

    return begin


async def create(ground: Ground) -> tuple[str, Ended]:
    name = await _apply(ground, action="create", image="nginx:2")
    return name, _by_itself(Expected(releases=1, served=False))


async def deploy(ground: Ground) -> tuple[str, Ended]:
    """An update that another system asks for."""
    gone = tuple(await ground.pods())
    spec = deployflow("", ground.instance, image="nginx:2", replicas=THERE, batchSize=2)["spec"]
    command = {"id": f"{ground.instance}-d", "type": "deploy", "replyTo": REPLIES, "spec": spec}
    return await _requested(ground, command, Expected(gone=gone))


async def rollback(ground: Ground) -> tuple[str, Ended]:
    """Of an update that is over."""
    await ground.releases.finished(await _apply(ground, image="nginx:2", batchSize="100%"), "Success")
    gone = tuple(await ground.pods())
    command = press(f"{ground.instance}-r", "rollback", ground.instance)
    return await _requested(ground, command, Expected(image="nginx:1", gone=gone, batches=1, releases=3))


async def _requested(ground: Ground, command: Json, expected: Expected) -> tuple[str, Ended]:
    name = deployflow_name(ground.instance, command["id"])

    async def ended() -> Expected:
        end = await ground.paas.end(command["id"])
        assert (end["deployFlow"], end["phase"]) == (name, expected.phase)
        replies = await ground.paas.replies(command["id"], 2)
        logged = {(reply["result"], reply["deployFlow"]) for reply in replies}
        assert logged == {("accepted", name), ("finished", name)}
        return expected

    await ground.paas.ask(ground.instance, command)
    return name, ended


async def retry(ground: Ground) -> tuple[str, Ended]:
    """Of a batch that fails again, so that it ends with a cancel."""
    there = await ground.pods()
    name = await _apply(ground, image="nginx:crash")
    first: set[str] = set()

    async def failed() -> set[str]:
        """The pods of the batch that failed."""
        made = set(await ground.pods()) - {*there, *first}
        status = await ground.releases.status(name)
        return made if status.get("reason") == "SmokeFailed" and len(made) == 2 else set()

    first |= await until("the batch has failed", failed)
    await ground.paas.ask(ground.instance, press(f"{ground.instance}-r", "retry", ground.instance))

    async def ended() -> Expected:
        await until("the batch has failed again", failed)
        flow = await ground.releases.flow(name)
        assert flow["spec"]["updateStrategy"]["retries"] == 1
        await ground.releases.strategy(name, canceled=True)
        failures = frozenset({"BatchSmokeFailed"})
        return Expected(
            image="nginx:1",
            phase="Canceled",
            batches=1,
            kept=tuple(there),
            gone=tuple(first),
            logged=failures,
            twice=failures,
        )

    return name, ended


class Case(NamedTuple):
    name: str
    service: str
    point: Point
    begin: Begin = update()


WAITING: Final = update(batchIntervalSeconds=1)
PULLING_OUT: Final = update(pullOutSeconds=1)
RESTART: Final = act("restart", named=2, batches=1)
SCALE_IN: Final = act("scale_in", replicas=1, named=2, pods=1, batches=1, served=False, logged=SHRUNK)
STOP: Final = act("stop", pods=0, served=False, logged=SHRUNK)
DELETE: Final = act("delete", pods=0, served=False, exists=False, logged=SHRUNK)

SURGE: Final = r'^patch clonesets .*1hold", "value": "\{'
RETIRE: Final = r'^patch clonesets .*1hold", "value": "".*"podsToDelete": \["'
FINISH: Final = '^patch clonesets .*"paused": false'
OPENED: Final = '^patch pods .*apps.triton.io/ready", "status": "True"'
CLOSED: Final = '^patch pods .*apps.triton.io/ready", "status": "False"'
STATUS: Final = "^patch deployflows .* status$"
OVER: Final = '^patch deployflows .*"finished": true.* status$'
CAN_SERVE: Final = '^phase-events (?=.*nginx:2).*"phase":"ContainersReady"'

CASES: Final = [
    # the planner: state and messages, what notes that they are published, `.status`, deadlines, the intake
    Case("not-begun", "planner", Point("state", "before", '"type":"observe"')),
    Case("surge-decided-not-published", "planner", Point("state", "after", '"type":"surge"')),
    Case("surge-published-its-event-not", "planner", Point("messages", "amid", '"type":"surge"')),
    Case("pull-in-published-not-noted", "planner", Point("messages", "after", '"type":"pull_in"')),
    Case("retire-decided-not-published", "planner", Point("state", "after", '"type":"retire"')),
    Case("over-and-reported-not-noted", "planner", Point("published", "before")),
    Case("adopted-no-status-yet", "planner", Point("objects", "before", STATUS)),
    Case("over-no-last-status-yet", "planner", Point("objects", "before", OVER)),
    Case("deadline-passed-not-published", "planner", Point("messages", "before", '"type":"due"'), WAITING),
    Case("deploy-made-not-answered", "planner", Point("objects", "after", "^create deployflows"), deploy),
    Case("deploy-answered-not-committed", "planner", Point("reply", "after"), deploy),
    Case("over-reply-not-sent", "planner", Point("objects", "after", OVER), deploy),
    Case("end-reported-still-held", "planner", Point("reply", "after", '"result":"finished"'), deploy),
    Case("rollback-made-not-answered", "planner", Point("objects", "after", "^create deployflows"), rollback),
    Case("retry-written-not-answered", "planner", Point("objects", "after", '^patch .*"retries"'), retry),
    # the executor: the CloneSet, the answer, the offset of the command
    Case("surge-written-not-answered", "executor", Point("objects", "after", SURGE)),
    Case("surge-answered-not-committed", "executor", Point("messages", "after", 'batch-results .*"hold":{')),
    Case("retire-written-not-answered", "executor", Point("objects", "after", RETIRE)),
    Case("finish-written-not-answered", "executor", Point("objects", "after", FINISH)),
    Case("create-written-not-answered", "executor", Point("objects", "after", "^create clonesets"), create),
    Case("restart-s-surge-written", "executor", Point("objects", "after", SURGE), RESTART),
    Case("scale-in-s-retire-written", "executor", Point("objects", "after", RETIRE), SCALE_IN),
    Case("stop-s-finish-written", "executor", Point("objects", "after", FINISH), STOP),
    Case("delete-s-remove-carried-out", "executor", Point("objects", "after", "^delete clonesets"), DELETE),
    Case("retry-s-surge-written", "executor", Point("objects", "after", SURGE, 2), retry),
    # readiness: the gates, what it reports of pods, the offset of the command
    Case("one-of-two-gates-open", "readiness", Point("objects", "after", OPENED)),
    Case("both-gates-open-not-reported", "readiness", Point("objects", "after", OPENED, 2)),
    Case("one-of-two-gates-closed", "readiness", Point("objects", "after", CLOSED), PULLING_OUT),
    Case("pods-can-serve-not-reported", "readiness", Point("messages", "before", CAN_SERVE)),
    Case("pull-in-done-not-committed", "readiness", Point("offsets", "before", '"type":"pull_in"')),
    # events: the documents, the offsets of what they are made of
    Case("half-of-the-documents-stored", "events", Point("documents", "amid", "BatchSmoked")),
    Case("documents-stored-not-committed", "events", Point("documents", "after", "BatchFinished")),
]


class Replaced:
    """The services run by `crashing` instead of the sandbox's own processes, one after another of each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def has(self, service: str) -> None:
        if service not in self._running:
            await self._sandbox.stop(service)
            await self.start(service)

    async def start(self, service: str) -> None:
        """Returns when it is ready."""
        usual = {
            name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "KUBE"))
        }
        port = str(free_port())
        own = {"TRITON_HEALTH_PORT": port, "TRITON_HEALTH_HOST": "127.0.0.1"} | SESSION
        with (self._sandbox.state / "logs" / f"{service}-crashing.log").open("ab") as log:
            self._running[service] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.system.crashing", service),
                env=usual | self._sandbox.environment_of(service) | own,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

        async def ready() -> bool:
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    return answer.status == 200
            return False

        async with aiohttp.ClientSession() as session:
            await until(f"{service} is ready", ready)

    async def arm(self, service: str, instance: str, point: Point) -> None:
        process = self._running[service]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([instance, point]).encode() + b"\n")
        assert (await process.stdout.readline()).decode().strip() == ARMED

    async def ends(self, service: str) -> None:
        """Waits until it has reached its point."""
        process = self._running[service]
        try:
            said, _ = await asyncio.wait_for(process.communicate(), REACHED_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            # the next case begins with another
            del self._running[service]
            raise AssertionError(f"{service} did not reach its point") from None
        assert process.returncode == CODE
        await _leave(self._sandbox.kafka_bootstrap, json.loads(said))

    async def give_back(self) -> None:
        for service, process in self._running.items():
            with suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()
            await self._sandbox.start(service)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replaced(sandbox: Sandbox) -> AsyncIterator[Replaced]:
    services = Replaced(sandbox)
    try:
        yield services
    finally:
        await services.give_back()


@pytest.mark.parametrize("case", CASES, ids=[f"{case.service}-{case.name}" for case in CASES])
async def test_a_release_is_whole_though_a_service_ended_between_two_writes(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, replaced: Replaced, case: Case
) -> None:
    ground = Ground(releases, paas, f"point-{CASES.index(case):02}")
    await replaced.has(case.service)
    if case.begin is create:
        await releases.service(ground.instance)
    else:
        await releases.create(ground.instance, THERE)
    async with recorded(releases, ground.instance) as history:
        await replaced.arm(case.service, ground.instance, case.point)
        name, ended = await case.begin(ground)
        await replaced.ends(case.service)
        await replaced.start(case.service)
        expected = await ended()
        await releases.finished(name, expected.phase)
    await _whole(ground, name, history, expected)
    await each_event_once(sandbox, history, all_pods=case.service != "readiness")


async def _leave(bootstrap: str, members: dict[str, str]) -> None:
    """What Kafka does by itself with members that are dead, after their session time-out."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        for group, member in members.items():
            node = await client.coordinator_lookup(CoordinationType.GROUP, group)
            await client.ready(node, group=ConnectionGroup.COORDINATION)
            await client.send(node, LeaveGroupRequest(group, member), group=ConnectionGroup.COORDINATION)
    finally:
        await client.close()


async def _whole(ground: Ground, name: str, history: History, expected: Expected) -> None:
    releases, instance = ground.releases, ground.instance
    history.check(THERE, served_before=expected.served)
    status = await releases.status(name)
    assert len(status["conditions"]) == expected.batches
    pods = await releases.pods(instance)
    names = {pod["metadata"]["name"] for pod in pods}
    assert len(pods) == expected.pods
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} <= {expected.image}
    assert all(is_ready(pod) for pod in pods)
    assert names >= set(expected.kept)
    assert not names & set(expected.gone)
    await releases.serves(instance, expected.pods)
    if expected.exists:
        cloneset = await releases.cloneset(instance)
        assert cloneset["spec"]["replicas"] == expected.pods
        assert not cloneset["spec"]["updateStrategy"].get("paused")
        assert "apps.triton.io/hold" not in cloneset["metadata"]["annotations"]
    assert len(await releases.names(instance)) == expected.releases
    await until("its finalizer is gone", lambda: _is_released(releases, name))
    logged = Counter(
        (event["triton"].get("batch", 0), event["event"]["reason"]) for event in await releases.events(name)
    )
    assert {reason for (_, reason), count in logged.items() if count > 1} <= expected.twice, logged
    assert logged[0, expected.phase] == 1
    numbers = range(1, expected.batches + 1)
    assert {(number, reason) for number in numbers for reason in expected.logged} <= set(logged), logged


async def _is_released(releases: Releases, name: str) -> bool:
    return not (await releases.flow(name))["metadata"].get("finalizers")
