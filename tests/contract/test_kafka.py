"""Kafka as the services use it: aiokafka with their settings, and `shared.messaging.kafka` itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest

from shared.domain import topics
from shared.domain.messages import ADAPTERS, CloneSetFacts, Done, Gate, PodRef
from shared.domain.record import Record
from shared.errors import Unavailable, Unpublishable
from shared.messaging.connection import connection, partition_of
from shared.messaging.kafka import Kafka
from shared.messaging.refusals import MAX_MESSAGE_BYTES
from shared.messaging.topic_creation import LARGEST, ensure_topics
from shared.settings import Settings

from .conftest import REAL
from .kafka_member import Member, joined
from .kube import PATIENCE

ROOT = Path(__file__).parents[2]
PARTITIONS = 6
LIMIT = 2 * PATIENCE
"""Seconds; a member that was killed is missed after its session's timeout only."""


@pytest.fixture
async def kafka_settings(settings: Settings) -> Settings:
    """With topics of its own. A real broker takes no session shorter than 6 s."""
    session = 6_000 if REAL else settings.kafka_session_timeout_ms
    own = settings.model_copy(update={"kafka_partitions": PARTITIONS, "kafka_session_timeout_ms": session})
    await ensure_topics(own)
    return own


@pytest.fixture
async def topic(settings: Settings) -> str:
    name = f"{settings.prefix}.plain"
    async with _admin(settings) as admin:
        large = {MAX_MESSAGE_BYTES: str(LARGEST)}
        answer = await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=large)])
    assert [code for _, code, *_ in answer.topic_errors] == [0]
    return name


@contextlib.asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _producer(settings: Settings, **more: Any) -> AIOKafkaProducer:
    return AIOKafkaProducer(**connection(settings), **({"acks": "all", "enable_idempotence": True} | more))


def _consumer(settings: Settings, topic: str, **more: Any) -> AIOKafkaConsumer:
    """One that reads everything there is, unless `more` says otherwise."""
    return AIOKafkaConsumer(
        topic,
        **connection(settings),
        **(
            {
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "fetch_max_wait_ms": settings.kafka_fetch_max_wait_ms,
            }
            | more
        ),
    )


async def _read(consumer: AIOKafkaConsumer, number: int) -> list[Any]:
    async with asyncio.timeout(LIMIT):
        return [await consumer.getone() for _ in range(number)]


async def until(what: str, holds: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            while not holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT:g} s: {what}") from None


async def _partitions(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    async with _admin(settings) as admin:
        there = set(await admin.list_topics())
        found = await admin.describe_topics([name for name in names if name in there])
    return {topic["topic"]: len(topic["partitions"]) for topic in found}


# --- topics ---------------------------------------------------------------------------------------------------


async def test_missing_topics_are_made_and_those_that_are_there_stay_as_they_are(settings: Settings) -> None:
    first = settings.model_copy(update={"kafka_partitions": 3})
    names = [settings.topic(name) for name in topics.ALL]
    async with _admin(settings) as admin:
        await admin.create_topics([NewTopic(names[0], 5, 1)])
    await ensure_topics(first)
    expected = dict.fromkeys(names, 3) | {names[0]: 5}
    assert await _partitions(settings, names) == expected
    await ensure_topics(settings.model_copy(update={"kafka_partitions": 7}))
    assert await _partitions(settings, names) == expected


async def test_all_services_make_the_topics_at_once(settings: Settings) -> None:
    own = settings.model_copy(update={"kafka_partitions": 2})
    await asyncio.gather(*(ensure_topics(own) for _ in range(4)))
    names = [settings.topic(name) for name in topics.ALL]
    assert await _partitions(settings, names) == dict.fromkeys(names, 2)


async def test_topics_that_the_broker_does_not_make_are_not_taken_for_made(settings: Settings) -> None:
    with pytest.raises(Unavailable, match=r"did not create the topic contract-.*InvalidReplicationFactor"):
        await ensure_topics(settings.model_copy(update={"kafka_replication": 3}))
    assert await _partitions(settings, [settings.topic(name) for name in topics.ALL]) == {}


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (("{}", 6, 1), "TopicAlreadyExistsError"),
        (("{}-none", 0, 1), "InvalidPartitionsError"),
        (("{} with a space", 1, 1), "InvalidTopicError"),
        (("{}-thrice", 1, 3), "InvalidReplicationFactorError"),
    ],
    ids=["there", "no partitions", "no name", "too few brokers"],
)
async def test_a_topic_that_can_not_be_made(
    settings: Settings, topic: str, new: tuple[str, int, int], error: str
) -> None:
    async with _admin(settings) as admin:
        answer = await admin.create_topics([NewTopic(new[0].format(topic), *new[1:])])
    assert [for_code(code).__name__ for _, code, *_ in answer.topic_errors] == [error]


