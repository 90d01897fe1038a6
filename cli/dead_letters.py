"""`triton dead-letters`: messages that could not be processed, why, and publishing them again.

A service moves a message to the dead letters when the message itself is at fault. The original is kept unchanged,
so that it can be published again once the program, or whatever was missing, is fixed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, TypeVar

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from cli.exits import BadInput, Failure
from cli.output import WIDEST, Format, say, show, table
from shared.domain import topics
from shared.domain.json_types import Json
from shared.domain.reply_topics import REPLY_NOT_DELIVERED
from shared.domain.safe_text import shortened, visible_lines
from shared.errors import Unavailable
from shared.messaging.connection import connection
from shared.messaging.refusals import MESSAGE_AT_FAULT
from shared.settings import Settings, unfit

T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 10.0
"""How long to wait for a record that is known to exist before the broker counts as gone."""
OWN: Final = "triton_"
"""The prefix of the headers that a dead letter has beside those of the original."""

dead_letters = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Messages that could not be processed.",
)


Output = Annotated[Format | None, typer.Option("--output", "-o", help="Print objects instead of a table.")]


class Letter(NamedTuple):
    """A dead letter. Its id is `<partition>:<offset>` in the topic of dead letters."""

    id: str
    key: bytes | None
    value: bytes
    original: list[tuple[str, bytes]]
    """The headers that the message had."""
    about: dict[str, str]
    """The report of the service that failed on it."""

    @property
    def topic(self) -> str:
        """Return the topic of the original, without the prefix."""
        return self.about.get("topic", "")

    @property
    def is_answer(self) -> bool:
        """Return whether it is an answer of Triton's to another system, whose topic has no prefix."""
        return self.about.get("reason") == REPLY_NOT_DELIVERED

    @property
    def at(self) -> datetime | None:
        text = self.about.get("at", "")
        return datetime.fromtimestamp(int(text) / 1000, UTC) if text.isdecimal() else None

    @property
    def truncated(self) -> bool:
        return "truncated" in self.about

    def describe(self) -> Json:
        return {
            "id": self.id,
            "reason": self.about.get("reason", ""),
            "message": self.about.get("message", ""),
            "topic": self.topic,
            "partition": _number(self.about.get("partition", "")),
            "offset": _number(self.about.get("offset", "")),
            "key": _readable(self.key or b""),
            "at": self.at.isoformat(timespec="milliseconds") if self.at else None,
            "service": self.about.get("service", ""),
            "truncated": self.truncated,
        }

    def describe_all(self) -> Json:
        headers = {name: _readable(value) for name, value in self.original}
        return {**self.describe(), "headers": headers, "value": _readable(self.value)}


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a record of the dead-letters topic."""
    original = [(name, value) for name, value in record.headers if not name.startswith(OWN)]
    about = {
        name.removeprefix(OWN): _readable(value) for name, value in record.headers if name.startswith(OWN)
    }
    return Letter(f"{record.partition}:{record.offset}", record.key, record.value or b"", original, about)


def _readable(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


# --- Kafka --------------------------------------------------------------------------------------------------


async def read(settings: Settings) -> list[Letter]:
    """Return all present dead letters, oldest first. Raises `Unavailable`."""
    consumer = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
        **connection(settings),
    )
    try:
        async with _in_time(settings, CONNECT_SECONDS):
            partitions = await _partitions(settings, settings.topic(topics.DEAD_LETTERS))
            await consumer.start()
            last = await _last_offsets(consumer, partitions)
        return await _read_to(consumer, last, settings)
    finally:
        await consumer.stop()


async def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """Return the partitions of the topic; none where it is missing, as a consumer's request could create it."""
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        if topic not in await admin.list_topics():
            return []
        (described,) = await admin.describe_topics([topic])
        return [TopicPartition(topic, partition["partition"]) for partition in described["partitions"]]
    finally:
        await admin.close()


