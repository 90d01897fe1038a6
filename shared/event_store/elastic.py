"""The release log in Elasticsearch: one data stream a kind of document, written in bulk.

A bulk answers item by item, and only some refusals are the document's own fault. A document's own
fault is reported to the caller. Everything else is the server's state, and the documents that it did not accept are
to be written again later: one whose answer was lost is answered by 409 then, which counts as stored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from elastic_transport import TransportError
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    BadRequestError,
    NotFoundError,
    UnsupportedProductError,
)

from shared.domain.json_types import Json
from shared.domain.safe_text import without_login
from shared.errors import ConfigError, Unavailable
from shared.event_store import templates
from shared.event_store.interface import (
    SORT,
    Document,
    Interrupted,
    Query,
    Refused,
    Stream,
    index_name,
    timestamp,
)
from shared.event_store.lifecycle import prepare_lifecycle
from shared.event_store.meters import BULK, Outcome, count
from shared.settings import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)

BULK_BYTES: Final = 1_000_000
"""The size of a request, some thousand documents: aiohttp sends what is below 1 MiB without holding up the loop."""
TIMEOUT_SECONDS: Final = 30
PAGE: Final = 2_000
"""Documents of one search answer; Elasticsearch's own limit is 10,000."""
THERE_ALREADY: Final = 409
NOT_FOUND: Final = frozenset({404})
ITS_OWN_FAULT: Final = frozenset({400, 413})
"""Statuses that a document gets for what is in it: it does not fit the mapping, or is too large."""
THE_CLUSTERS_FAULT: Final = frozenset({"validation_exception"})
"""An error with such a status that is no fault of the document: no room for another shard."""


