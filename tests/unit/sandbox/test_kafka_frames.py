"""The sandbox's Kafka proxy reads the requests that aiokafka really makes."""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from aiokafka.protocol.group import SyncGroupRequest_v3
from aiokafka.protocol.produce import ProduceRequest_v7

from sandbox.kafka_frames import Fetch, Produce, Sync, is_empty, read


def _frame(api: int, version: int, body: bytes) -> bytes:
    client = b"client"
    header = api.to_bytes(2) + version.to_bytes(2) + (77).to_bytes(4)
    return header + len(client).to_bytes(2) + client + body


def _fetch(max_wait: int, topics: list[Any]) -> bytes:
    return _frame(1, 11, FetchRequest_v11(-1, max_wait, 1, 10**6, 0, 0, -1, topics, [], "").encode())


PARTITION = (3, -1, 42, -1, 10**6)


def test_a_fetch_is_forwarded_without_waiting_and_otherwise_as_it_was() -> None:
    topics = [("a", [PARTITION, PARTITION]), ("b", [PARTITION])]
    fetch = read(_fetch(500, topics))
    assert isinstance(fetch, Fetch)
    assert fetch.topics == frozenset({"a", "b"})
    assert fetch.max_wait_ms == 500
    assert fetch.frame == _fetch(0, topics)


def _answer(
    *, error: int = 0, records: bytes | None = None, aborted: list[tuple[int, int]] | None = None
) -> bytes:
    partition = (3, error, 42, 42, 0, aborted, -1, records)
    body: bytes = FetchResponse_v11(0, 0, 0, [("a", [partition]), ("b", [partition])]).encode()
    return (77).to_bytes(4) + body


def test_an_answer_without_records_is_empty() -> None:
    assert is_empty(_answer())
    assert is_empty(_answer(records=b""))
    assert is_empty(_answer(aborted=[(1, 2)]))


def test_an_answer_with_records_or_an_error_goes_to_the_client_at_once() -> None:
    assert not is_empty(_answer(records=b"record"))
    assert not is_empty(_answer(error=6))


def test_a_produce_names_all_its_topics() -> None:
    batches = [("a", [(0, b"x" * 500), (1, b"y")]), ("b", [(2, b"")])]
    request = ProduceRequest_v7(None, -1, 1000, batches)
    assert read(_frame(0, 7, request.encode())) == Produce(frozenset({"a", "b"}), -1)


def test_a_leaders_sync_is_distinguished_from_a_followers() -> None:
    def sync(assignments: list[tuple[str, bytes]]) -> object:
        return read(_frame(14, 3, SyncGroupRequest_v3("group", 4, "member", None, assignments).encode()))

    assert sync([("one", b"abc"), ("two", b"")]) == Sync("group", 4, 2)
    assert sync([]) == Sync("group", 4, 0)


def test_everything_else_is_passed_on_unread() -> None:
    assert read(_frame(3, 5, b"anything")) is None
    assert read(_frame(1, 16, b"a fetch of another client")) is None
