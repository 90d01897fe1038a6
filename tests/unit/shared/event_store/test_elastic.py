"""Our side of Elasticsearch, against a fake: what is sent, and what becomes of each kind of answer."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from shared.errors import Unavailable
from shared.event_store import (
    Document,
    EventStore,
    Interrupted,
    Query,
    Stream,
    from_ms,
    open_store,
    templates,
)
from shared.settings import Settings
from tests.certificates import Files
from tests.unit.events.samples import START
from tests.unit.shared.event_store.fake_elasticsearch import FakeElasticsearch

STRICT = {
    "type": "document_parsing_exception",
    "reason": "failed to parse",
    "caused_by": {"reason": "no IP: 'x'"},
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as fake:
        yield fake


@pytest.fixture
async def elastic(fake: FakeElasticsearch) -> AsyncIterator[EventStore]:
    store = open_store(Settings(event_store=fake.url, prefix="team-a"))
    yield store
    await store.close()


def document(number: int, stream: Stream = Stream.POD) -> Document:
    source = {
        "@timestamp": from_ms(START + number),
        "event": {"id": str(number)},
        "message": f"event {number}",
    }
    return Document(stream, str(number), source)


async def test_each_kind_of_document_goes_to_its_own_data_stream(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    assert await elastic.write([document(1, stream) for stream in Stream]) == []
    assert set(fake.documents) == {
        ("logs-triton.deployflow-team_a", "1"),
        ("logs-triton.pod-team_a", "1"),
        ("logs-triton.cloneset-team_a", "1"),
    }


async def test_a_document_that_is_there_already_counts_as_stored(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    await elastic.write([document(1)])
    assert await elastic.write([document(1), document(2)]) == []
    assert len(fake.documents) == 2


async def test_a_document_that_does_not_fit_is_refused_with_the_cause_and_the_others_are_kept(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    fake.refuse["2"] = (400, STRICT)
    refused = await elastic.write([document(1), document(2), document(3)])
    assert [(item.document.id, item.reason) for item in refused] == [
        ("2", "document_parsing_exception: failed to parse (no IP: 'x')")
    ]
    assert {name for _, name in fake.documents} == {"1", "3"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (403, "security_exception"),
        (400, "validation_exception"),
    ],
    ids=["too much at once", "no shard", "no right", "no room for another shard"],
)
async def test_only_the_documents_that_can_not_be_taken_now_are_left(
    elastic: EventStore, fake: FakeElasticsearch, status: int, kind: str
) -> None:
    fake.refuse["2"] = (status, {"type": kind, "reason": "queue full"})
    fake.refuse["3"] = (400, STRICT)
    with pytest.raises(Interrupted, match=f"{status}, {kind}: queue full") as caught:
        await elastic.write([document(n) for n in (1, 2, 3, 4)])
    assert [left.id for left in caught.value.left] == ["2"]
    assert [refused.document.id for refused in caught.value.refused] == ["3"]
    fake.refuse.clear()
    assert await elastic.write(caught.value.left) == []
    assert {name for _, name in fake.documents} == {"1", "2", "4"}


async def test_once_a_request_of_several_is_not_answered_the_rest_is_left_untried(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    large = [
        document(number)._replace(source=document(number).source | {"message": "x" * 600_000})
        for number in range(4)
    ]
    fake.answers.append((429, {"error": {"type": "x"}, "status": 429}))
    with pytest.raises(Interrupted) as caught:
        await elastic.write(large)
    assert caught.value.left == large
    assert fake.requests["PUT /_bulk"] == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [(429, "trying again"), (503, "trying again"), (401, "TRITON_ELASTICSEARCH_API_KEY"), (403, "rights")],
)
async def test_an_answer_that_blames_no_document_means_waiting(
    elastic: EventStore, fake: FakeElasticsearch, status: int, advice: str
) -> None:
    fake.answers.append((status, {"error": {"type": "x"}, "status": status}))
    with pytest.raises(Unavailable, match=f"{status}.*{advice}"):
        await elastic.write([document(1)])
    assert fake.requests["PUT /_bulk"] == 1, "retrying is Kafka's back-off, not the client's"


async def test_a_request_refused_as_a_whole_is_cut_until_the_document_at_fault_is_found(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    too_large = (413, {"error": {"type": "too_large"}, "status": 413})
    fake.answers += [too_large, too_large]
    refused = await elastic.write([document(1), document(2), document(3)])
    assert [item.document.id for item in refused] == ["1"]
    assert {name for _, name in fake.documents} == {"2", "3"}


async def test_a_large_batch_goes_in_several_requests(elastic: EventStore, fake: FakeElasticsearch) -> None:
    large = [
        document(number)._replace(source=document(number).source | {"message": "x" * 300_000})
        for number in range(12)
    ]
    assert await elastic.write(large) == []
    assert len(fake.documents) == 12
    assert fake.requests["PUT /_bulk"] == 4


async def test_the_loss_of_one_host_of_several_is_not_noticed(fake: FakeElasticsearch) -> None:
    store = open_store(Settings(event_store=f"http://127.0.0.1:9, {fake.url}"))
    for number in range(4):
        assert await store.write([document(number)]) == []
    assert len(fake.documents) == 4
    await store.close()


@pytest.mark.parametrize("where", ["http://a:9200, b:9200", "http://a:9200,", "ftp://a", "sqlite:///"])
def test_an_address_of_which_a_part_is_none_stops_the_start(where: str) -> None:
    with pytest.raises(ValidationError, match="event_store"):
        Settings(event_store=where)


async def test_all_hosts_away_are_named() -> None:
    store = open_store(Settings(event_store="http://u:secret@127.0.0.1:9,http://127.0.0.1:19"))
    with pytest.raises(
        Unavailable, match=r"at http://127\.0\.0\.1:9, http://127\.0\.0\.1:19 does not answer"
    ):
        await store.ping()
    await store.close()


async def test_bulk_requests_are_counted_by_how_they_went(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    outcomes = ("ok", "partly", "refused", "unavailable")
    before = [_requests(outcome) for outcome in outcomes]
    await elastic.write([document(1)])
    await elastic.write([document(1)])
    fake.refuse["2"] = (400, STRICT)
    await elastic.write([document(2)])
    fake.answers += [(413, {"error": {"type": "too_large"}, "status": 413})]
    await elastic.write([document(3)])
    fake.answers += [(429, {"error": {"type": "x"}, "status": 429})]
    with pytest.raises(Unavailable):
        await elastic.write([document(4)])
    after = [_requests(outcome) for outcome in outcomes]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 1, 1]


def _requests(outcome: str) -> float:
    return REGISTRY.get_sample_value("triton_events_bulk_seconds_count", {"outcome": outcome}) or 0


async def test_nobody_there_is_said_with_the_address_and_the_setting() -> None:
    store = open_store(Settings(event_store="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer.*TRITON_EVENT_STORE"):
        await store.ping()
    await store.close()


async def test_something_else_at_the_address_is_said(elastic: EventStore, fake: FakeElasticsearch) -> None:
    fake.product = "OpenSomething"
    with pytest.raises(Unavailable, match="is no Elasticsearch"):
        await elastic.ping()


async def test_a_password_in_the_address_is_never_shown() -> None:
    store = open_store(Settings(event_store="http://deployer:secret@127.0.0.1:9"))
    with pytest.raises(Unavailable) as caught:
        await store.ping()
    assert "secret" not in str(caught.value)
    await store.close()


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Files, Files]:
    """Of the server, and of somebody else."""
    folders = tmp_path / "ours", tmp_path / "theirs"
    for folder in folders:
        folder.mkdir()
    return Files.made(folders[0]), Files.made(folders[1])


async def test_a_server_is_trusted_by_the_authority_of_the_settings_alone(
    certificates: tuple[Files, Files],
) -> None:
    ours, theirs = certificates
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*ours)
    async with FakeElasticsearch(context) as fake:
        trusting = open_store(Settings(event_store=fake.url, elasticsearch_ca_file=ours.chain))
        assert await trusting.write([document(1)]) == []
        await trusting.close()
        for ca in (theirs.chain, None):
            other = open_store(Settings(event_store=fake.url, elasticsearch_ca_file=ca))
            with pytest.raises(Unavailable, match=r"does not answer.*certificate verify failed"):
                await other.ping()
            await other.close()


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"elasticsearch_api_key": "a2V5"}, "ApiKey a2V5"),
        ({"elasticsearch_username": "deployer", "elasticsearch_password": "pw"}, "Basic ZGVwbG95ZXI6cHc="),
    ],
    ids=["API key", "basic"],
)
async def test_credentials_of_the_settings_are_sent(
    fake: FakeElasticsearch, settings: Any, header: str
) -> None:
    store = open_store(Settings(event_store=fake.url, **settings))
    await store.ping()
    assert fake.headers["Authorization"] == header
    await store.close()


async def test_a_red_cluster_can_not_work(elastic: EventStore, fake: FakeElasticsearch) -> None:
    await elastic.ping()
    fake.health = "red"
    with pytest.raises(Unavailable, match="red"):
        await elastic.ping()


async def test_prepare_makes_the_templates_once(elastic: EventStore, fake: FakeElasticsearch) -> None:
    await elastic.prepare()
    assert set(fake.templates) == {
        "triton-events",
        "triton-events-lifecycle",
        "logs-triton.deployflow",
        "logs-triton.pod",
        "logs-triton.cloneset",
    }
    assert fake.templates["logs-triton.pod"]["index_patterns"] == ["logs-triton.pod-*"]
    assert fake.templates["logs-triton.pod"]["data_stream"] == {}
    made = dict(fake.templates)
    fake.requests.clear()
    await elastic.prepare()
    assert not [name for name in fake.requests if name.startswith("PUT") and "_template/" in name]
    assert fake.templates == made


async def test_a_field_of_another_type_begins_a_new_index_and_destroys_nothing(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    await elastic.write([document(1)])
    fake.conflicts = {"logs-triton.pod-team_a"}
    await elastic.prepare()
    assert fake.rollovers == ["logs-triton.pod-team_a"]
    await elastic.prepare()
    assert len(fake.rollovers) == 1
    assert len(fake.documents) == 1


async def test_a_newer_version_raises_templates_and_mappings_and_an_older_one_leaves_them(
    elastic: EventStore, fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await elastic.prepare()
    await elastic.write([document(1)])
    monkeypatch.setattr(templates, "VERSION", templates.VERSION + 1)
    await elastic.prepare()
    newer = templates.VERSION
    assert {template["version"] for template in fake.templates.values()} == {newer}
    assert set(fake.mappings) == {"logs-triton.pod-team_a"}
    monkeypatch.setattr(templates, "VERSION", newer - 1)
    await elastic.prepare()
    assert {template["version"] for template in fake.templates.values()} == {newer}
    assert len(fake.documents) == 1


async def test_search_asks_for_exactly_what_was_wanted_and_gives_the_order_of_time(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    await elastic.write([document(2), document(1), document(3)])
    since = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    query = Query(
        [Stream.POD], namespace="shop", instance="web", deployflow="web-1", uid="u", since=since, until=since
    )
    assert [item["message"] for item in await elastic.search(query)] == ["event 1", "event 2", "event 3"]
    (search,) = fake.searches
    assert search["indices"] == ["logs-triton.pod-team_a"]
    assert search["query"]["bool"]["filter"] == [
        {"term": {"kubernetes.namespace": "shop"}},
        {"term": {"triton.instance": "web"}},
        {"term": {"triton.deployflow": "web-1"}},
        {"term": {"triton.uid": "u"}},
        {"range": {"@timestamp": {"gte": "2026-01-02T03:04:05.678Z", "lte": "2026-01-02T03:04:05.678Z"}}},
    ]


async def test_search_goes_through_all_pages_and_keeps_the_newest(
    elastic: EventStore, fake: FakeElasticsearch
) -> None:
    await elastic.write([document(number) for number in range(4_500)])
    found = [item["event"]["id"] for item in await elastic.search(Query(limit=4_100))]
    assert found == [str(number) for number in range(400, 4_500)]
    assert len(fake.searches) == 3


def test_the_mapping_is_nested_by_the_dots_of_the_names() -> None:
    mapping = templates.mapping({"event.id": templates.KEYWORD, "event.created": templates.DATE})
    assert mapping["properties"] == {
        "event": {"properties": {"id": templates.KEYWORD, "created": templates.DATE}}
    }