# --- records --------------------------------------------------------------------------------------------------


async def test_a_record_arrives_as_it_was_sent(settings: Settings, topic: str) -> None:
    headers = [("ce_id", b"7"), ("ce_id", b"8"), ("empty", b""), ("none", None), ("raw", bytes(range(256)))]
    began = int(time.time() * 1000)
    async with _producer(settings) as producer:
        await producer.send_and_wait(
            topic, "größe 🚀".encode(), key="shop/wéb".encode(), headers=headers, partition=2
        )
        await producer.send_and_wait(topic, b"", key=b"", partition=2, timestamp_ms=1_763_720_000_123)
        await producer.send_and_wait(topic, None, key=b"gone", partition=2)
        await producer.send_and_wait(topic, b"keyless", partition=2)
    async with _consumer(settings, topic) as consumer:
        first, second, third, fourth = await _read(consumer, 4)
    assert (first.key, first.value) == ("shop/wéb".encode(), "größe 🚀".encode())
    assert list(first.headers) == headers
    assert began <= first.timestamp <= int(time.time() * 1000)
    assert (second.key, second.value, list(second.headers), second.timestamp) == (
        b"",
        b"",
        [],
        1_763_720_000_123,
    )
    assert (third.key, third.value) == (b"gone", None)
    assert (fourth.key, fourth.value) == (None, b"keyless")
    assert [(at.partition, at.offset) for at in (first, second, third, fourth)] == [(2, n) for n in range(4)]


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_arrive_in_order(
    settings: Settings, topic: str, compression: str | None
) -> None:
    sent = [f"{number} {'x' * 500}".encode() for number in range(200)]
    async with _producer(settings, compression_type=compression, linger_ms=5) as producer:
        await asyncio.gather(*[await producer.send(topic, value, key=b"shop/web") for value in sent])
    async with _consumer(settings, topic) as consumer:
        assert [record.value for record in await _read(consumer, len(sent))] == sent


async def test_the_records_of_a_key_are_in_order_in_the_partition_that_we_expect(
    settings: Settings, topic: str
) -> None:
    keys = [f"shop/web-{number}" for number in range(40)]
    async with _producer(settings) as producer:
        for turn in range(5):
            sent = [await producer.send(topic, str(turn).encode(), key=key.encode()) for key in keys]
            await asyncio.gather(*sent)
    async with _consumer(settings, topic) as consumer:
        records = await _read(consumer, 5 * len(keys))
    for key in keys:
        of_key = [record for record in records if record.key == key.encode()]
        assert [record.value for record in of_key] == [b"0", b"1", b"2", b"3", b"4"]
        assert {record.partition for record in of_key} == {partition_of(key, PARTITIONS)}
    assert {record.partition for record in records} == set(range(PARTITIONS))


async def test_an_idempotent_producer_in_a_hurry_loses_and_doubles_nothing(
    settings: Settings, topic: str
) -> None:
    async with _producer(settings) as one, _producer(settings) as two:
        sent = [
            await producer.send(topic, f"{name} {number}".encode(), key=b"shop/web")
            for number in range(500)
            for name, producer in (("one", one), ("two", two))
        ]
        await asyncio.gather(*sent)
    async with _consumer(settings, topic) as consumer:
        records = await _read(consumer, 1000)
    for name in ("one", "two"):
        values = [record.value.decode() for record in records if record.value.startswith(name.encode())]
        assert values == [f"{name} {number}" for number in range(500)]
    assert sorted(record.offset for record in records) == list(range(1000))


async def test_a_record_larger_than_a_fetch_arrives(settings: Settings, topic: str) -> None:
    async with _producer(settings, max_request_size=4 << 20) as producer:
        for value in (b"small", b"x" * (3 << 20), b"after"):
            await producer.send_and_wait(topic, value, key=b"shop/web")
    async with _consumer(settings, topic) as consumer:
        assert [len(record.value) for record in await _read(consumer, 3)] == [5, 3 << 20, 5]


async def test_a_waiting_reader_gets_what_comes(settings: Settings, topic: str) -> None:
    async with _consumer(settings, topic) as consumer, _producer(settings) as producer:
        for turn in range(3):
            waiting = asyncio.create_task(_read(consumer, 1))
            await producer.send_and_wait(topic, str(turn).encode(), partition=turn)
            [record] = await waiting
            assert record.value == str(turn).encode()


