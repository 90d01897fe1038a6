"""The sandbox's Kafka proxy reads and answers the requests for topics that aiokafka really makes."""

from __future__ import annotations

from io import BytesIO

from aiokafka.protocol.admin import CreateTopicsRequest_v3, CreateTopicsResponse_v3
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5

from sandbox.kafka_topics import NewTopic, answer, mended, wanted
from tests.unit.sandbox.test_kafka_frames import _frame

TOPICS = [
    ("a", 3, 1, [(0, [1, 2]), (1, [2])], [("retention.ms", "7"), ("cleanup.policy", None)]),
    ("b", 12, -1, [], []),
]
REQUEST = _frame(19, 3, CreateTopicsRequest_v3(TOPICS, 5_000, False).encode())


def test_the_topics_of_a_request_are_read_and_answered() -> None:
    topics = wanted(REQUEST)
    assert topics == [NewTopic("a", 3, 1), NewTopic("b", 12, -1)]
    response = answer(REQUEST, topics, [0, 36])
    assert response[:4] == (77).to_bytes(4)
    assert CreateTopicsResponse_v3.decode(BytesIO(response[4:])).topic_errors == [
        ("a", 0, None),
        ("b", 36, None),
    ]


def test_other_requests_want_no_topics() -> None:
    assert wanted(_frame(3, 5, MetadataRequest_v5(["a"], True).encode())) == []


def test_the_broker_names_itself_as_the_controller_and_says_all_else() -> None:
    nobody: list[int] = []
    topics = [(0, "a", False, [(0, 0, 1, [1], [1], nobody)])]
    brokers = [(1, "127.0.0.1", 9092, None), (2, "localhost", 9093, "r2")]
    request = _frame(3, 5, MetadataRequest_v5(["a"], True).encode())
    response, expected = (
        (77).to_bytes(4) + MetadataResponse_v5(0, brokers, "mock", controller, topics).encode()
        for controller in (0, 1)
    )
    assert mended(request, response) == expected
