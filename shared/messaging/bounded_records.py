"""Bounds what one batch of records may take of a consumer's memory, before anything of it is unpacked.

aiokafka unpacks a fetched batch whole: 300 kB of gzip are 300 MB then, and a process that ends there reads the same batch
again after its restart. A batch that is beyond the bounds, or that can't be decoded, becomes one record that holds its
place: `Unread` is its value, and its offset is the last of the batch, so that a commit passes over all of it. Records
that nobody can read stop no partition then.

Importing this module replaces the reader of fetched bytes in aiokafka, for every consumer of the process: aiokafka has no
setting for it (`tests/unit/shared/messaging/test_bounded_records.py` notices when its inside changes).
Why here, and not by a topic with `compression.type=uncompressed`: docs/decisions/0027-bounds-for-records.md.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import aiokafka.consumer.fetcher
import cramjam
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

MOST_UNPACKED: Final = 16 << 20
"""Bytes of a batch, unpacked. Our largest message has 8 MiB; others' producers may put several into one batch."""
FEW_BYTES: Final = 1 << 20
"""Batches below it can't do much harm. Of one fetch of a partition not many more bytes are unpacked: the rest is fetched
again."""
MOST_AT_ONCE: Final = 16 << 20
"""Bytes unpacked without a pause, of all partitions together, before the rest is left to be fetched again. A consumer
takes the records of all partitions at once, and passes them on then."""
MOST_HEADERS: Final = 20_000
"""Of all records of a batch that is larger than that. One of 3 bytes takes some hundred in memory."""

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH_AT, _CRC_AT, _ATTRIBUTES_AT = 8, 17, 21
_PACKED: Final = 0x07
_CODECS: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEAD: Final = 16


class Unread(bytes):
    """The value of a record that holds the place of a batch that was not read: empty. `why`: for people."""

    why: str = ""
    size: int = 0
    """The bytes of the batch as it was fetched."""


class _TooMuch(Exception):
    """The batch is beyond the bounds."""


class _Placeholder(NamedTuple):
    """A record as aiokafka's `PartitionRecords` reads it."""

    offset: int
    timestamp: int
    value: Unread
    timestamp_type: int = 0
    key: None = None
    checksum: None = None
    headers: tuple[()] = ()


class _Batch:
    """A batch of which the records are read within bounds; all else is as aiokafka has it."""

    def __init__(self, raw: memoryview, batch: Any, unpacked: Callable[[int], None]) -> None:
        self._raw = raw
        self._batch = batch
        self._unpacked = unpacked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """Return the first record, of a control batch: the broker makes those, unpacked and small."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        offset = self._batch.base_offset - 1
        try:
            for record in self._bounded():
                yield record
                offset = record.offset
        except (
            _TooMuch,
            KafkaError,
            ValueError,
            ArithmeticError,
            LookupError,
            struct.error,
            zlib.error,
        ) as error:
            yield self._placeholder(offset + 1, error)
        except cramjam.DecompressionError as error:
            yield self._placeholder(offset + 1, error)

    def _bounded(self) -> Any:
        packed = self._batch.compression_type
        if packed:
            data = unpack(packed, self._raw[_HEADER.size :], MOST_UNPACKED)
            self._unpacked(len(data))
            _check_headers(data)
            return DefaultRecordBatch(_without_compression(self._raw, data))
        size = len(self._raw) - _HEADER.size
        if size > MOST_UNPACKED:
            raise _TooMuch(f"more than {MOST_UNPACKED} bytes")
        _check_headers(self._raw[_HEADER.size :])
        return self._batch

    def _placeholder(self, first: int, error: Exception) -> _Placeholder:
        last = self._batch.next_offset - 1
        what = f"offset {last}" if first >= last else f"offsets {first} to {last}"
        packed = _CODECS.get(self._batch.compression_type)
        how = f"{len(self._raw)} bytes" + (f", compressed with {packed}" if packed else "")
        value = Unread()
        value.why = f"the batch ({what}; {how}) was not read: {error or type(error).__name__}"
        value.size = len(self._raw)
        return _Placeholder(last, self._batch.max_timestamp, value)


class BoundedRecords:
    """What a fetch returned of one partition, batch by batch: aiokafka's `MemoryRecords`, within bounds."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._records = MemoryRecords(data)
        self._at = 0
        self._unpacked = 0
        self._is_new = True

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        if self._is_new:
            # the fetcher asks whether it got anything whole, and passes over it if not
            self._is_new = False
            return bool(self._records.has_next())
        may_unpack = self._unpacked < FEW_BYTES and _at_once.size < MOST_AT_ONCE
        return may_unpack and bool(self._records.has_next())

    def next_batch(self) -> Any:
        begin = self._at
        self._at += _LENGTH_AT + 4 + int(struct.unpack_from(">i", self._data, begin + _LENGTH_AT)[0])
        batch = self._records.next_batch()
        if getattr(batch, "magic", 0) < 2:
            return batch
        return _Batch(self._data[begin : self._at], batch, self._count)

    def _count(self, size: int) -> None:
        self._unpacked += size
        _at_once.add(size)


