"""Reads saved objects as Kibana does: the fields that they use, and the requests that they come to.

It goes by what stands in the file alone, so that it sees what Kibana would see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from shared.domain.json_types import Json
from tests.kibana import kql

FILE: Final = Path(__file__).parents[2] / "deploy" / "kibana" / "triton.ndjson"
INTERVAL: Final = "10m"
"""In place of `auto`: Kibana chooses it by the time that is shown."""
_ABOUT_FIELDS: Final = {"columns", "sourceField", "fieldName", "sortField", "timeFieldName"}
_BY_FIELD: Final = {"fieldFormatMap", "fieldAttrs"}


def unpacked(value: Any) -> Any:
    """With what Kibana keeps as JSON in a text taken out of it."""
    if isinstance(value, dict):
        return {key: unpacked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if isinstance(value, str) and value[:1] in {"{", "["} and value[-1:] in {"}", "]"}:
        return unpacked(json.loads(value))
    return value


def read(text: str) -> list[Json]:
    """One object a line; raises ValueError for a line that is no JSON."""
    return [unpacked(json.loads(line)) for line in text.splitlines()]


def fields(value: Any, key: str = "") -> Iterator[str]:
    """Every field that is used anywhere inside: the records as such are none."""
    if isinstance(value, dict):
        if value.get("language") == "kuery":
            yield from kql.fields(value["query"])
        if key in _BY_FIELD:
            yield from value
        for name, item in value.items():
            yield from fields(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from [item[0]] if key == "sort" else fields(item, key)
    elif key in _ABOUT_FIELDS and value != "___records___":
        yield value


class Request(NamedTuple):
    """What Kibana asks for. `wanted`: what of its answer must have a value."""

    name: str
    streams: str
    body: Json
    wanted: tuple[str, ...]
    columns: Mapping[str, Json] = {}

    def unanswered(self, answer: Mapping[str, Any]) -> set[str]:
        """What of the wanted has no value anywhere in the answer; a count of none is no value."""
        if self.columns:
            filled = set(_columns_with_values(answer["aggregations"], self.columns))
        else:
            filled = {name for hit in answer["hits"]["hits"] for name in hit.get("fields", {})}
        return set(self.wanted) - filled


def requests(objects: Sequence[Json]) -> Iterator[Request]:
    """Of every panel and control of every dashboard, and of every saved search, with the dashboard's time."""
    by_id = {(made["type"], made["id"]): made for made in objects}
    for made in objects:
        if made["type"] == "search":
            yield _discover(made, made["attributes"]["title"], by_id, {})
        if made["type"] == "dashboard":
            yield from _of_dashboard(made, by_id)


def _of_dashboard(board: Json, by_id: Mapping[tuple[str, str], Json]) -> Iterator[Request]:
    attributes = board["attributes"]
    span = {"range": {"@timestamp": {"gte": attributes["timeFrom"], "lte": attributes["timeTo"]}}}
    title = attributes["title"]
    for panel in attributes["panelsJSON"]:
        made = by_id[_reference(board, f"{panel['panelIndex']}:{panel['panelRefName']}")]
        name = f"{title}: {panel['title']}"
        yield (_lens if made["type"] == "lens" else _discover)(made, name, by_id, span)
    for id_, control in attributes["controlGroupInput"]["panelsJSON"].items():
        view = by_id[_reference(board, f"controlGroup_{id_}:optionsListDataView")]
        column = {
            "operationType": "terms",
            "isBucketed": True,
            "sourceField": control["explicitInput"]["fieldName"],
        }
        column["params"] = {"size": 10, "orderBy": {"type": "alphabetical"}, "orderDirection": "asc"}
        columns = {"control": column}
        yield Request(
            f"{title}: control {id_}",
            view["attributes"]["title"],
            {"size": 0, "query": span, "aggs": _aggregations(columns, list(columns))},
            ("control",),
            columns,
        )


def _lens(made: Json, name: str, by_id: Mapping[tuple[str, str], Json], span: Json) -> Request:
    state = made["attributes"]["state"]
    ((layer_id, layer),) = state["datasourceStates"]["formBased"]["layers"].items()
    view = by_id[_reference(made, f"indexpattern-datasource-layer-{layer_id}")]
    query = {"bool": {"filter": [span, kql.query(state["query"]["query"])]}}
    aggregations = _aggregations(layer["columns"], layer["columnOrder"])
    return Request(
        name,
        view["attributes"]["title"],
        {"size": 0, "track_total_hits": True, "query": query, "aggs": aggregations},
        tuple(layer["columnOrder"]),
        layer["columns"],
    )


