"""The release log of one whole release: how many documents of what, each pod's story, and who let it go on."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Final

import pytest

from sandbox.environment import Sandbox
from services.events.app import TOPICS
from services.events.documents import documents
from shared.domain.json_types import Json
from shared.domain.messages import ADAPTERS
from shared.event_store import Query, Stream, open_store
from shared.settings import Settings
from tests.system.other_system import OtherSystem, press
from tests.system.programs import printed
from tests.system.records import all_read, read
from tests.system.releases import NAMESPACE, Releases, deployflow, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

INSTANCE: Final = "logged"
NAME: Final = "logged-1"
PODS: Final = 3
PRESSED: Final = ("operator-1", "operator-2", "operator-3")
"""Who lets the canary into traffic, who counts it as baked, who lets the rest go."""

OF_RELEASE: Final = {
    "received": 1,
    "pending": 1,
    "initializing": 1,
    "planned": 1,
    "batch-started": 3,
    "batch-smoking": 3,
    "batch-smoked": 3,
    "batch-baking": 3,
    "batch-baked": 3,
    "batch-finished": 3,
    "waiting-for-next": 3,
    "go-ahead": 3,
    "success": 1,
}
WAY: Final = [
    "pod-created",
    "pod-scheduled",
    "pod-started",
    "pod-containers-ready",
    "pod-pulled-in",
    "pod-ready",
]
"""Of a pod, into traffic."""


async def test_the_log_of_a_release_has_each_fact_once_and_says_who_let_it_go_on(
    sandbox: Sandbox, releases: Releases
) -> None:
    await _release(sandbox, releases)
    found = await _complete(sandbox)
    flows = [document for document in found if document["event"]["dataset"] == "triton.deployflow"]
    assert Counter(document["event"]["action"] for document in flows) == OF_RELEASE
    commands = [(d["triton"]["command"], d["user"]["name"]) for d in flows if "command" in d["triton"]]
    assert commands == [("deploy", "kubectl"), *(("next", who) for who in PRESSED)]
    _every_pods_story(found)
    changed = [d for d in found if d["event"]["action"] == "spec-changed"]
    assert {(d["triton"]["deployflow"], d["event"]["provider"]) for d in changed} == {(NAME, "executor")}
    made = [d for d in found if d["event"]["action"] == "successful-create"]
    assert len(made) == PODS
    assert {d["kubernetes"]["event"]["type"] for d in made} == {"Normal"}
    scheduled = [d for d in found if d["event"]["provider"] == "default-scheduler"]
    assert Counter(d["event"]["action"] for d in scheduled) == {"scheduled": PODS}
    assert {d["triton"]["application"] for d in found} == {"shop"}

    await _the_commands_show_it(sandbox)


async def _release(sandbox: Sandbox, releases: Releases) -> None:
    """As in the tutorial: a canary of one of three pods, and the others one by one."""
    await releases.apply(deployflow(NAME, INSTANCE, action="create", replicas=PODS, canary=1, batchSize=1))
    await OtherSystem.makes_topic(sandbox.kafka_bootstrap)
    async with OtherSystem(sandbox.kafka_bootstrap) as paas:
        for who, stage in zip(PRESSED, ("Smoked", "Baking", ""), strict=True):
            if stage:
                await releases.batch_is(NAME, 1, stage)
            await releases.until_status(NAME, "waits", lambda s: s["reason"] == "WaitingForNext")
            before = await releases.status(NAME)
            await paas.ask(INSTANCE, press(f"{NAME}-{who}", "next", INSTANCE, requestedBy=who))
            await _continues(releases, before)
    await releases.finished(NAME, "Success")


async def _continues(releases: Releases, before: Json) -> None:
    def newer(status: Json) -> bool:
        return bool(status["version"] > before["version"])

    await releases.until_status(NAME, "goes on", newer)


async def _complete(sandbox: Sandbox) -> list[Json]:
    """The documents of the instance in their order, once they are all that the topics come to."""
    key = f"{NAMESPACE}/{INSTANCE}"
    await until("all is worked on", lambda: all_read(sandbox.kafka_bootstrap, key))
    settings = Settings()
    topics = {settings.topic(name): name for name in TOPICS}
    published: set[tuple[Stream, str]] = set()
    for record in await read(sandbox.kafka_bootstrap, key, TOPICS):
        message = ADAPTERS[topics[record.topic]].validate_json(record.value)
        published |= {(document.stream, document.id) for document in documents(message, record.offset)}
    wanted = Counter(f"triton.{stream}" for stream, _ in published)
    store = open_store(Settings(event_store=sandbox.event_store))
    found: list[Json] = []

    async def there() -> bool:
        found[:] = await store.search(Query(namespace=NAMESPACE, instance=INSTANCE))
        return Counter(document["event"]["dataset"] for document in found) == wanted

    try:
        await until(f"the log has {dict(wanted)}", there)
    finally:
        await store.close()
    assert len({document["event"]["id"] for document in found}) == len(found)
    return found


def _every_pods_story(found: list[Json]) -> None:
    stories: dict[str, list[Json]] = {}
    for document in found:
        if document["event"]["provider"] == "readiness":
            stories.setdefault(document["kubernetes"]["pod"]["name"], []).append(document)
    assert len(stories) == PODS
    let = {1: PRESSED[0], 2: PRESSED[2], 3: PRESSED[2]}
    batches = []
    for story in stories.values():
        assert [document["event"]["action"] for document in story] == WAY
        assert {document["triton"]["deployflow"] for document in story} == {NAME}
        (batch,) = {document["triton"]["batch"] for document in story}
        batches.append(batch)
        assert {d["user"]["name"] for d in story if d["event"]["action"] == "pod-pulled-in"} == {let[batch]}
        ages = [document["triton"]["age_ms"] for document in story]
        assert ages == sorted(ages)
        for before, after in pairwise(story[:-1]):
            assert after["event"]["start"] >= before["@timestamp"]
    assert sorted(batches) == [1, 2, 3]


async def _the_commands_show_it(sandbox: Sandbox) -> None:
    where = ("-n", NAMESPACE)
    story = (await printed("log", NAME, *where, environment=sandbox.environment)).splitlines()
    assert story[0].startswith(f"{NAME}: create of {NAMESPACE}/{INSTANCE} (shop, app 7, group 8)")
    assert story[-1].startswith(f"{NAME}: Success after")
    assert f"{PODS} of {PODS} batches finished" in story[-1]
    assert f"{PODS} pods started" in story[-1]
    for who in PRESSED:
        assert any(f"{who} (claimed) via kafka pressed next" in line for line in story)
    assert sum("is pulled in (batch" in line for line in story) == PODS
    assert sum("is Ready and takes traffic" in line for line in story) == PODS
    past = json.loads(
        await printed("history", INSTANCE, *where, "-o", "json", environment=sandbox.environment)
    )
    assert [(one["name"], one["phase"], one["finishedBatches"]) for one in past] == [(NAME, "Success", 3)]
    assert past[0]["commands"] == [
        {"command": "next", "by": who, "byClaimed": True, "via": "kafka", "count": 1} for who in PRESSED
    ]