class ElasticStore:
    """An `EventStore` on the Elasticsearch at `url`, or at several of its hosts, separated by commas."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._settings = settings
        hosts = [host.strip() for host in url.split(",")]
        self._where = ", ".join(map(without_login, hosts))
        # what no host takes is retried by whoever has it to write, with back-off; Kafka keeps the rest
        arguments: Json = {
            "request_timeout": TIMEOUT_SECONDS,
            "max_retries": len(hosts) - 1,
            "retry_on_status": (),
        }
        if settings.elasticsearch_api_key.get_secret_value():
            arguments["api_key"] = settings.elasticsearch_api_key.get_secret_value()
        elif settings.elasticsearch_username:
            password = settings.elasticsearch_password.get_secret_value()
            arguments["basic_auth"] = (settings.elasticsearch_username, password)
        if settings.elasticsearch_ca_file:
            arguments["ca_certs"] = str(settings.elasticsearch_ca_file)
        try:
            self._client = AsyncElasticsearch(hosts, **arguments)
        except ValueError:
            # the client's own text has the URL, with the password
            msg = (
                f"TRITON_EVENT_STORE: {self._where} can't be used: name scheme, host and port of each server"
            )
            raise ConfigError(msg) from None

    async def prepare(self) -> None:
        """Make or raise the templates, and what hangs on them in the data streams that are there already."""
        if await self._version_of("component_templates", templates.COMPONENT) < templates.VERSION:
            await self._answer(
                self._client.cluster.put_component_template(
                    name=templates.COMPONENT, body=templates.component_template()
                )
            )
        await prepare_lifecycle(self._client, self._settings, self._answer)
        for stream in Stream:
            name = templates.index_template_name(stream)
            found = await self._version_of("index_templates", name)
            if found < templates.VERSION:
                body = templates.index_template(stream)
                await self._answer(self._client.indices.put_index_template(name=name, body=body))
            if found <= templates.VERSION:
                await self._raise_mapping(stream)

    async def _version_of(self, kind: str, name: str) -> int:
        """Return the version of an existing template, 0 without one."""
        if kind == "index_templates":
            call = self._client.indices.get_index_template(name=name)
        else:
            call = self._client.cluster.get_component_template(name=name)
        try:
            answer = await self._answer(call, NOT_FOUND)
        except NotFoundError:
            return 0
        (found,) = answer[kind]
        return int(found[kind.removesuffix("s")].get("version", 0))

    async def _raise_mapping(self, stream: Stream) -> None:
        """Update the mapping of the stream: at each start, as one that was cut short may have left it undone."""
        name = index_name(stream, self._settings)
        mapping = templates.mapping(templates.fields(stream))
        try:
            await self._answer(
                self._client.indices.put_mapping(
                    index=name, properties=mapping["properties"], write_index_only=True
                ),
                NOT_FOUND | ITS_OWN_FAULT,
            )
        except NotFoundError:
            return  # no document yet: the template makes it right
        except BadRequestError as error:
            # a type that was another: what is there stays as it is, what comes goes into a new index
            _log.warning("%s begins a new index for its new mapping: %s", name, _why(error))
            await self._answer(self._client.indices.rollover(alias=name))

    async def write(self, documents: Sequence[Document]) -> list[Refused]:
        answers = _Answers()
        for part in _parts([self._line(document) for document in documents]):
            if answers.away:
                answers.left += [line.document for line in part]
            else:
                await self._bulk(part, answers)
        for outcome, found in answers.counted.items():
            count(found, outcome)
        if answers.left:
            raise Interrupted(answers.why, answers.refused, answers.left)
        return answers.refused

    def _line(self, document: Document) -> _Line:
        target = {"_index": index_name(document.stream, self._settings), "_id": document.id}
        return _Line(document, _json({"create": target}), _json(document.source))

    async def _bulk(self, lines: Sequence[_Line], answers: _Answers) -> None:
        # bytes are sent as they are, which the client's types do not know
        operations: Any = [text for line in lines for text in line[1:]]
        begun = time.perf_counter()
        outcome = "unavailable"
        try:
            answer = await self._answer(
                self._client.bulk(
                    operations=operations,
                    filter_path="errors,items.create.status,items.create.error",
                ),
                ITS_OWN_FAULT,
            )
            outcome = self._note(lines, answer.body, answers)
        except Unavailable as error:
            answers.away = True
            answers.why = str(error)
            answers.left += [line.document for line in lines]
        except ApiError as error:
            # nothing of the request was taken, and it does not say which document is to blame
            outcome = "refused"
            if len(lines) == 1:
                answers.refuse(lines[0].document, f"{error.status_code}: {_why(error)}")
        finally:
            BULK.labels(outcome).observe(time.perf_counter() - begun)
        if outcome == "refused" and len(lines) > 1:
            half = len(lines) // 2
            await self._bulk(lines[:half], answers)
            await self._bulk(lines[half:], answers)

    def _note(self, lines: Sequence[_Line], answer: Mapping[str, Any], answers: _Answers) -> str:
        """Take down what became of each document; how the request went, in a word."""
        if not answer.get("errors"):
            answers.counted["stored"] += [line.document for line in lines]
            return "ok"
        went = "ok"
        for line, item in zip(lines, answer["items"], strict=True):
            result = item["create"]
            status, error = int(result["status"]), result.get("error", {})
            if status < 300:
                answers.counted["stored"].append(line.document)
            elif status == THERE_ALREADY:
                answers.counted["duplicate"].append(line.document)
            elif status in ITS_OWN_FAULT and error.get("type") not in THE_CLUSTERS_FAULT:
                answers.refuse(line.document, _reason(error))
                went = "partly"
            else:
                answers.why = (
                    f"Elasticsearch at {self._where} did not take a document ({status}, {_reason(error)})"
                )
                answers.left.append(line.document)
                went = "partly"
        return went

    async def search(self, query: Query) -> list[Json]:
        found: list[Json] = []
        after: list[Any] | None = None
        while len(found) < query.limit:
            size = min(PAGE, query.limit - len(found))
            answer = await self._answer(
                self._client.search(
                    index=[index_name(stream, self._settings) for stream in query.streams or Stream],
                    ignore_unavailable=True,
                    query={"bool": {"filter": _filters(query)}},
                    sort=[{field: {"order": "desc"}} for field in SORT],
                    size=size,
                    search_after=after,
                    track_total_hits=False,
                )
            )
            hits = answer["hits"]["hits"]
            found += [hit["_source"] for hit in hits]
            if len(hits) < size:
                break
            after = hits[-1]["sort"]
        return found[::-1]

    async def ping(self) -> None:
        # `/` needs more rights than we have to have, and not every node has it
        health = await self._answer(self._client.cluster.health())
        if health["status"] == "red":
            msg = f"Elasticsearch at {self._where} is red: some of its primary shards are missing"
            raise Unavailable(msg)

    async def close(self) -> None:
        await self._client.close()

    async def _answer(self, call: Awaitable[T], passing: frozenset[int] = frozenset()) -> T:
        """Await the call; raise `Unavailable` for every error but those with a status of `passing`."""
        try:
            return await call
        except UnsupportedProductError as error:
            msg = f"what answers at {self._where} is no Elasticsearch: check TRITON_EVENT_STORE"
            raise Unavailable(msg) from error
        except ApiError as error:
            if error.status_code in passing:
                raise
            advice = (
                "check TRITON_ELASTICSEARCH_API_KEY or _USERNAME and _PASSWORD, and the rights they have"
                if error.status_code in {401, 403}
                else "trying again"
            )
            msg = f"Elasticsearch at {self._where} answers {error.status_code} ({error.message}); {advice}"
            raise Unavailable(msg) from error
        except TransportError as error:
            msg = (
                f"Elasticsearch at {self._where} does not answer ({error.message}); check TRITON_EVENT_STORE"
            )
            raise Unavailable(msg) from error


def _filters(query: Query) -> list[Json]:
    filters: list[Json] = [{"term": {field: value}} for field, value in query.terms.items()]
    times = {"gte": query.since, "lte": query.until}
    if limits := {sign: timestamp(moment) for sign, moment in times.items() if moment}:
        filters.append({"range": {"@timestamp": limits}})
    return filters


_ENCODER: Final = msgspec.json.Encoder()


class _Line(NamedTuple):
    """A document as a bulk has it: what to do with it, and itself."""

    document: Document
    action: bytes
    source: bytes

    @property
    def size(self) -> int:
        return len(self.action) + len(self.source) + 2


class _Answers:
    """The results of a write so far, by document."""

    def __init__(self) -> None:
        self.counted: dict[Outcome, list[Document]] = {"stored": [], "duplicate": [], "refused": []}
        self.refused: list[Refused] = []
        self.left: list[Document] = []
        self.why = ""
        """The last reason of those that are left."""
        self.away = False
        """Nothing more has to be tried now."""

    def refuse(self, document: Document, reason: str) -> None:
        self.refused.append(Refused(document, reason))
        self.counted["refused"].append(document)


def _json(value: Json) -> bytes:
    """Encode in a fifth of the time of the client's own serializer; numbers that JSON lacks are left to the server."""
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        text = _ENCODER.encode(value)
        # as which it writes numbers that JSON does not have
        if b"null" not in text:
            return text
    return json.dumps(value).encode()


def _parts(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Cut so that none has more than `BULK_BYTES`, into parts of about the same size."""
    total = sum(line.size for line in lines)
    enough = total / math.ceil(total / BULK_BYTES) if lines else 0
    parts: list[list[_Line]] = []
    size = BULK_BYTES
    for line in lines:
        if size + line.size > BULK_BYTES or size >= enough:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += line.size
    return parts


def _reason(error: Json) -> str:
    """Return Elasticsearch's reason with its first cause, which is where the field's name is."""
    reason = f"{error.get('type', 'unknown')}: {error.get('reason', '')}"
    cause = error.get("caused_by") or {}
    return f"{reason} ({cause['reason']})" if cause.get("reason") else reason


def _why(error: ApiError) -> str:
    """Return Elasticsearch's reason; a proxy before it may answer without one."""
    reported = error.body.get("error") if isinstance(error.body, dict) else None
    return _reason(reported) if isinstance(reported, dict) else error.message
