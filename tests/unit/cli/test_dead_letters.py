"""`triton dead-letters` on a real Kafka protocol: to see what was put aside, and to have it tried again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from typer.testing import CliRunner, Result

from cli.dead_letters import dead_letters
from cli.exits import BadInput, Failure
from shared.domain import topics
from shared.domain.record import Record
from shared.domain.reply_topics import REPLY_NOT_DELIVERED
from shared.messaging.connection import connection
from shared.messaging.kafka import Kafka
from shared.settings import Settings

Run = Callable[..., Result]
COMMANDS = topics.DEPLOY_COMMANDS


@pytest.fixture
def run(kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TRITON_KAFKA_BOOTSTRAP", kafka_settings.kafka_bootstrap)
    monkeypatch.setenv("TRITON_KAFKA_FETCH_MAX_WAIT_MS", "10")
    return lambda *arguments: CliRunner().invoke(dead_letters, arguments)


def put_aside(settings: Settings, *letters: tuple[Record, str, str]) -> None:
    """As the services do it."""

    async def put() -> None:
        kafka = Kafka(settings, "planner")
        await kafka.start()
        for letter in letters:
            await kafka.dead_letter(*letter)
        await kafka.stop()

    asyncio.run(put())


def command(value: bytes = b"{not json", key: str = "shop/web", topic: str = COMMANDS) -> Record:
    return Record(topic, key, value, {"ce_id": "42", "ce_source": "paas"}, 3, 17, 1_763_720_000_000)


LETTERS = (
    (command(), "InvalidMessage", "Invalid JSON:\nexpected value"),
    (command(b'{"id": "7"}', "shop/api"), "InvalidMessage", "type: is missing"),
)


def listed(run: Run, key: str) -> dict[str, Any]:
    """The letter of this key, as list gives it to programs."""
    (letter,) = (letter for letter in json.loads(run("list", "-o", "json").output) if letter["key"] == key)
    return dict(letter)


async def _records(settings: Settings, topic: str, number: int) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        settings.topic(topic), auto_offset_reset="earliest", fetch_max_wait_ms=10, **connection(settings)
    )
    async with asyncio.timeout(20), consumer:
        return [await consumer.getone() for _ in range(number)]


def run_async(work: Awaitable[Any]) -> Any:
    async def inner() -> Any:
        return await work

    return asyncio.run(inner())


def test_list_shows_reason_topic_key_and_when(kafka_settings: Settings, run: Run) -> None:
    put_aside(kafka_settings, *LETTERS)
    result = run("list")
    assert result.exit_code == 0
    header, *lines = result.output.splitlines()
    assert header.split() == ["ID", "WHEN", "TOPIC", "REASON", "KEY", "MESSAGE"]
    api, web = sorted((line.split()[3:] for line in lines), key=lambda words: words[2])
    assert web == [COMMANDS, "InvalidMessage", "shop/web", "Invalid", "JSON:", "expected", "value"]
    assert api[:3] == [COMMANDS, "InvalidMessage", "shop/api"]


def test_an_empty_list_ends_at_once(run: Run) -> None:
    started = time.monotonic()
    result = run("list")
    assert (result.exit_code, result.output) == (0, "no dead letters\n")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_list_for_programs(kafka_settings: Settings, run: Run, form: str, parse: Any) -> None:
    put_aside(kafka_settings, *LETTERS)
    letters = {letter["key"]: letter for letter in parse(run("list", "-o", form).output)}
    assert set(letters) == {"shop/web", "shop/api"}
    assert letters["shop/web"] | {"id": "", "at": ""} == {
        "id": "",
        "reason": "InvalidMessage",
        "message": "Invalid JSON:\nexpected value",
        "topic": COMMANDS,
        "partition": 3,
        "offset": 17,
        "key": "shop/web",
        "at": "",
        "service": "planner",
        "truncated": False,
    }


def test_show_gives_the_original_and_its_headers(kafka_settings: Settings, run: Run) -> None:
    put_aside(kafka_settings, *LETTERS)
    letter = listed(run, "shop/web")["id"]
    shown = json.loads(run("show", letter, "-o", "json").output)
    assert shown["value"] == "{not json"
    assert shown["headers"].items() >= {"ce_id": "42", "ce_source": "paas"}.items()
    assert not any(name.startswith("triton_") for name in shown["headers"])
    text = run("show", letter).output
    assert text.rstrip().endswith("{not json")
    assert "InvalidMessage" in text


def test_replay_publishes_the_original_where_it_was(kafka_settings: Settings, run: Run) -> None:
    put_aside(kafka_settings, *LETTERS)
    letter = listed(run, "shop/api")["id"]
    result = run("replay", letter)
    assert result.exit_code == 0
    assert result.output == f"{letter} replayed to triton.deploy-commands, key shop/api\n"
    (record,) = run_async(_records(kafka_settings, COMMANDS, 1))
    assert (record.key, record.value) == (b"shop/api", b'{"id": "7"}')
    headers = dict(record.headers)
    assert headers.items() >= {"ce_id": b"42", "ce_source": b"paas"}.items()
    assert not any(name.startswith("triton_") for name in headers)


def test_replay_sends_an_answer_to_its_own_topic_where_answers_are_allowed(
    kafka_settings: Settings, run: Run
) -> None:
    answers = [
        (command(b'{"id":"1"}', key, topic), REPLY_NOT_DELIVERED, "no topic")
        for key, topic in (("answer-1", "paas.replies"), ("answer-2", "_schemas"))
    ]
    put_aside(kafka_settings, *answers)
    letter = listed(run, "answer-1")["id"]
    assert run("replay", letter).output == f"{letter} replayed to paas.replies, key answer-1\n"
    result = run("replay", listed(run, "answer-2")["id"])
    assert isinstance(result.exception, Failure)
    assert "_schemas is an internal topic" in str(result.exception)


def test_replay_all_leaves_out_what_is_not_whole_and_fails_for_it(kafka_settings: Settings, run: Run) -> None:
    huge = (command(b"x" * 2_000_000, "shop/huge"), "InvalidMessage", "too large")
    stray = (command(topic="somewhere", key="shop/stray"), "InvalidMessage", "no topic of ours")
    put_aside(kafka_settings, *LETTERS, huge, stray)
    result = run("replay", "--all")
    assert result.output.count("replayed to triton.deploy-commands") == 2
    assert isinstance(result.exception, Failure)
    assert "of its 2000000 were kept" in str(result.exception)
    assert "'somewhere'" in str(result.exception)
    keys = {record.key for record in run_async(_records(kafka_settings, COMMANDS, 2))}
    assert keys == {b"shop/web", b"shop/api"}


def test_an_id_that_is_not_there_is_a_failure(run: Run) -> None:
    error = run("show", "3:999").exception
    assert isinstance(error, Failure)
    assert "3:999" in str(error)


@pytest.mark.parametrize(
    "arguments", [("show", "x"), ("replay", "x"), ("replay",), ("replay", "1:2", "--all")]
)
def test_bad_arguments_are_bad_input_with_or_without_a_kafka(arguments: tuple[str, ...]) -> None:
    assert isinstance(CliRunner().invoke(dead_letters, arguments).exception, BadInput)


def test_a_kafka_that_is_not_there_is_said_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    started = time.monotonic()
    result = CliRunner().invoke(dead_letters, ["list"])
    assert time.monotonic() - started < 8
    assert isinstance(result.exception, Failure)
    assert "127.0.0.1:9 does not answer" in str(result.exception)
    assert "TRITON_KAFKA_BOOTSTRAP" in str(result.exception)


def test_a_hostile_letter_neither_steers_the_terminal_nor_pads_the_others(
    kafka_settings: Settings, run: Run
) -> None:
    hostile = "\x1b[2J\x00\nforged\u202e"
    letter = command(f'{{"id": "{hostile}"}}'.encode(), f"{hostile}{'k' * 30_000}")
    put_aside(kafka_settings, (letter, f"Bad{hostile}", f"type: {hostile}"), *LETTERS)
    found = next(one for one in json.loads(run("list", "-o", "json").output) if len(one["key"]) > 30_000)
    assert found["key"] == letter.key
    header, *rows = run("list").output.splitlines()
    assert len(rows) == 3
    assert len(header) < 300
    for shown in (run("list").output, run("show", found["id"]).output, run("replay", found["id"]).output):
        assert r"\x1b[2J" in shown
        assert not {"\x1b", "\x00", "\u202e"} & set(shown)
        assert "\nforged" not in shown.replace(r'{"id": "\x1b[2J\x00' + "\nforged", "")