class _AtOnce:
    """Bytes unpacked since other tasks of the event loop had their turn."""

    size = 0

    def add(self, size: int) -> None:
        if not self.size:
            asyncio.get_running_loop().call_soon(self._reset)
        self.size += size

    def _reset(self) -> None:
        self.size = 0


_at_once: Final = _AtOnce()


def unpack(codec: int, data: memoryview, most: int) -> bytes:
    """Return the unpacked bytes of a batch; raise `_TooMuch` before more than `most` are made."""
    match _CODECS.get(codec):
        case "gzip":
            return _unpack_gzip(data, most)
        case "snappy":
            return _unpack_snappy(data, most)
        case "lz4":
            return _unpack_into(cramjam.lz4.decompress_into, data, most)
        case "zstd":
            return _unpack_into(cramjam.zstd.decompress_into, data, most)
    raise ValueError(f"compression {codec} is not known")


def _unpack_gzip(data: memoryview, most: int) -> bytes:
    parts, left = [], most
    while data:
        decoder = zlib.decompressobj(wbits=31)
        parts.append(decoder.decompress(data, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise _TooMuch(f"it has more than {most} bytes unpacked")
        if not decoder.eof:
            raise ValueError("the compressed data are cut off")
        data = memoryview(decoder.unused_data)
    return b"".join(parts)


def _unpack_into(decompress: Callable[[Any, Any], int], data: memoryview, most: int) -> bytes:
    # the system gives memory to the pages that are written only
    room = bytearray(most)
    try:
        size = decompress(data, room)
    except cramjam.DecompressionError as error:
        # it does not say which of both it was
        raise _TooMuch(f"it has more than {most} bytes unpacked, or is damaged ({error})") from error
    return bytes(memoryview(room)[:size])


def _unpack_snappy(data: memoryview, most: int) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _unpack_block(data, most)
    blocks, at, size = [], _XERIAL_HEAD, 0
    while at < len(data):
        length = int(struct.unpack_from(">i", data, at)[0])
        if length < 0:
            raise ValueError("a block of a negative length")
        blocks.append(_unpack_block(data[at + 4 : at + 4 + length], most - size))
        size += len(blocks[-1])
        at += 4 + length
    return b"".join(blocks)


def _unpack_block(data: memoryview, most: int) -> bytes:
    """Unpack a block of snappy: it begins with its size."""
    if cramjam.snappy.decompress_raw_len(data) > most:
        raise _TooMuch(f"it has more than {MOST_UNPACKED} bytes unpacked")
    return bytes(cramjam.snappy.decompress_raw(data))


def _check_headers(data: bytes | memoryview) -> None:
    """Raise `_TooMuch` where the records of a large batch have more headers than anybody needs."""
    if len(data) <= FEW_BYTES:
        return
    at, headers = 0, 0
    buffer: Any = data
    while at < len(data):
        length, at = decode_varint(buffer, at)
        end = at + length
        at += 1  # attributes
        _, at = decode_varint(buffer, at)  # time
        _, at = decode_varint(buffer, at)  # offset
        for _ in ("key", "value"):
            size, at = decode_varint(buffer, at)
            at += max(size, 0)
        count, at = decode_varint(buffer, at)
        headers += count
        if headers > MOST_HEADERS:
            raise _TooMuch(f"its records have more than {MOST_HEADERS} headers")
        if length < 0 or at > end:
            raise ValueError("a record of an invalid length")
        at = end


def _without_compression(raw: memoryview, data: bytes) -> bytes:
    """Return the batch with its records unpacked. Its checksum is that of before: it was checked already."""
    head = bytearray(raw[: _HEADER.size])
    attributes = struct.unpack_from(">h", head, _ATTRIBUTES_AT)[0]
    struct.pack_into(">i", head, _LENGTH_AT, len(head) + len(data) - _LENGTH_AT - 4)
    struct.pack_into(">h", head, _ATTRIBUTES_AT, attributes & ~_PACKED)
    return bytes(head) + data


aiokafka.consumer.fetcher.MemoryRecords = BoundedRecords
