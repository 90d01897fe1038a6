"""How fast the events service writes the release log, how soon an event is found, and what an absence costs.

Real Kafka and Elasticsearch as plain processes, one events service between them, and messages as releases give them. An
event is one document. Beside it, on the same node: the same documents, made before, written in bulk by a bare loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from shared.domain.json_types import Json

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    root = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))
    if importlib.util.find_spec("elasticsearch") is None:
        own = root / ".venv" / "bin" / "python"
        if not own.exists() or Path(sys.prefix) == own.parents[1]:
            sys.exit("error: packages are missing: run `make .venv/.ready` first")
        os.execv(own, [str(own), *sys.argv])

import aiohttp
from confluent_kafka import Producer
from elasticsearch import ApiError, AsyncElasticsearch
from prometheus_client.parser import text_string_to_metric_families

from bench.errors import BenchError
from bench.meters import Usage, usage
from bench.progress import during, say
from bench.stories import pod_story, stories
from sandbox.environment import Sandbox
from sandbox.process import Parts, Reached, SandboxError
from sandbox.real.stack import start_elasticsearch, start_kafka
from services.events.documents import documents
from shared.domain.messages import TOPIC_OF, Message
from shared.event_store import Document, Stream, index_name
from shared.settings import Settings

EVENTS: Final = 400_000
BACKLOG: Final = 100_000
BARE: Final = 100_000
AWAY_SECONDS: Final = 10.0
RATE: Final = 500
SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1
"""So often the searches for new events come, and so exact is what they find."""
BULK_BYTES: Final = 1_000_000
PAGE: Final = 10_000
GIVE_UP_SECONDS: Final = 180.0
AIM_RATE, AIM_MB, AIM_FOUND_SECONDS = 8_000.0, 200.0, 2.0
EXAMPLES: Final = """
examples:
  python bench/events.py
  python bench/events.py --events 50000 --seconds 10 -o json
"""


class LogStack:
    """Only what the release log needs: Kafka and Elasticsearch."""

    played = "there is no cluster: the messages are made up"

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    async def start(self, parts: Parts, state: Path, kubeconfig: Path) -> Reached:  # noqa: ARG002
        for name in ("kafka", "elasticsearch"):
            (state / name).mkdir(parents=True)
        kafka, elasticsearch = await asyncio.gather(
            start_kafka(parts, state / "kafka", say), start_elasticsearch(parts, state / "elasticsearch", say)
        )
        return Reached({"TRITON_KAFKA_BOOTSTRAP": kafka, "TRITON_EVENT_STORE": elasticsearch})

    async def versions(self) -> dict[str, str]:
        return self._versions


class Log:
    """The release log as it is searched, by a client of this measurement."""

    def __init__(self, client: AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._indices = [index_name(stream, settings) for stream in Stream]

    async def ids(self) -> Counter[str]:
        """How often each event is there."""
        await self._client.indices.refresh(index=self._indices, ignore_unavailable=True)
        found: Counter[str] = Counter()
        for index in self._indices:
            after: list[Any] | None = None
            while True:
                answer = await self._client.search(
                    index=index,
                    ignore_unavailable=True,
                    size=PAGE,
                    source=False,
                    sort=[{"event.id": {"order": "asc"}}, {"_doc": {"order": "asc"}}],
                    search_after=after,
                    track_total_hits=False,
                )
                hits = answer["hits"]["hits"]
                found.update(str(hit["sort"][0]) for hit in hits)
                if len(hits) < PAGE:
                    break
                after = hits[-1]["sort"]
        return found

    async def found(self, ids: Iterable[str]) -> set[str]:
        """Those of these events that a search finds now."""
        try:
            answer = await self._client.search(
                index=self._indices,
                ignore_unavailable=True,
                size=PAGE,
                source=False,
                query={"terms": {"event.id": list(ids)}},
                docvalue_fields=[{"field": "event.id"}],
                track_total_hits=False,
            )
        except ApiError as error:
            # for a moment a new index has no shard
            if error.status_code != 503:
                raise
            return set()
        return {str(hit["fields"]["event.id"][0]) for hit in answer["hits"]["hits"]}


class Feed:
    """Publishes on Kafka as the services do, and knows which documents must come of it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "queue.buffering.max.messages": 2_000_000,
            }
        )
        self.ids: set[str] = set()

    def publish(self, message: Message) -> list[str]:
        """The ids of its documents."""
        ids = [document.id for document in documents(message, 0)]
        self.ids.update(ids)
        topic = self._settings.topic(TOPIC_OF[type(message)])
        self._producer.produce(topic, message.model_dump_json().encode(), str(message.key).encode())
        self._producer.poll(0)
        return ids

    def publish_events(self, messages: Iterator[Message], events: int) -> int:
        """At least so many; how many."""
        begun = len(self.ids)
        while len(self.ids) - begun < events:
            self.publish(next(messages))
        self.flush()
        return len(self.ids) - begun

    def flush(self) -> None:
        if self._producer.flush(60):
            msg = "Kafka does not take the messages"
            raise BenchError(msg)