# --- groups ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reset", "expected"), [("earliest", [b"before", b"after"]), ("latest", [b"after"])])
async def test_where_a_new_group_begins(
    settings: Settings, topic: str, reset: str, expected: list[bytes]
) -> None:
    group = f"{settings.prefix}.{reset}"
    async with _producer(settings) as producer:
        await producer.send_and_wait(topic, b"before", key=b"shop/web")
        async with _consumer(settings, topic, group_id=group, auto_offset_reset=reset) as consumer:
            async with asyncio.timeout(LIMIT):
                for partition in consumer.assignment():
                    await consumer.position(partition)
            await producer.send_and_wait(topic, b"after", key=b"shop/web")
            records = await _read(consumer, len(expected))
    assert [record.value for record in records] == expected


async def test_each_group_gets_everything(kafka_settings: Settings) -> None:
    async with joined(kafka_settings) as one, joined(kafka_settings, "readiness") as two:
        sent = await _send(one.kafka, range(30))
        await until("everything", lambda: sorted(one.values) == sorted(two.values) == sorted(sent))
        for member in (one, two):
            assert member.owned == frozenset(range(PARTITIONS))


async def test_members_of_a_group_share_the_partitions_and_keys_stay_together(
    kafka_settings: Settings,
) -> None:
    async with joined(kafka_settings) as one, joined(kafka_settings) as two:
        await until("a partition each", lambda: _is_shared(one, two))
        sent = await _send(one.kafka, range(60), topics.PLANNER_FACTS, topics.BATCH_RESULTS)
        await until("everything", lambda: sorted(one.values + two.values) == sorted(sent))
        assert len(one.owned) == len(two.owned) == PARTITIONS // 2
        for member, other in ((one, two), (two, one)):
            assert member.got
            assert {record.partition for record in member.got} <= member.owned
            assert all(member.consumer.owns(record.key) for record in member.got)
            assert not any(other.consumer.owns(record.key) for record in member.got)


async def test_a_member_that_leaves_gives_its_partitions_away_but_not_what_it_has_done(
    kafka_settings: Settings,
) -> None:
    async with joined(kafka_settings) as stays:
        async with joined(kafka_settings) as leaves:
            await until("a partition each", lambda: _is_shared(stays, leaves))
            sent = await _send(stays.kafka, range(40))
            await until("everything", lambda: len(stays.got) + len(leaves.got) >= len(sent))
            await _committed(stays, len(stays.got))
        await until("all partitions", lambda: stays.owned == frozenset(range(PARTITIONS)))
        sent += await _send(stays.kafka, range(40, 80))
        await until("the rest", lambda: len(stays.got) + len(leaves.got) >= len(sent))
        assert leaves.got
        assert sorted(stays.values + leaves.values) == sorted(sent)


async def test_what_a_killed_member_had_not_done_comes_again(kafka_settings: Settings) -> None:
    async with joined(kafka_settings) as stays:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.kafka_member",
            _as_json(kafka_settings),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await until("some partitions for the other", lambda: 0 < len(stays.owned) < PARTITIONS)
            sent = await _send(stays.kafka, range(40))
            theirs = [value for value in sent if not stays.consumer.owns(_key(value))]
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                seen = [(await process.stdout.readline()).decode().strip() for _ in theirs]
            assert sorted(seen) == sorted(theirs)
            await until("the own ones", lambda: len(stays.got) >= len(sent) - len(theirs))
        finally:
            process.kill()
            await process.wait()
        await until("those of the killed one", lambda: len(stays.got) >= len(sent))
        assert sorted(stays.values) == sorted(sent)
        assert stays.owned == frozenset(range(PARTITIONS))


async def test_what_was_done_does_not_come_again_to_a_new_member(kafka_settings: Settings) -> None:
    async with joined(kafka_settings) as first:
        sent = await _send(first.kafka, range(20))
        await until("everything", lambda: sorted(first.values) == sorted(sent))
    async with joined(kafka_settings) as second:
        more = await _send(second.kafka, range(20, 30))
        await until("the new ones", lambda: len(second.got) >= len(more))
        assert sorted(second.values) == sorted(more)


async def _committed(member: Member, number: int) -> None:
    """Wait until so many records are done for Kafka too."""
    consumer = member.consumer.consumer
    async with asyncio.timeout(LIMIT):
        while number > sum([await consumer.committed(place) or 0 for place in consumer.assignment()]):
            await asyncio.sleep(0.02)


