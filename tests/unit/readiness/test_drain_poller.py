"""Pods that lost their traffic are polled for their connections, until there are none or the maximum is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from services.readiness import drain_poller as module
from services.readiness.drain_poller import DrainPoller, DrainStep, drain_step, is_draining
from services.readiness.gate_decisions import gate_patch
from services.readiness.gate_keeper import GateKeeper
from services.readiness.pod_facts import fact_of
from shared.domain import messages as m
from shared.domain.graceful_exit import DRAIN_MAX_SECONDS, DRAIN_PATH, DRAIN_PORT, DRAINED
from shared.domain.json_types import Json
from shared.domain.topics import Key
from shared.kube.client import PODS, STRATEGIC, Client
from shared.kube.pods import Pod
from shared.kube.reflector import Reflector
from tests.unit.parts import KEY, Trouble, gated, record, refusal, until, until_it
from tests.unit.readiness.samples import AT, UP, pod

NOW = datetime.fromtimestamp(AT / 1000, UTC)
REPORTS_CONNECTIONS = {DRAIN_PATH: "/connections"}
RUNS = {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}


def reporting(gate: str = "open", **annotations: str) -> Pod:
    """A pod that runs and reports its connections."""
    return pod(status={**UP, **RUNS}, gate=gate, annotations={**REPORTS_CONNECTIONS, **annotations})


def closed(one: Pod, drain_after: int = 0) -> Pod:
    """The pod after its gate was closed at `AT`."""
    body = gate_patch(one, opened=False, sequence=7, now=NOW, drain_after=drain_after)
    raw: Json = msgspec.to_builtins(one)
    conditions = {c["type"]: c for c in [*raw["status"]["conditions"], *body["status"]["conditions"]]}
    return msgspec.convert({**raw, "status": {**raw["status"], "conditions": list(conditions.values())}}, Pod)


def when(one: Pod, seconds: float) -> DrainStep:
    assert one.drain is not None
    return drain_step(one, one.drain, AT + int(seconds * 1000))


def test_a_pod_drains_from_the_closing_of_its_gate_on() -> None:
    assert not is_draining(reporting())
    assert not fact_of(reporting()).drained
    one = closed(reporting())
    assert is_draining(one)
    assert not fact_of(one).drained


@pytest.mark.parametrize(
    "one",
    [
        pod(status=UP, gate="open"),
        closed(pod(status=UP, gate="open")),
        pod(status=UP, gate="closed", annotations=REPORTS_CONNECTIONS),
        pod(status=UP, gate=None, annotations=REPORTS_CONNECTIONS),
        closed(reporting(**{DRAIN_PORT: "http"})),
    ],
    ids=[
        "reports nothing",
        "reports nothing, pulled out",
        "never had traffic",
        "has no gate",
        "can't be read",
    ],
)
def test_nobody_waits_for_what_nobody_can_know(one: Pod) -> None:
    assert not is_draining(one)
    assert fact_of(one).drained


def test_it_is_polled_until_the_maximum_has_passed() -> None:
    one = closed(reporting(**{DRAIN_MAX_SECONDS: "20"}))
    assert [when(one, s) for s in (0, 19.9, 20)] == [
        DrainStep.POLL,
        DrainStep.POLL,
        DrainStep.MAXIMUM_REACHED,
    ]


def test_it_is_polled_after_the_pull_out_wait_which_is_not_part_of_the_maximum() -> None:
    one = closed(reporting(**{DRAIN_MAX_SECONDS: "20"}), drain_after=10)
    assert [when(one, s) for s in (0, 10.9, 11, 30.9, 31)] == [
        DrainStep.WAIT,
        DrainStep.WAIT,
        DrainStep.POLL,
        DrainStep.POLL,
        DrainStep.MAXIMUM_REACHED,
    ]


@pytest.mark.parametrize(
    "state", [{"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 1}}]
)
def test_a_pod_of_which_nothing_runs_has_no_connections(state: Json) -> None:
    status = {**UP, "containerStatuses": [{"name": "main", "state": state}]}
    assert (
        when(closed(pod(status=status, gate="open", annotations=REPORTS_CONNECTIONS)), 0)
        == DrainStep.NO_CONNECTIONS
    )


def test_what_was_said_of_an_earlier_time_out_of_traffic_does_not_count() -> None:
    one = closed(reporting())
    conditions = [
        msgspec.structs.replace(c, status="True") if c.type == DRAINED else c for c in one.status.conditions
    ]
    one = msgspec.structs.replace(one, status=msgspec.structs.replace(one.status, conditions=conditions))
    assert fact_of(one).drained
    assert not is_draining(one)
    assert is_draining(closed(one))


# --- on an API server ---


class Application:
    """What runs in a pod: says how many connections it has left."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {}
        self.polled: list[str] = []
        self.silent: set[str] = set()
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.polled.append(request.path_qs)
        if request.path in self.silent:
            await asyncio.sleep(60)
        status, text = self.answers.get(request.path, (200, "2"))
        return web.Response(status=status, text=text)


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    found = Application()
    served = web.Application()
    served.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(served, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


class Readiness:
    def __init__(self, client: Client) -> None:
        self.owned = True
        self.pods = Reflector(client, PODS, Pod, self._changed, namespaces=["default"])
        self.drains = DrainPoller(client, self.pods, self._owns)

    def _owns(self, key: Key) -> bool:
        return self.owned and key.namespace == KEY.namespace

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        self.drains.changed(old, new)

    def drained(self) -> dict[str, str]:
        """The pods of which it is said, with the reason."""
        found = {one.metadata.name: one.condition(DRAINED) for one in self.pods.items.values()}
        return {name: c.reason for name, c in found.items() if c is not None and c.status == "True"}


@pytest.fixture
async def readiness(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Readiness]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    found = Readiness(client)
    tasks = [asyncio.create_task(found.pods.run()), asyncio.create_task(found.drains.poll_forever())]
    async with asyncio.timeout(10):
        await found.pods.synced.wait()
    yield found
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def out(api: Client, name: str, port: int, **annotations: str) -> None:
    """A pod on this machine that runs, is in traffic, and loses it."""
    body = gated(name)
    body["metadata"]["annotations"] = {
        DRAIN_PATH: f"/{name}",
        DRAIN_PORT: str(port),
        "sandbox.triton.io/pod-ip": "127.0.0.1",
        **annotations,
    }
    await api.create(PODS, "default", body)

    async def starts() -> Any:
        found = await api.get(PODS, "default", name)
        return found if "containerStatuses" in found["status"] else None

    await until_it(starts)
    for opened, sequence in ((True, 1), (False, 2)):
        one = msgspec.convert(await api.get(PODS, "default", name), Pod)
        change = gate_patch(one, opened=opened, sequence=sequence, now=datetime.now(UTC))
        change["metadata"] = {}
        await api.patch(PODS, "default", name, change, subresource="status", content_type=STRATEGIC)


async def test_a_pod_may_go_as_soon_as_it_has_no_connections(
    readiness: Readiness, api: Client, application: Application
) -> None:
    await out(api, "one", application.port)
    await out(api, "two", application.port)
    await until(lambda: application.polled.count("/one") > 2 and application.polled.count("/two") > 2)
    assert readiness.drained() == {}
    application.answers["/two"] = (200, "0\n")
    await until(lambda: readiness.drained() == {"two": "NoConnections"})
    application.answers["/one"] = (200, "0")
    await until(lambda: readiness.drained() == {"one": "NoConnections", "two": "NoConnections"})


@pytest.mark.parametrize("answer", [(404, "0"), (503, ""), (200, "none"), (200, "-0"), (302, "0")])
async def test_an_answer_that_is_no_number_is_polled_for_again_and_noted_once(
    readiness: Readiness,
    api: Client,
    application: Application,
    answer: tuple[int, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    application.answers["/one"] = answer
    await out(api, "one", application.port)
    await until(lambda: len(application.polled) > 3)
    said = [line for line in caplog.messages if "connections of pod one are not known" in line]
    assert len(said) == 1
    assert str(answer[0]) in said[0]
    application.answers["/one"] = (200, "0")
    await until(lambda: readiness.drained() == {"one": "NoConnections"})


async def test_the_maximum_ends_it_where_nobody_answers(
    readiness: Readiness, api: Client, application: Application
) -> None:
    application.silent.add("/one")
    await out(api, "one", application.port, **{DRAIN_MAX_SECONDS: "2"})
    await until(lambda: readiness.drained() == {"one": "MaximumReached"})


async def test_pods_that_do_not_answer_hold_up_no_other(
    readiness: Readiness, api: Client, application: Application
) -> None:
    application.silent.add("/deaf")
    await out(api, "deaf", application.port)
    await out(api, "none", 1)
    await out(api, "one", application.port)
    await until(lambda: {"/deaf", "/one"} <= set(application.polled))
    application.answers["/one"] = (200, "0")
    await until(lambda: readiness.drained() == {"one": "NoConnections"})


async def test_a_write_that_fails_is_tried_again(
    readiness: Readiness, api: Client, trouble: Trouble, application: Application
) -> None:
    failures = 0

    async def refuse(request: web.Request) -> web.Response | None:
        nonlocal failures
        if request.method == "PATCH" and failures < 3:
            failures += 1
            return refusal(*((500, "InternalError") if failures % 2 else (409, "Conflict")), "not now")
        return None

    trouble.meddle = refuse
    application.answers["/one"] = (200, "0")
    await out(api, "one", application.port)
    await until(lambda: readiness.drained() == {"one": "NoConnections"})
    assert failures == 3


async def test_the_replica_that_has_the_instance_goes_on(
    readiness: Readiness, api: Client, application: Application
) -> None:
    readiness.owned = False
    await out(api, "one", application.port)
    await until(lambda: any(is_draining(one) for one in readiness.pods.items.values()))
    assert not readiness.drains._draining
    readiness.owned = True
    readiness.drains.check_all()
    await until(lambda: application.polled)
    readiness.owned = False
    await until(lambda: not readiness.drains._draining)


async def test_a_pod_that_is_deleted_is_polled_no_more(
    readiness: Readiness, api: Client, application: Application
) -> None:
    await out(api, "one", application.port, **{"sandbox.triton.io/stop-seconds": "60"})
    await until(lambda: application.polled)
    await api.delete(PODS, "default", "one")
    await until(lambda: not readiness.drains._draining)
    assert readiness.drained() == {}


async def test_annotations_that_can_not_be_read_are_named_in_the_log(
    readiness: Readiness, api: Client, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await out(api, "one", application.port, **{DRAIN_MAX_SECONDS: "long"})
    await until(lambda: [line for line in caplog.messages if DRAIN_MAX_SECONDS in line])
    assert not application.polled


async def test_a_command_says_from_when_on_connections_are_polled(
    readiness: Readiness, api: Client, client: Client, application: Application
) -> None:
    body = gated("one")
    body["metadata"]["annotations"] = {DRAIN_PATH: "/one", DRAIN_PORT: str(application.port)}
    uid = (await api.create(PODS, "default", body))["metadata"]["uid"]
    await until(lambda: uid in readiness.pods.items and readiness.pods.items[uid].containers_ready)
    keeper = GateKeeper(client, readiness.pods, lambda _: False)
    head: Json = {**KEY._asdict(), "flow": m.FlowRef(name="web-df", uid="flow-1"), "uids": [uid]}
    await keeper.handle(str(KEY), [record(m.PullIn(**head, sequence=1))])
    assert not readiness.pods.items[uid].drained
    await keeper.handle(str(KEY), [record(m.PullOut(**head, sequence=2, drain_after=600))])
    one = readiness.pods.items[uid]
    assert (is_draining(one), one.drain_after) == (True, 600)
    assert when(one, 0) == DrainStep.WAIT
    assert not application.polled
