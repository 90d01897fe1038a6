"""The queries of the dashboards, sent to a real Elasticsearch that holds a recorded night of releases.

Kibana itself is not there: the requests are those that the saved objects come to, read from the file.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from elasticsearch import AsyncElasticsearch

from sandbox.environment import Sandbox
from services.events.documents import documents
from shared.domain.json_types import Json
from shared.event_store import open_store
from shared.settings import Settings
from tests.kibana import kql
from tests.kibana.document import QUESTIONS, Question
from tests.kibana.objects import FILE, Request, fields, read, requests
from tests.kibana.release import NAMESPACE, messages

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

OBJECTS = read(FILE.read_text())
REQUESTS = list(requests(OBJECTS))
VIEWS = {made["id"]: made["attributes"] for made in OBJECTS if made["type"] == "index-pattern"}
OURS = {"term": {"kubernetes.namespace": NAMESPACE}}
"""The other cases' releases are in other namespaces."""
AN_HOUR = 3_600_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elasticsearch(sandbox: Sandbox) -> AsyncIterator[AsyncElasticsearch]:
    """Holds what the events service makes of the recorded messages."""
    settings = Settings(event_store=sandbox.event_store, prefix="recorded-night")
    store = open_store(settings)
    try:
        await store.prepare()
        published = messages(int(time.time() * 1000) - AN_HOUR)
        for offset, message in enumerate(published):
            assert await store.write(documents(message, offset)) == []
    finally:
        await store.close()
    async with AsyncElasticsearch(sandbox.event_store) as client:
        await client.indices.refresh(index="logs-triton.*")
        yield client


async def answer(client: AsyncElasticsearch, index: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    narrowed = {**body, "query": {"bool": {"filter": [OURS, body["query"]]}}}
    found: Mapping[str, Any] = (await client.search(index=index, body=narrowed)).body
    return found


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
async def test_everything_that_a_dashboard_shows_has_something_to_show(
    elasticsearch: AsyncElasticsearch, request_: Request
) -> None:
    found = await answer(elasticsearch, request_.streams, request_.body)
    assert found["_shards"]["failed"] == 0
    assert not request_.unanswered(found), found


async def test_a_field_that_is_not_mapped_would_be_noticed(elasticsearch: AsyncElasticsearch) -> None:
    text = FILE.read_text()
    assert text.count("triton.age_ms") > 10
    broken = [
        request
        for request in requests(read(text.replace("triton.age_ms", "triton.age")))
        if request.unanswered(await answer(elasticsearch, request.streams, request.body))
    ]
    assert "[Triton] Slowest pods: Slowest pods" in {request.name for request in broken}


@pytest.mark.parametrize("view", VIEWS)
async def test_elasticsearch_knows_the_fields_of_a_data_view(
    elasticsearch: AsyncElasticsearch, view: str
) -> None:
    attributes: Json = VIEWS[view]
    known = (await elasticsearch.field_caps(index=attributes["title"], fields="*"))["fields"]
    assert set(fields(attributes)) <= set(known)
    assert set(known[attributes["timeFieldName"]]) == {"date"}
    assert {name for name in fields(attributes) if len(known[name]) > 1} == set()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
async def test_the_searches_of_the_documentation_find_what_they_say(
    elasticsearch: AsyncElasticsearch, question: Question
) -> None:
    view = next(made for made in VIEWS.values() if made["name"] == question.view)
    found = await answer(elasticsearch, view["title"], {"query": kql.query(question.kql)})
    assert found["hits"]["total"]["value"]