def _as_json(settings: Settings) -> str:
    return settings.model_dump_json(include={"prefix", "kafka_bootstrap", "kafka_session_timeout_ms"})


def _is_shared(one: Member, two: Member) -> bool:
    return bool(one.owned and two.owned) and one.owned | two.owned == frozenset(range(PARTITIONS))


def _key(value: str) -> str:
    return f"shop/web-{int(value.split()[-1]) % 12}"


async def _send(kafka: Kafka, numbers: Iterable[int], *names: str) -> list[str]:
    """A record of each number, to each topic, with one of twelve keys; their values."""
    sent = [(name, f"{name} {number}") for number in numbers for name in names or (topics.PLANNER_FACTS,)]
    await kafka.send([(name, _key(value), value.encode()) for name, value in sent])
    return [value for _, value in sent]


# --- what a service says --------------------------------------------------------------------------------------


@pytest.fixture
async def kafka(kafka_settings: Settings) -> AsyncIterator[Kafka]:
    kafka = Kafka(kafka_settings, "planner")
    await kafka.start()
    yield kafka
    await kafka.stop()


async def _all_of(settings: Settings, name: str, number: int) -> Sequence[Any]:
    async with _consumer(settings, settings.topic(name)) as consumer:
        return await _read(consumer, number)


async def test_what_is_published_has_its_key_and_says_what_it_is(kafka: Kafka) -> None:
    await kafka.send([(topics.PLANNER_FACTS, "shop/web", b"1"), (topics.PLANNER_FACTS, "shop/web", b"2")])
    first, second = await _all_of(kafka.settings, topics.PLANNER_FACTS, 2)
    assert [(record.key, record.value) for record in (first, second)] == [
        (b"shop/web", b"1"),
        (b"shop/web", b"2"),
    ]
    headers = dict(first.headers)
    assert headers["ce_type"] == b"io.triton.planner-facts"
    assert headers["ce_subject"] == b"shop/web"
    assert headers["ce_id"] != dict(second.headers)["ce_id"]


async def test_a_message_that_is_too_large_is_not_sent_and_the_others_are(kafka: Kafka) -> None:
    records = [b"one", b"x" * (9 << 20), b"two"]
    with pytest.raises(Unpublishable, match=r"has 9437184 bytes; Triton sends at most 8388608") as refused:
        await kafka.send([(topics.PLANNER_FACTS, "shop/web", value) for value in records])
    assert list(refused.value.faults) == [1]
    await kafka.send([(topics.PLANNER_FACTS, "shop/web", b"three")])
    found = await _all_of(kafka.settings, topics.PLANNER_FACTS, 3)
    assert [record.value for record in found] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_bomb_is_put_aside_and_the_command_behind_it_is_handled(
    kafka_settings: Settings, codec: str
) -> None:
    topic = kafka_settings.topic(topics.PLANNER_FACTS)
    bytes_inside = 60_000_000 if codec == "snappy" else 300_000_000
    packed = {"max_request_size": 1 << 30, "max_batch_size": 1 << 30, "compression_type": codec}
    async with joined(kafka_settings) as member:
        async with _producer(kafka_settings, **packed) as producer:
            sent = await producer.send_and_wait(topic, bytes(bytes_inside), key=b"shop/web", partition=1)
        async with _producer(kafka_settings) as producer:
            await producer.send_and_wait(topic, b"good", key=b"shop/web", partition=1)
        await until("the good one", lambda: member.values == ["good"])
    (letter,) = await _all_of(kafka_settings, topics.DEAD_LETTERS, 1)
    headers = {name: value.decode() for name, value in letter.headers}
    where = ("planner-facts", "1", str(sent.offset))
    assert (headers["triton_topic"], headers["triton_partition"], headers["triton_offset"]) == where
    assert headers["triton_reason"] == "UnreadableBatch"
    assert f"compressed with {codec}" in headers["triton_message"]
    assert letter.value == b""