async def _last_offsets(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the offset after the last record, for each partition that has records."""
    if not partitions:
        return {}
    first = await consumer.beginning_offsets(partitions)
    last = await consumer.end_offsets(partitions)
    return {partition: last[partition] for partition in partitions if first[partition] < last[partition]}


async def _read_to(
    consumer: AIOKafkaConsumer, last: dict[TopicPartition, int], settings: Settings
) -> list[Letter]:
    found: list[ConsumerRecord] = []
    left = dict(last)
    consumer.assign(list(left))
    while left:
        async with _in_time(settings, SILENCE_SECONDS):
            # the last offset may be no record (transactions leave marks), so the position decides
            fetched = await consumer.getmany(*left, timeout_ms=200)
            while not fetched and not await _passed(consumer, left):
                fetched = await consumer.getmany(*left, timeout_ms=200)
        for records in fetched.values():
            found += records
        for partition in await _passed(consumer, left):
            del left[partition]
    found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    return [letter_of(record) for record in found]


async def _passed(consumer: AIOKafkaConsumer, last: dict[TopicPartition, int]) -> list[TopicPartition]:
    return [partition for partition, offset in last.items() if await consumer.position(partition) >= offset]


async def publish(settings: Settings, letters: Sequence[Letter]) -> None:
    """Publish the originals to their topics. Raises `Unavailable`."""
    producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **connection(settings))
    try:
        async with _in_time(settings, CONNECT_SECONDS):
            await producer.start()
        for letter in letters:
            async with _in_time(settings, SILENCE_SECONDS):
                try:
                    await producer.send_and_wait(
                        _destination(settings, letter), letter.value, key=letter.key, headers=letter.original
                    )
                except MESSAGE_AT_FAULT as error:
                    msg = f"{letter.id}: the topic {_destination(settings, letter)} does not take it: {error}"
                    raise Failure(msg) from error
    finally:
        await producer.stop()


@asynccontextmanager
async def _in_time(settings: Settings, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (KafkaError, OSError, TimeoutError) as error:
        why = f"no answer within {seconds:.0f} s" if isinstance(error, TimeoutError) else str(error)
        msg = f"Kafka at {settings.kafka_bootstrap} does not answer ({why}); check TRITON_KAFKA_BOOTSTRAP"
        raise Unavailable(msg) from error


def _destination(settings: Settings, letter: Letter) -> str:
    """Return the whole name of the topic that a letter is replayed to."""
    return letter.topic if letter.is_answer else settings.topic(letter.topic)


def _why_not(settings: Settings, letter: Letter) -> str:
    """Return why a letter can't be replayed; empty where it can."""
    if letter.is_answer:
        if why := settings.refuse_reply(letter.topic):
            return why
    elif letter.topic not in topics.ALL or letter.topic == topics.DEAD_LETTERS:
        return f"{letter.topic!r} is no topic of Triton's"
    if letter.truncated:
        return f"only the first {len(letter.value)} bytes of its {letter.about['truncated']} were kept"
    return ""


# --- the commands -------------------------------------------------------------------------------------------


@dead_letters.command("list")
def list_letters(output: Output = None) -> None:
    """List the dead letters that Kafka still has, oldest first.

    For example: triton dead-letters list -o json
    """
    letters = _run(read(_settings()))
    if output:
        show([letter.describe() for letter in letters], output)
        return
    if not letters:
        say("no dead letters")
        return
    rows = []
    for letter in letters:
        about = letter.describe()
        when = letter.at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if letter.at else "-"
        message = " ".join(about["message"].split())
        rows.append([letter.id, when, about["topic"], about["reason"], about["key"], message])
    say(*table(["ID", "WHEN", "TOPIC", "REASON", "KEY", "MESSAGE"], rows))


@dead_letters.command("show")
def show_letter(
    id: Annotated[str, typer.Argument(metavar="ID", help="The ID from list.")], output: Output = None
) -> None:
    """Show one dead letter, with its headers and its value.

    For example: triton dead-letters show 3:17
    """
    _check(id)
    described = _one(_run(read(_settings())), id).describe_all()
    if output:
        show(described, output)
        return
    value = described.pop("value")
    for name, field in described.items():
        say(f"{name + ':':<11} {json.dumps(field, ensure_ascii=False) if isinstance(field, dict) else field}")
    say("", *visible_lines(value))


@dead_letters.command()
def replay(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The ID from list.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay every dead letter.")] = False,
    output: Output = None,
) -> None:
    """Publish the original message again, unchanged, to its topic.

    The dead letter stays in its topic until Kafka's retention ends. Replaying twice does no harm: messages
    are recognized by their ids.

    For example: triton dead-letters replay 3:17, or triton dead-letters replay --all
    """
    if (id is None) != every:
        msg = "name either an ID or --all"
        raise BadInput(msg)
    if id is not None:
        _check(id)
    settings = _settings()
    letters = _run(read(settings))
    chosen = letters if id is None else [_one(letters, id)]
    replayable = [letter for letter in chosen if not _why_not(settings, letter)]
    if replayable:
        _run(publish(settings, replayable))
    if output:
        show([letter.describe() for letter in replayable], output)
    else:
        for letter in replayable:
            where = _destination(settings, letter)
            say(f"{letter.id} replayed to {where}, key {shortened(_readable(letter.key or b''), WIDEST)}")
        if not chosen:
            say("no dead letters")
    if left := [(letter.id, why) for letter in chosen if (why := _why_not(settings, letter))]:
        raise Failure("; ".join(f"{name} can't be replayed: {why}" for name, why in left))


def _check(id: str) -> None:
    if not re.fullmatch(r"\d+:\d+", id):
        msg = f"{id!r} is no ID: it is <partition>:<offset>, as `triton dead-letters list` shows it"
        raise BadInput(msg)


def _one(letters: Sequence[Letter], id: str) -> Letter:
    for letter in letters:
        if letter.id == id:
            return letter
    msg = f"there is no dead letter {id}: see `triton dead-letters list`"
    raise Failure(msg)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        raise BadInput(unfit(error)) from error


def _run(work: Coroutine[None, None, T]) -> T:
    # the client's own messages about an unavailable broker would repeat ours
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    try:
        return asyncio.run(work)
    except Unavailable as error:
        raise Failure(str(error)) from error
