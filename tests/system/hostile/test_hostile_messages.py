"""Messages that a careless or hostile account writes to the topics, made from a seed; nobody else notices them."""

from __future__ import annotations

import asyncio
import json
import random
import string
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from sandbox.environment import Sandbox
from shared.domain import topics
from shared.domain.json_types import Json
from shared.messaging.asyncapi import CHANNELS, document
from shared.settings import Settings
from tests.system.hostile.innocent import innocent_releases, services

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

SEED: Final = 14
MESSAGES: Final = 300
"""For each topic."""
READ: Final = tuple(name for name in topics.ALL if CHANNELS[name].receivers)
NAMESPACE: Final = "hostile-messages"
AT_ONCE: Final = 50
_settings = Settings()


class Hostile(NamedTuple):
    kind: str
    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    codec: str | None = None


def hostile(topic: str, randomly: random.Random) -> Hostile:
    """Make one of the messages of a topic that nobody should send."""
    kind = randomly.choice(list(KINDS))
    key = randomly.choice(
        [
            None,
            b"",
            b"default/victim",
            b"default/victim",
            b"no-slash",
            b"\xff\xfe",
            b"a/b/c",
            b"k" * 5_000,
            b"\x00/\x1b[2J",
        ]
    )
    made = KINDS[kind](topic, randomly)
    headers = _headers(randomly) if randomly.random() < 0.2 else ()
    return Hostile(kind, made, b"default/victim" if made is None else key, headers)


def _headers(randomly: random.Random) -> tuple[tuple[str, bytes | None], ...]:
    return randomly.choice(
        [
            tuple((f"h{number}", b"") for number in range(2_000)),
            (("giant", b"x" * 300_000),),
            (("", b""), ("ce_id", None), ("ce_id", bytes(range(256)))),
            (
                ("ce_specversion", b"9.9"),
                ("ce_type", b"com.example.other"),
                ("ce_time", b"never"),
                ("ce_source", b"::"),
            ),
            (
                ("traceparent", b"00-" + b"f" * 32 + b"-zz"),
                ("correlation_id", b"\xff"),
                ("reply_to", b"_schemas"),
            ),
            (("triton_topic", b"_schemas"), ("triton_offset", b"-1"), ("triton_truncated", b"x")),
        ]
    )


# --- values -------------------------------------------------------------------------------------------------


def _garbage(_: str, randomly: random.Random) -> bytes:
    return randomly.randbytes(randomly.choice([1, 10, 1_000, 50_000]))


def _no_json(topic: str, randomly: random.Random) -> bytes:
    value = json.dumps(_valid(topic, randomly)).encode()
    return randomly.choice(
        [
            value[: randomly.randrange(len(value))],
            value + b"}",
            b"\xef\xbb\xbf" + value,
            value.replace(b'"', b"'"),
            b"NaN",
        ]
    )


def _deep(topic: str, randomly: random.Random) -> bytes:
    depth = randomly.choice([200, 300, 5_000, 100_000])
    nested = randomly.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth])
    return _with_raw(topic, randomly, nested)


def _number(topic: str, randomly: random.Random) -> bytes:
    numbers = [b"9" * 30, b"9" * 5_000, b"-1", b"1e999", b"-1e999", b"0.1", b"1E400", b"NaN", b"Infinity"]
    numbers += [str(2**power).encode() for power in (31, 32, 53, 63, 64)]
    return _with_raw(topic, randomly, randomly.choice(numbers))


def _text(topic: str, randomly: random.Random) -> bytes:
    texts = [
        r"\ud800",
        r"\udfff\ud800",
        r"\u0000",
        r"\u001b[2J\u001b]0;x\u0007",
        r"\u202e",
        "x" * 100_000,
        "",
    ]
    texts += [
        "../../pods/x?watch=1",
        "%2e%2e",
        "{}",
        "a/b",
        "${jndi:ldap://x}",
        "' OR 1=1",
        "\U0001f680" * 100,
    ]
    return _with_raw(topic, randomly, b'"' + randomly.choice(texts).encode() + b'"')


def _type(topic: str, randomly: random.Random) -> bytes:
    return _with_raw(topic, randomly, randomly.choice([b"null", b"true", b"[]", b"{}", b"[{}]", b'[[""]]']))


def _whole(_: str, randomly: random.Random) -> bytes:
    return randomly.choice([b"null", b"[]", b"{}", b"0", b'""', b"true", b"[" * 100_000, b"", b" " * 1_000])


def _version(topic: str, randomly: random.Random) -> bytes:
    value = _valid(topic, randomly)
    value["version"] = randomly.choice([0, 2, "1", -1, None, 1.5, 10**30])
    return json.dumps(value).encode()


def _absurd(topic: str, randomly: random.Random) -> bytes:
    """Return a message of the right form about an instance that nobody has, with values that make no sense."""
    value = _valid(topic, randomly)
    _replace_leaves(value, randomly)
    value |= {"namespace": randomly.choice(["default", "nobody", "kube-system"]), "instance": "victim"}
    return json.dumps(value).encode()