@pytest.mark.parametrize(
    "fault",
    [
        {"key": "k" * 900_000, "value": b"x" * 900_000},
        {"headers": {f"h{number}": "v" * 100 for number in range(20_000)}},
        {"headers": {"größe": "ü" * 15_000}},
    ],
    ids=["a large key", "many headers", "headers of large letters"],
)
async def test_a_dead_letter_fits_whatever_the_record_has(kafka: Kafka, fault: dict[str, Any]) -> None:
    record = Record(topics.DEPLOY_COMMANDS, "shop/web", b"x", {}, 1, 42, 0)._replace(**fault)
    await kafka.dead_letter(record, "InvalidCommand", "\ud800 is no text")
    (letter,) = await _all_of(kafka.settings, topics.DEAD_LETTERS, 1)
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["triton_message"] == "\\ud800 is no text"
    assert headers["triton_truncated"] == str(len(record.value))


async def test_what_is_known_of_thousands_of_pods_fits_into_a_message(kafka: Kafka) -> None:
    pods = [
        PodRef(
            uid=str(uuid.uuid4()),
            name=f"20001-web-10010-{number:05x}",
            revision="20001-web-10010-5d8f6c9b7",
            gate=Gate.OPEN,
            ready=True,
            containers_ready=True,
            created_at=1_700_000_000_000 + number,
        )
        for number in range(6000)
    ]
    done = Done(namespace="shop", instance="web", sequence=1, cloneset=CloneSetFacts(exists=False), pods=pods)
    assert len(done.model_dump_json()) > 1 << 20
    await kafka.publish([done])
    [record] = await _all_of(kafka.settings, topics.BATCH_RESULTS, 1)
    assert ADAPTERS[topics.BATCH_RESULTS].validate_json(record.value) == done


async def test_a_dead_letter_of_a_large_record_fits(kafka: Kafka) -> None:
    record = Record(topics.DEPLOY_COMMANDS, "shop/web", b"x" * (3 << 20), {"ce_id": "7"}, 1, 42, 0)
    await kafka.dead_letter(record, "TooLarge", "it is")
    [letter] = await _all_of(kafka.settings, topics.DEAD_LETTERS, 1)
    headers = {name: value.decode() for name, value in letter.headers}
    assert record.value.startswith(letter.value)
    assert headers["triton_truncated"] == str(3 << 20)
    assert (headers["ce_id"], headers["triton_offset"], headers["triton_reason"]) == ("7", "42", "TooLarge")


async def test_an_answer_without_a_topic_is_put_aside_and_holds_up_nobody(
    kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")
    name = f"nobody.{secrets.token_hex(4)}.replies"
    await kafka.reply(name, "7", b'{"id":"7"}', {"ce_id": "7:refused"})
    await kafka.send([(topics.PLANNER_FACTS, "shop/web", b"next")])
    [record] = await _all_of(kafka.settings, topics.PLANNER_FACTS, 1)
    assert record.value == b"next"
    if not REAL:
        # the sandbox's broker makes a missing topic by itself, as one does with auto.create.topics.enable
        assert await _codecs(kafka.settings, name) == [0]
        return
    [letter] = await _all_of(kafka.settings, topics.DEAD_LETTERS, 1)
    headers = {key: value.decode() for key, value in letter.headers}
    assert (letter.key, letter.value) == (b"7", b'{"id":"7"}')
    assert (headers["ce_id"], headers["triton_topic"]) == ("7:refused", name)
    assert headers["triton_reason"] == "ReplyNotDelivered"
    assert f"the topic {name} did not take this answer" in headers["triton_message"]


async def test_answers_can_be_read_without_lz4(kafka: Kafka, topic: str) -> None:
    await kafka.reply(topic, "7", b'{"message":"' + b"x" * 5_000 + b'"}', {"ce_id": "7:refused"})
    await kafka.send([(topics.PLANNER_FACTS, "shop/web", b"x" * 5_000)])
    assert await _codecs(kafka.settings, topic) == [0]
    assert await _codecs(kafka.settings, kafka.settings.topic(topics.PLANNER_FACTS)) == [3]


async def _codecs(settings: Settings, name: str) -> list[int]:
    """The codec of each batch of a topic, by the lowest bits of its attributes: 0 is none, 3 is lz4."""
    places = (await _partitions(settings, [name]))[name]
    client = AIOKafkaClient(**connection(settings))
    await client.bootstrap()
    found: list[int] = []
    try:
        await client.set_topics([name])
        for place in range(places):
            leader = client.cluster.leader_for_partition(TopicPartition(name, place))
            request = FetchRequest(10, 0, 1 << 20, 0, [(name, [(place, 0, 1 << 20)])])
            [(_, [(*_, records)])] = (await client.send(leader, request)).topics
            while records:
                found.append(int.from_bytes(records[21:23]) & 0b111)
                records = records[12 + int.from_bytes(records[8:12]) :]
    finally:
        await client.close()
    return found
