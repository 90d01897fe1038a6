"""A Kafka broker without installing one: librdkafka's mock cluster, which comes inside the confluent-kafka wheel.

It speaks real Kafka over TCP, with partitions, groups and commits, in memory. It is reached through
librdkafka's C interface, because the Python one leaves two things at values that do not suit: four partitions
a topic, and three seconds of waiting before the first member of a group gets anything. Clients reach it
through `sandbox.kafka_proxy`, which mends three more.

What it can't do: a partition keeps its last 5 MiB only; a group that changes takes the members' session
timeout, less a second, to settle, and no commit meanwhile, so that more is delivered again than by a real one;
it refuses no message for its size, and makes a topic as soon as somebody names it.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Final

from confluent_kafka import cimpl

PARTITIONS: Final = 12
"""The number that Triton makes by default on a real broker (`Settings.kafka_partitions`)."""

_PRODUCER: Final = 0
_BROKER: Final = 1
_KNOCK_SECONDS: Final = 0.01
_CONFIGURATION: Final = {
    # only what is critical is of interest in the sandbox's log
    b"log_level": b"2",
    # the handle itself talks to nobody; without an address it warns
    b"bootstrap.servers": b"127.0.0.1:1",
}
_REBALANCE_DELAY_MS: Final = 50
"""Long enough for replicas that start together to be dealt partitions together, once."""


class BrokerError(Exception):
    """The mock cluster could not be made."""


def _librdkafka() -> ctypes.CDLL:
    # the extension module is linked with the wheel's own librdkafka: its symbols are found through it
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_broker_set_host_port": (number, [pointer, ctypes.c_int32, text, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockBroker:
    """One broker on a free port of 127.0.0.1, with these topics; lives until `close`."""

    def __init__(self, topics: Iterable[str], partitions: int = PARTITIONS) -> None:
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        for name, value in _CONFIGURATION.items():
            self._library.rd_kafka_conf_set(configuration, name, value, error, len(error))
        self._handle = self._library.rd_kafka_new(_PRODUCER, configuration, error, len(error))
        if not self._handle:
            msg = f"librdkafka did not start: {error.value.decode()}"
            raise BrokerError(msg)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            msg = "librdkafka's mock cluster did not start: is there a free port on 127.0.0.1?"
            raise BrokerError(msg)
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.port = int(address.decode().rpartition(":")[2])
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _REBALANCE_DELAY_MS)
        with _knocking(self.port):
            for topic in topics:
                _check(
                    self._make(topic, partitions), f"topic {topic} with {partitions} partitions can't be made"
                )

    def make_topic(self, name: str, partitions: int) -> int:
        """Make a topic and return Kafka's error code: 0, or 36 for a topic that exists."""
        with _knocking(self.port):
            return self._make(name, partitions)

    def _make(self, name: str, partitions: int) -> int:
        return int(self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1))

    def advertise(self, port: int) -> None:
        """Let the broker send its clients to `port` of 127.0.0.1."""
        with _knocking(self.port):
            code = self._library.rd_kafka_mock_broker_set_host_port(
                self._cluster, _BROKER, b"127.0.0.1", port
            )
        _check(code, "the broker's port can't be set")

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


@contextlib.contextmanager
def _knocking(port: int) -> Iterator[None]:
    """Connect again and again meanwhile.

    The mock's thread loses some of the signals that a call is waiting for it, and then sleeps for up to a
    second; a new connection always wakes it.
    """
    done = threading.Event()

    def knock() -> None:
        while not done.wait(_KNOCK_SECONDS):
            socket.create_connection(("127.0.0.1", port)).close()

    thread = threading.Thread(target=knock, name="knock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _check(code: int, what: str) -> None:
    if code:
        msg = f"{what}: librdkafka's error {code}"
        raise BrokerError(msg)
