"""Topics that are made while the broker runs, as Kafka makes them on request: the mock broker cannot.

Only the versions that aiokafka speaks are read and written; other clients ask the broker for its versions first,
and see those.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from sandbox.kafka_frames import NEWEST, number, text

_BROKER: Final = 1
"""The mock's only broker; as the controller it names 0, which is none."""
_METADATA: Final = 3, 5
_API_VERSIONS: Final = 18
_NEWEST_API_VERSIONS: Final = 2
_UNSUPPORTED_VERSION: Final = 35
_VERSIONS: Final = struct.Struct(">hhh")
_CREATE_TOPICS: Final = 19, 3
_LEGAL: Final = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_INVALID_TOPIC, _INVALID_PARTITIONS, _INVALID_REPLICATION = 17, 37, 38
_AS_THE_BROKER_LIKES: Final = -1


class NewTopic(NamedTuple):
    name: str
    partitions: int
    replication: int

    @property
    def fault(self) -> int:
        """Kafka's error code for a topic that a single broker refuses; 0 for one that it makes."""
        if not _LEGAL.fullmatch(self.name):
            return _INVALID_TOPIC
        if self.partitions < 1:
            return _INVALID_PARTITIONS
        return 0 if self.replication in {_AS_THE_BROKER_LIKES, 1} else _INVALID_REPLICATION


def wanted(frame: bytes) -> list[NewTopic]:
    """Return the topics that a CreateTopics request names; empty for any other request."""
    if struct.unpack_from(">hh", frame) != _CREATE_TOPICS:
        return []
    _, at = text(frame, 8)
    topics = []
    count, at = number(frame, at), at + 4
    for _ in range(count):
        name, at = text(frame, at)
        partitions, replication, assigned = struct.unpack_from(">ihi", frame, at)
        at += 10
        for _ in range(assigned):
            at += 8 + 4 * number(frame, at + 4)
        options, at = number(frame, at), at + 4
        for _ in range(2 * options):
            _, at = text(frame, at)
        topics.append(NewTopic(name, partitions, replication))
    return topics


def answer(frame: bytes, topics: Sequence[NewTopic], codes: Sequence[int]) -> bytes:
    """Return the response to a request for these topics, with an error code for each."""
    parts = [frame[4:8], struct.pack(">ii", 0, len(topics))]
    for topic, code in zip(topics, codes, strict=True):
        name = topic.name.encode()
        parts.append(struct.pack(f">h{len(name)}shh", len(name), name, code, -1))
    return b"".join(parts)


def mended(frame: bytes, answered: bytes) -> bytes:
    """Return the mock's response changed so that a client creates topics: it lists the request and names a controller.

    Clients see no version that the proxy does not read.
    """
    kind = struct.unpack_from(">hh", frame)
    if kind[0] == _API_VERSIONS:
        if kind[1] > _NEWEST_API_VERSIONS:
            # the mock says so in a form that only librdkafka reads
            refusal = struct.pack(">hihhh", _UNSUPPORTED_VERSION, 1, _API_VERSIONS, 0, _NEWEST_API_VERSIONS)
            return answered[:4] + refusal
        return _versions(answered)
    if kind == _METADATA:
        at = 12
        for _ in range(number(answered, 8)):
            _, at = text(answered, at + 4)
            _, at = text(answered, at + 4)
        _, at = text(answered, at)
        return answered[:at] + struct.pack(">i", _BROKER) + answered[at + 4 :]
    return answered


def _versions(answered: bytes) -> bytes:
    """Return the mock's ApiVersions response (error; api, first, last of each; perhaps more) with our versions."""
    count = number(answered, 6)
    end = 10 + _VERSIONS.size * count
    versions = [
        (api, first, min(last, NEWEST.get(api, last)))
        for api, first, last in _VERSIONS.iter_unpack(answered[10:end])
    ]
    api, version = _CREATE_TOPICS
    versions.append((api, version, version))
    parts = [_VERSIONS.pack(*each) for each in versions]
    return answered[:6] + struct.pack(">i", len(versions)) + b"".join(parts) + answered[end:]