def _other(topic: str, randomly: random.Random) -> bytes:
    other = randomly.choice([name for name in READ if name != topic])
    return json.dumps(_valid(other, randomly)).encode()


def _large(topic: str, randomly: random.Random) -> bytes:
    return _with_raw(topic, randomly, b'"' + randomly.choice(string.ascii_letters).encode() * 400_000 + b'"')


def _none(_: str, __: random.Random) -> None:
    return None


KINDS: Final[dict[str, Callable[[str, random.Random], bytes | None]]] = {
    "garbage": _garbage,
    "no JSON": _no_json,
    "deep": _deep,
    "number": _number,
    "text": _text,
    "type": _type,
    "not an object": _whole,
    "version": _version,
    "absurd": _absurd,
    "of another topic": _other,
    "large": _large,
    "tombstone": _none,
}


def _examples() -> dict[str, list[Json]]:
    described = document()
    messages = described["components"]["messages"]
    return {
        topic: [
            example["payload"]
            for name in described["channels"][topic]["messages"]
            for example in messages[name]["examples"]
        ]
        for topic in READ
    }


EXAMPLES: Final = _examples()


def _valid(topic: str, randomly: random.Random) -> Json:
    """Return a message of the topic as a service would write it, about an instance that nobody has."""
    body: Json = json.loads(json.dumps(randomly.choice(EXAMPLES[topic]), default=str))
    return body | {"namespace": "default", "instance": "victim"} if topic != topics.DEPLOY_COMMANDS else body


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [each for name, child in children for each in [(*path, name), *_paths(child, (*path, name))]]


def _with_raw(topic: str, randomly: random.Random, raw: bytes) -> bytes:
    """Return a message in which the value of some field, or a further field, is this text."""
    value, mark = _valid(topic, randomly), "@@@"
    path = randomly.choice([*_paths(value), ("more",)])
    at: Any = value
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = mark
    return json.dumps(value).encode().replace(f'"{mark}"'.encode(), raw)


def _replace_leaves(value: Any, randomly: random.Random) -> None:
    for name, child in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(child, dict | list):
            _replace_leaves(child, randomly)
        elif isinstance(child, int) and not isinstance(child, bool) and name != "version":
            value[name] = randomly.choice([0, -1, 2**31, 2**63 - 1, -(2**63), 10**12])
        elif isinstance(child, str) and name != "type" and randomly.random() < 0.3:
            value[name] = randomly.choice(["", "x" * 300, "../x", "\x00", "Größe"])


# --- the tests ----------------------------------------------------------------------------------------------


async def test_the_messages_are_of_all_kinds_on_each_topic() -> None:
    for topic in READ:
        randomly = random.Random(SEED)
        assert {hostile(topic, randomly).kind for _ in range(MESSAGES)} == set(KINDS)


async def test_hostile_messages_stop_nobody(sandbox: Sandbox) -> None:
    sent: Counter[str] = Counter()
    async with innocent_releases(sandbox, NAMESPACE) as innocents:
        async with AIOKafkaProducer(
            bootstrap_servers=sandbox.kafka_bootstrap, acks="all", max_request_size=4 << 20
        ) as producer:
            for topic in READ:
                randomly = random.Random(f"{SEED} {topic}")
                messages = [hostile(topic, randomly) for _ in range(MESSAGES)]
                sent[topic] += await _send(producer, topic, messages)
        for topic in READ:
            for codec, size in BOMBS:
                await _send_bomb(sandbox, topic, codec, size)
                sent[topic] += 1
        await _send_bomb(sandbox, topics.DEPLOY_COMMANDS, "lz4", 300_000_000)
    peaks = {name: _peak(pid) for name, pid in services(sandbox).items()}
    assert max(peaks.values()) < MEMORY, peaks
    assert min(sent.values()) >= MESSAGES
    assert sent.keys() == set(READ)
    print(
        f"{sent.total()} hostile messages on {len(sent)} topics beside {innocents.finished} innocent releases"
    )


BOMBS: Final = [("zstd", 150_000_000)]
"""The compression, and the bytes of a record, unpacked."""
MEMORY: Final = 512 << 20
"""The limit of each service in deploy/manifests, in bytes."""


def _peak(pid: int | None) -> int:
    """Return the most memory that a process had, in bytes."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


async def _send(producer: AIOKafkaProducer, topic: str, messages: Sequence[Hostile]) -> int:
    name, sent = _settings.topic(topic), 0
    for begin in range(0, len(messages), AT_ONCE):
        answers = await asyncio.gather(
            *[
                await producer.send(name, message.value, key=message.key, headers=list(message.headers))
                for message in messages[begin : begin + AT_ONCE]
            ],
        )
        sent += len(answers)
    return sent


async def _send_bomb(sandbox: Sandbox, topic: str, codec: str, size: int) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=sandbox.kafka_bootstrap,
        compression_type=codec,
        max_request_size=1 << 30,
        max_batch_size=1 << 30,
    ) as producer:
        await producer.send_and_wait(_settings.topic(topic), bytes(size), key=b"default/victim")
