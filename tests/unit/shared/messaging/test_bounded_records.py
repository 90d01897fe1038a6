"""What a consumer takes of a batch of records: bounded before it is unpacked, and never an end of its partition."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from shared.messaging.bounded_records import (
    FEW_BYTES,
    MOST_AT_ONCE,
    MOST_HEADERS,
    MOST_UNPACKED,
    BoundedRecords,
    Unread,
)

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
TO_DEATH = 100_000_000
"""Bytes, unpacked."""
Header = tuple[str, bytes]


def batch(codec: int, *values: bytes, first: int = 0, headers: tuple[Header, ...] = ()) -> bytes:
    """A batch as a broker returns it, of which the first record has that offset."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"shop/web", value, list(headers))
    built = builder.build()
    struct.pack_into(">q", built, 0, first)
    return bytes(built)


def read(data: bytes, position: int = 0) -> tuple[list[Any], int]:
    """What aiokafka makes of fetched bytes, and the position that it goes on from."""
    assert fetcher.MemoryRecords is BoundedRecords, "aiokafka is not bounded"
    place = TopicPartition("triton.deploy-commands", 0)
    records = fetcher.MemoryRecords(data)
    assert records.has_next()
    found = PartitionRecords(place, records, [], position, None, None, True, READ_UNCOMMITTED)
    return list(found), found.next_fetch_offset


@pytest.mark.parametrize("codec", list(CODECS))
async def test_records_are_read_as_they_were_sent(codec: str) -> None:
    headers = (("ce_id", b"7"), ("größe", b""))
    data = batch(CODECS[codec], b"a", b"", b"x" * 100_000, headers=headers) + batch(NONE, b"last", first=3)
    records, position = read(data)
    assert [(one.offset, one.value) for one in records] == [
        (0, b"a"),
        (1, b""),
        (2, b"x" * 100_000),
        (3, b"last"),
    ]
    assert records[0].headers == headers
    assert records[1].timestamp == 1_001
    assert position == 4
    assert [one.offset for one in read(data, 2)[0]] == [2, 3]


@pytest.mark.parametrize("codec", list(CODECS))
async def test_a_bomb_is_not_unpacked_and_what_is_behind_it_is_read(codec: str) -> None:
    bomb = batch(CODECS[codec], b"before", bytes(TO_DEATH), b"after", first=5)
    data = batch(NONE, b"good", first=4) + bomb + batch(GZIP, b"good too", first=8)
    tracemalloc.start()
    try:
        records, position = read(data, 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MOST_UNPACKED
    good, unread, too = records
    assert (good.value, too.value) == (b"good", b"good too")
    assert isinstance(unread.value, Unread)
    assert unread.offset == 7, "the commit passes over all of it"
    assert "offsets 5 to 7" in unread.value.why
    assert str(MOST_UNPACKED) in unread.value.why
    assert unread.value.size == len(bomb)
    assert position == 9


async def test_a_batch_of_which_a_part_was_read_already_is_passed_over_too() -> None:
    data = batch(ZSTD, b"", bytes(TO_DEATH), b"", first=5) + batch(NONE, b"next", first=8)
    records, position = read(data, 7)
    assert [(one.offset, isinstance(one.value, Unread)) for one in records] == [(7, True), (8, False)]
    assert position == 9


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
async def test_damaged_data_are_passed_over(codec: int) -> None:
    data = bytearray(batch(codec, b"x" * 1000))
    data[61 + 20 :] = b"\xff" * (len(data) - 81)
    _sign(data)
    records, _ = read(bytes(data) + batch(NONE, b"next", first=1))
    assert [isinstance(one.value, Unread) for one in records] == [True, False]


async def test_a_header_whose_name_is_no_text_is_passed_over() -> None:
    data = bytearray(batch(NONE, b"good", b"v", headers=(("name", b"1"),)))
    at = data.rindex(b"name")
    data[at : at + 4] = b"\xff\xfe\xff\xfe"
    _sign(data)
    records, position = read(bytes(data))
    assert records[0].value == b"good"
    assert records[1].value.why.startswith("the batch (offset 1;")
    assert position == 2


@pytest.mark.parametrize("codec", [NONE, GZIP])
async def test_headers_without_end_are_not_read(codec: int) -> None:
    many = tuple((f"h{number}", b"") for number in range(3 * MOST_HEADERS))
    large = b"x" * FEW_BYTES
    (record,), _ = read(batch(codec, large, headers=many))
    assert f"more than {MOST_HEADERS} headers" in record.value.why
    (record,), _ = read(batch(codec, large, headers=many[:10]))
    assert record.value == large


async def test_of_many_packed_batches_some_are_unpacked_at_a_time() -> None:
    megabyte = bytes(FEW_BYTES)
    data = b"".join(batch(LZ4, megabyte, first=number) for number in range(10))
    values, position = [], 0
    while position < 10:
        records, position = read(data[position * len(data) // 10 :], position)
        values += [one.value for one in records]
        assert len(records) == 1
    assert values == 10 * [megabyte]


async def test_all_partitions_together_are_bounded_too() -> None:
    data = batch(LZ4, bytes(MOST_UNPACKED // 2))
    place = TopicPartition("triton.phase-events", 0)
    fetched = []
    for _ in range(8):
        records = BoundedRecords(data)
        assert records.has_next()
        fetched.append(PartitionRecords(place, records, [], 0, None, None, True, READ_UNCOMMITTED))
    # as a poll drains them, one behind the other
    drained = [list(partition) for partition in fetched]
    assert sum(len(one.value) for records in drained for one in records) <= MOST_AT_ONCE + MOST_UNPACKED
    left = [partition.next_fetch_offset for partition in fetched]
    assert 0 in left, "the others are fetched again"
    assert 1 in left


def _sign(data: bytearray) -> None:
    struct.pack_into(">I", data, 17, calc_crc32c(data[21:]))