def _discover(made: Json, name: str, by_id: Mapping[tuple[str, str], Json], span: Json) -> Request:
    attributes = made["attributes"]
    source = attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]
    view = by_id[_reference(made, source["indexRefName"])]
    condition = kql.query(source["query"]["query"])
    body = {
        "size": 500,
        "query": {"bool": {"filter": [span, condition] if span else [condition]}},
        "sort": [{field: {"order": order}} for field, order in attributes["sort"]],
        "fields": attributes["columns"],
        "_source": False,
    }
    return Request(name, view["attributes"]["title"], body, tuple(attributes["columns"]))


def _reference(made: Json, name: str) -> tuple[str, str]:
    (found,) = (reference for reference in made["references"] if reference["name"] == name)
    return found["type"], found["id"]


def _aggregations(columns: Mapping[str, Json], order: Sequence[str]) -> Json:
    """Groups stand one inside the other, in their order, and what is computed stands in the innermost."""
    groups = [id_ for id_ in order if columns[id_]["isBucketed"]]
    computed = {id_: columns[id_] for id_ in order if id_ not in groups}
    inner = {id_: made for id_, column in computed.items() if (made := _metric(id_, column))}
    if not groups and not inner:
        return {"all": {"filter": {"match_all": {}}}}
    for id_ in reversed(groups):
        inner = {id_: _group(columns[id_], columns, inner)}
    return inner


def _group(column: Json, columns: Mapping[str, Json], inner: Json) -> Json:
    field, params = column["sourceField"], column["params"]
    if column["operationType"] == "date_histogram":
        assert params["interval"] == "auto"
        return {
            "date_histogram": {"field": field, "fixed_interval": INTERVAL, "min_doc_count": 1},
            "aggs": inner,
        }
    assert column["operationType"] == "terms"
    direction = params["orderDirection"]
    if params["orderBy"]["type"] == "alphabetical":
        return {
            "terms": {"field": field, "size": params["size"], "order": {"_key": direction}},
            "aggs": inner,
        }
    by = params["orderBy"]["columnId"]
    metric = _metric(by, columns[by])
    path = by if metric else "_count"
    aggs = inner | ({by: metric} if metric else {})
    return {"terms": {"field": field, "size": params["size"], "order": {path: direction}}, "aggs": aggs}


_METRICS: Final = {"unique_count": "cardinality", "max": "max", "min": "min", "average": "avg"}


def _metric(id_: str, column: Json) -> Json | None:
    """None for the number of documents, which every group has."""
    operation, params = column["operationType"], column["params"]
    made: Json | None
    match operation:
        case "count":
            made = None
        case "percentile":
            made = {"percentiles": {"field": column["sourceField"], "percents": [params["percentile"]]}}
        case "last_value":
            assert params["showArrayValues"], "without it Kibana asks by top_metrics"
            newest = [{params["sortField"]: {"order": "desc"}}]
            made = {
                "top_hits": {"size": 1, "sort": newest, "_source": False, "fields": [column["sourceField"]]}
            }
        case _:
            made = {_METRICS[operation]: {"field": column["sourceField"]}}
    if "filter" not in column:
        return made
    filtered: Json = {"filter": kql.query(column["filter"]["query"])}
    return filtered | ({"aggs": {id_: made}} if made else {})


def _columns_with_values(answer: Mapping[str, Any], columns: Mapping[str, Json]) -> Iterator[str]:
    """Which columns have a value in some row."""
    for id_, column in columns.items():
        here = answer.get(id_)
        if column["isBucketed"]:
            for bucket in here["buckets"] if here else ():
                yield id_
                yield from _columns_with_values(bucket, columns)
        elif column["operationType"] == "count":
            if (here or answer.get("all") or answer).get("doc_count"):
                yield id_
        elif here is not None and _value(here.get(id_, here)):
            yield id_


def _value(metric: Mapping[str, Any]) -> bool:
    if "hits" in metric:
        return any(hit.get("fields") for hit in metric["hits"]["hits"])
    if "values" in metric:
        return any(value is not None for value in metric["values"].values())
    return bool(metric["value"])