class Work(NamedTuple):
    """A stretch of the service's work: events stored, seconds, in how many of them a request was at Elasticsearch, and
    the CPU seconds that each process took.
    """

    events: int
    seconds: float
    requests: float
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.events / self.seconds


class Service:
    """The events service of the sandbox, seen from outside."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self._sandbox, self._http = sandbox, http

    async def stored(self) -> int:
        """Documents that it has had stored since its start."""
        return int(await self._sum("triton_events_documents_total"))

    async def _sum(self, name: str) -> float:
        async with self._http.get(f"{self._sandbox.health_urls['events']}/metrics") as answer:
            text = await answer.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels["outcome"] != "refused"
        )

    async def works_off(self, events: int, before: int = 0) -> Work:
        """From the first of them that it stores to the last; `before` them it had stored so many."""
        now = before
        async with during("stored", lambda: f"{now - before:,} of {events:,}"):
            begun = time.monotonic()
            while (now := await self.stored()) == before:
                await self._wait(begun)
            requests = await self._sum("triton_events_bulk_seconds_sum")
            first, begun, cpu, busy = now, time.monotonic(), self._usage(), _busy_seconds()
            while (now := await self.stored()) < before + events:
                await self._wait(begun)
            seconds, used = time.monotonic() - begun, self._usage()
            requests = await self._sum("triton_events_bulk_seconds_sum") - requests
        spent = {name: used[name].cpu_seconds - cpu[name].cpu_seconds for name in used}
        spent["everything else"] = _busy_seconds() - busy - sum(spent.values())
        return Work(now - first, seconds, requests, spent)

    @property
    def peak_bytes(self) -> int:
        return self._usage()["events"].peak_bytes

    def _usage(self) -> dict[str, Usage]:
        pids = {name: self._sandbox.pid(name) for name in ("events", "elasticsearch", "kafka")}
        return {name: usage(pid) for name, pid in pids.items() if pid}

    async def _wait(self, begun: float) -> None:
        if time.monotonic() - begun > GIVE_UP_SECONDS:
            msg = f"the events are not stored within {GIVE_UP_SECONDS:g} s"
            raise BenchError(msg)
        await asyncio.sleep(0.25)


def _busy_seconds() -> float:
    """Of all cores, since the machine started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


async def bare(client: AsyncElasticsearch, settings: Settings, made: Iterable[Document]) -> float:
    """Documents a second that a loop without any work of ours gets written: two requests at a time."""
    bodies: list[Any] = []
    body, total = bytearray(), 0
    for document in made:
        target = {"_index": index_name(document.stream, settings), "_id": document.id}
        body += json.dumps({"create": target}).encode() + b"\n" + json.dumps(document.source).encode() + b"\n"
        total += 1
        if len(body) > BULK_BYTES:
            bodies.append(bytes(body))
            body.clear()
    bodies.append(bytes(body))
    left = iter(bodies)

    async def work() -> None:
        for one in left:
            answer = await client.bulk(operations=[one], filter_path="errors")
            if answer["errors"]:
                msg = "Elasticsearch refuses documents of the bare loop"
                raise BenchError(msg)

    begun = time.monotonic()
    await asyncio.gather(work(), work())
    return total / (time.monotonic() - begun)


