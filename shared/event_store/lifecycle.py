"""The retention of events in Elasticsearch: the settings count from the next start on, for old streams too.

The template of the lifecycle has the settings that it was made of. While they are the same nothing is touched, so
that what an administrator changes by hand stays; and a service of an older version leaves a newer one's alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from elasticsearch import ApiError, AsyncElasticsearch, NotFoundError

from shared.errors import Unavailable
from shared.event_store import templates
from shared.event_store.interface import Stream
from shared.settings import Settings

NOT_THERE: Final = frozenset({400, 404, 405})
"""The answers of a node without an API of lifecycles, and of one without such a stream."""
_log = logging.getLogger(__name__)


class Answer(Protocol):
    """Waits for an answer; everything but these statuses becomes `Unavailable`."""

    async def __call__(self, call: Awaitable[Any], passing: frozenset[int] = frozenset(), /) -> Any: ...


async def prepare_lifecycle(client: AsyncElasticsearch, settings: Settings, answer: Answer) -> None:
    """Apply the retention of the settings to Elasticsearch.

    Raises `Unavailable` when it can't be done now, or when the policy of the settings does not exist.
    """
    wanted = templates.lifecycle_template(settings)
    found = await _found(client, answer)
    if settings.elasticsearch_lifecycle == "ilm" and found.get("version", 0) <= templates.VERSION:
        await _prepare_policy(client, settings, answer)
    if found.get("version", 0) > templates.VERSION or (
        found.get("version") == templates.VERSION and found.get("_meta") == wanted["_meta"]
    ):
        return
    # before the template, which says that it is done
    if found.get("_meta") != wanted["_meta"]:
        await _apply(client, settings, answer, before=(found.get("_meta") or {}).get("lifecycle", "dsl"))
    await answer(client.cluster.put_component_template(name=templates.LIFECYCLE, body=wanted))


async def _found(client: AsyncElasticsearch, answer: Answer) -> dict[str, Any]:
    try:
        answered = await answer(
            client.cluster.get_component_template(name=templates.LIFECYCLE), frozenset({404})
        )
    except NotFoundError:
        return {}
    (one,) = answered["component_templates"]
    return dict(one["component_template"])


async def _prepare_policy(client: AsyncElasticsearch, settings: Settings, answer: Answer) -> None:
    name = settings.elasticsearch_ilm_policy or templates.POLICY
    ours = templates.policy(settings.elasticsearch_retention_days)
    try:
        answered = await answer(client.ilm.get_lifecycle(name=name), frozenset({404}))
    except NotFoundError:
        if settings.elasticsearch_ilm_policy:
            msg = (
                f"Elasticsearch has no ILM policy {name}: make it, or correct TRITON_ELASTICSEARCH_ILM_POLICY"
            )
            raise Unavailable(msg) from None
        await answer(client.ilm.put_lifecycle(name=name, policy=ours))
        return
    if settings.elasticsearch_ilm_policy:
        return
    found = answered[name]["policy"]
    if not templates.is_ours(found):
        _log.info("the ILM policy %s was changed by somebody and is left unchanged", name)
    elif found["phases"] != ours["phases"]:
        await answer(client.ilm.put_lifecycle(name=name, policy=ours))


async def _apply(client: AsyncElasticsearch, settings: Settings, answer: Answer, *, before: str) -> None:
    """Apply the lifecycle to the existing data streams; new ones have it by the template."""
    wanted = templates.lifecycle_template(settings)["template"]
    for stream in Stream:
        (name,) = templates.index_template(stream)["index_patterns"]
        lifecycle, ilm = wanted.get("lifecycle"), wanted.get("settings")
        if lifecycle:
            body = {"enabled": True, "data_retention": lifecycle.get("data_retention")}
            await _where_it_is(answer, client.indices.put_data_lifecycle(name=name, **body), name)
        elif before == "dsl":
            await _where_it_is(answer, client.indices.delete_data_lifecycle(name=name), name)
        if ilm or before == "ilm":
            change = ilm or {"index.lifecycle.name": None}
            await _where_it_is(answer, client.indices.put_settings(index=name, settings=change), name)


async def _where_it_is(answer: Answer, call: Awaitable[Any], name: str) -> None:
    try:
        await answer(call, NOT_THERE)
    except ApiError as error:
        if error.status_code != 404:
            _log.warning("the lifecycle of %s stays as it is: %s", name, error.message)
