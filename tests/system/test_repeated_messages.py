"""Every message that a release has put on any topic comes again, in order and in reverse: nothing happens.

What comes again here, whole releases long and across all topics, are the messages of every topic. What the planner's
own state machine meets besides (tests/unit/planner/decision/test_properties.py: facts and results that come twice, in every
order across the topics, commands that are lost) it meets at every moment of a release.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import aiohttp
import pytest
import redis.asyncio

from sandbox.environment import Sandbox
from shared.domain import topics
from shared.domain.json_types import Json
from shared.event_store import Query, open_store
from shared.settings import Settings
from tests.system import records
from tests.system.history import GATE, recorded
from tests.system.other_system import REPLIES, OtherSystem, press
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

FLOW_TOPICS: Final = [name for name in topics.ALL if name != topics.DEAD_LETTERS]


async def test_a_release_that_waits_or_is_finished_or_is_forgotten_is_not_moved_by_its_own_messages(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem
) -> None:
    await releases.service("repeated")
    await _request(paas, "repeated-1", action="create")
    first = await _made(paas, "repeated-1")
    await releases.finished(first, "Success")
    await releases.serves("repeated", 3)
    async with recorded(releases, "repeated") as history:
        await _request(paas, "repeated-2", image="nginx:2", canary=1, batchSize=1)
        name = await _made(paas, "repeated-2")
        await releases.until_status(name, "waits", lambda status: status.get("reason") == "WaitingForNext")
        await _nothing_moves(sandbox, releases, "repeated")
        await paas.ask("repeated", press("repeated-3", "next", "repeated", batch=1, stage="Smoked"))
        await releases.batch_is(name, 1, "Baking")
        await paas.ask("repeated", press("repeated-4", "promote", "repeated"))
        await releases.finished(name, "Success")
    history.check(3)
    await _nothing_moves(sandbox, releases, "repeated")
    await sandbox.stop("planner")
    async with redis.asyncio.from_url(sandbox.redis_url) as state:
        await state.flushall()
    await sandbox.start("planner")
    await _nothing_moves(sandbox, releases, "repeated")
    await _request(paas, "repeated-5", image="nginx:3", batchSize=2)
    await releases.finished(await _made(paas, "repeated-5"), "Success")
    assert {pod["spec"]["containers"][0]["image"] for pod in await releases.pods("repeated")} == {"nginx:3"}
    await releases.serves("repeated", 3)
    assert len(await releases.names("repeated")) == 3


async def _request(
    paas: OtherSystem, id: str, *, action: str = "update", image: str = "nginx:1", **strategy: Any
) -> None:
    spec = deployflow("", "repeated", action=action, image=image, replicas=3, **strategy)["spec"]
    await paas.ask("repeated", {"id": id, "type": "deploy", "replyTo": REPLIES, "spec": spec})


async def _made(paas: OtherSystem, id: str) -> str:
    reply = (await paas.replies(id))[0]
    assert reply["result"] == "accepted", reply
    name: str = reply["deployFlow"]
    return name


async def _nothing_moves(sandbox: Sandbox, releases: Releases, instance: str) -> None:
    """Whatever comes again, in whatever order."""
    kafka, key = sandbox.kafka_bootstrap, f"{NAMESPACE}/{instance}"
    await until("OpenKruise and the pods are at rest", lambda: _is_at_rest(releases, instance))
    await until("all of it is read", lambda: records.all_read(kafka, key))
    published = await records.read(kafka, key, FLOW_TOPICS)
    assert {record.topic.partition(".")[2] for record in published} == set(FLOW_TOPICS)
    before = await _seen(sandbox, releases, instance)
    for again in (published, published[::-1]):
        await records.publish(kafka, again)
        await until("all of it is read again", lambda: records.all_read(kafka, key))
        assert await _seen(sandbox, releases, instance) == before


async def _is_at_rest(releases: Releases, instance: str) -> bool:
    """Return whether no pod ends or starts, and the CloneSet's status says what the pods are: no more facts come."""
    cloneset = await releases.cloneset(instance)
    pods = await releases.pods(instance)
    status = cloneset.get("status") or {}
    ready = [
        pod
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
    ]
    return (
        not any("deletionTimestamp" in pod["metadata"] for pod in pods)
        and status.get("observedGeneration") == cloneset["metadata"]["generation"]
        and (status.get("replicas", 0), status.get("readyReplicas", 0)) == (len(pods), len(ready))
    )


async def _seen(sandbox: Sandbox, releases: Releases, instance: str) -> Json:
    """What people would notice if it changed."""
    cloneset = await releases.cloneset(instance)
    pods = await releases.pods(instance)
    aside = await records.read(sandbox.kafka_bootstrap, f"{NAMESPACE}/{instance}", [topics.DEAD_LETTERS])
    flows = [await releases.flow(name) for name in await releases.names(instance)]
    return {
        "cloneset": (
            cloneset["metadata"]["generation"],
            cloneset["metadata"]["annotations"],
            cloneset["spec"],
        ),
        "pods": {pod["metadata"]["uid"]: _gate(pod) for pod in pods},
        "deployflows": {
            flow["metadata"]["name"]: (flow["spec"], _reported_by(flow["status"])) for flow in flows
        },
        "log": await _log(sandbox, instance),
        "dead letters": [record.value for record in aside],
    }


def _gate(pod: Json) -> Json | None:
    """As it was written, with when and by which command; None while nobody has."""
    return next((c for c in pod["status"]["conditions"] if c["type"] == GATE), None)


def _reported_by(status: Json) -> Json:
    batches = [(batch["batch"], batch["phase"]) for batch in status["conditions"]]
    return {"batches": batches} | {name: status[name] for name in ("phase", "reason", "finished", "sequence")}


async def _log(sandbox: Sandbox, instance: str) -> Counter[str]:
    """Return how often each fact is in the log; Elasticsearch shows what it has only after a refresh."""
    if sandbox.event_store.startswith("http"):
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            await session.post(f"{sandbox.event_store}/logs-triton.*/_refresh")
    store = open_store(Settings(event_store=sandbox.event_store))
    try:
        found = await store.search(Query(namespace=NAMESPACE, instance=instance))
    finally:
        await store.close()
    return Counter(document["event"]["id"] for document in found)