async def searchable(feed: Feed, log: Log, rate: float, seconds: float) -> list[float]:
    """Seconds from the publishing of each pod event until a search found it, in order of length."""
    sent: dict[str, float] = {}
    taken: list[float] = []
    over = False

    async def look() -> None:
        while sent or not over:
            began = time.perf_counter()
            if sent:
                found = await log.found(itertools.islice(sent, PAGE))
                now = time.perf_counter()
                taken.extend(now - sent.pop(name) for name in found)
            if sent and now - next(iter(sent.values())) > GIVE_UP_SECONDS:
                msg = f"{len(sent)} events are not found within {GIVE_UP_SECONDS:g} s"
                raise BenchError(msg)
            await asyncio.sleep(max(0.0, began + LOOK_SECONDS - time.perf_counter()))

    looking = asyncio.create_task(look())
    begun = time.perf_counter()
    messages = pod_story()
    count = 0
    async with during("found", lambda: f"{len(taken):,}"):
        while count < rate * seconds:
            if (early := begun + count / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if looking.done():
                break
            for name in feed.publish(next(messages)):
                sent[name] = time.perf_counter()
                count += 1
        over = True
        await looking
    return sorted(taken)


async def _exactly_once(log: Log, ids: set[str]) -> Json:
    """Lost and doubled events, by their ids."""
    found = await log.ids()
    return {
        "lost": len(ids - found.keys()),
        "doubled": sum(count > 1 for count in found.values()),
        "strange": len(found.keys() - ids),
    }


@contextlib.asynccontextmanager
async def surroundings() -> AsyncIterator[
    tuple[Sandbox, Settings, AsyncElasticsearch, aiohttp.ClientSession]
]:
    others = dict.fromkeys(("planner", "executor", "readiness"), 0)
    async with Sandbox(stack=LogStack(), replicas=others) as sandbox:
        settings = Settings(event_store=sandbox.event_store, kafka_bootstrap=sandbox.kafka_bootstrap)
        async with (
            AsyncElasticsearch(sandbox.event_store, request_timeout=60) as client,
            aiohttp.ClientSession() as http,
        ):
            yield sandbox, settings, client, http


async def measure(events: int, backlog: int, seconds: float) -> Json:
    async with surroundings() as (sandbox, settings, client, http):
        service, log, feed = Service(sandbox, http), Log(client, settings), Feed(settings)
        messages = stories()
        say("bare bulk loop ...")
        beside = settings.model_copy(update={"prefix": "bare"})
        made = (document for message in stories() for document in documents(message, 0))
        floor = await bare(client, beside, itertools.islice(made, BARE))

        say(f"searching at {RATE} events a second ...")
        found = await searchable(feed, log, RATE, seconds)

        await sandbox.stop("events")
        count = feed.publish_events(messages, events)
        await sandbox.start("events")
        work = await service.works_off(count)
        sound = await _exactly_once(log, feed.ids)

        before = await service.stored()
        sandbox.kill("elasticsearch")
        late = feed.publish_events(messages, backlog)
        await asyncio.sleep(AWAY_SECONDS)
        await sandbox.start("elasticsearch")
        back = time.monotonic()
        after = await service.works_off(late, before)
        return {
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "barePerSecond": floor,
            "perSecond": work.rate,
            "seconds": work.seconds,
            "requestSeconds": work.requests,
            "events": work.events,
            "cpuSeconds": dict(work.cpu),
            "peakMB": service.peak_bytes / 1e6,
            "searchable": {
                "rate": RATE,
                "events": len(found),
                "median": found[len(found) // 2],
                "p99": found[int(len(found) * 0.99)],
                "most": found[-1],
            },
            "onceSustained": sound,
            "backlog": {"events": late, "seconds": time.monotonic() - back, "perSecond": after.rate},
            "onceBacklog": await _exactly_once(log, feed.ids),
        }


def lines(result: Json) -> list[str]:
    found, backlog = result["searchable"], result["backlog"]
    wrong = sum(sum(result[name].values()) for name in ("onceSustained", "onceBacklog"))
    rows = [
        ("events stored a second", -result["perSecond"], "/s", -AIM_RATE),
        ("memory of the events service at most", result["peakMB"], "MB", AIM_MB),
        (f"searchable at {found['rate']}/s, p99", found["p99"], "s", AIM_FOUND_SECONDS),
        (f"lost or doubled, of {result['events'] + backlog['events']:,} and more", wrong, "", 0),
    ]
    told = [
        f"{what:<48} {abs(value):9.1f} {unit:<4} aim {abs(aim):g}{'' if value <= aim else '  MISSED'}"
        for what, value, unit, aim in rows
    ]
    share = result["perSecond"] / result["barePerSecond"]
    spent = ", ".join(f"{name} {cpu:.1f}" for name, cpu in result["cpuSeconds"].items())
    return [
        *told,
        f"measured over {result['seconds']:.0f} s and {result['events']:,} events; CPU seconds: {spent}",
        f"a request was at Elasticsearch in {result['requestSeconds']:.1f} of these seconds",
        f"of what a bare bulk loop writes ({result['barePerSecond']:,.0f}/s): {share:.2f}",
        f"backlog of {backlog['events']:,} after Elasticsearch's absence: {backlog['seconds']:.1f} s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python bench/events.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=EVENTS, metavar="N", help=f"default: {EVENTS}")
    parser.add_argument("--backlog", type=int, default=BACKLOG, metavar="N", help=f"default: {BACKLOG}")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"default: {SECONDS:g}")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    try:
        result = asyncio.run(measure(given.events, given.backlog, given.seconds))
    except (BenchError, SandboxError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2) if given.output == "json" else "\n".join(lines(result)))


if __name__ == "__main__":
    main()
