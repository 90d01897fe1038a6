"""Builds Kibana's saved objects: data views, searches, Lens panels and dashboards, as its own exports write them.

The versions are those of Kibana 8.9: an import migrates an older form and refuses a newer one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from services.events.kibana.kql import Kql
from services.events.kibana.views import View, formats, meanings
from shared.domain.json_types import Json

_CORE_VERSION: Final = "8.8.0"
_VERSIONS: Final = {"index-pattern": "8.0.0", "search": "8.0.0", "lens": "8.9.0", "dashboard": "8.9.0"}
_RECORDS: Final = "___records___"
_ALL: Final = Kql()
_LAYER: Final = "layer"
_WIDTH: Final = 48
"""Columns of a dashboard's grid."""
_DATA_TYPES: Final = {"keyword": "string", "text": "string", "long": "number"}
_TIME_ORDER: Final = [["@timestamp", "asc"], ["event.sequence", "asc"]]


# --- the model --------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a panel: a grouping (`bucketed`) or a computation. `where`: over these facts only.

    `by`: the column that orders a grouping by values; without it the values do. `hidden`: not shown.
    """

    label: str
    operation: str
    field: str = _RECORDS
    bucketed: bool = False
    params: Json | None = None
    where: Kql | None = None
    by: str = ""
    hidden: bool = False


class Panel(NamedTuple):
    """A Lens panel: `shape` is `table`, `number`, or what Lens calls a series (`bar_stacked`, `line`)."""

    title: str
    view: View
    shape: str
    columns: tuple[Column, ...]
    where: Kql = _ALL
    description: str = ""


class Search(NamedTuple):
    """A saved search of Discover. `newest`: the newest fact first, otherwise in the order of time."""

    title: str
    view: View
    where: Kql
    columns: tuple[str, ...]
    newest: bool = True
    description: str = ""


class Place(NamedTuple):
    """The place of a panel or search: `width` of 48, `height` in rows; the next one follows in the same row if it fits."""

    what: Panel | Search
    width: int
    height: int


class Dashboard(NamedTuple):
    """`controls`: the fields by which a person narrows all of it. `since`: the time that it opens with."""

    title: str
    description: str
    controls: tuple[str, ...]
    controls_of: View
    places: tuple[Place, ...]
    since: str = "now-24h"
    refresh_seconds: int = 0


# --- columns ----------------------------------------------------------------------------------------------


def values(field: str, label: str, *, by: str = "", size: int = 20, hidden: bool = False) -> Column:
    """Group by the values of a field."""
    return Column(label, "terms", field, bucketed=True, params={"size": size}, by=by, hidden=hidden)


def times() -> Column:
    """Group by time."""
    params = {"interval": "auto", "includeEmptyRows": True, "dropPartials": False}
    return Column("time", "date_histogram", "@timestamp", bucketed=True, params=params)


def count(label: str, where: Kql | None = None) -> Column:
    """Count the facts."""
    return Column(label, "count", params={"emptyAsNull": False}, where=where)


def different(field: str, label: str, where: Kql | None = None) -> Column:
    """Count the different values."""
    return Column(label, "unique_count", field, params={"emptyAsNull": False}, where=where)


def largest(field: str, label: str, where: Kql | None = None) -> Column:
    return Column(label, "max", field, params={"emptyAsNull": True}, where=where)


def smallest(field: str, label: str) -> Column:
    return Column(label, "min", field, params={"emptyAsNull": True})


def percentile(field: str, percent: int, label: str) -> Column:
    return Column(label, "percentile", field, params={"percentile": percent})


def percentiles(field: str) -> tuple[Column, Column]:
    return percentile(field, 50, "median"), percentile(field, 95, "95th percentile")


def latest(field: str, label: str) -> Column:
    """Return the value of the newest fact that has one.

    With arrays shown, Kibana queries it by `top_hits`, which every Elasticsearch has, otherwise by `top_metrics`.
    """
    params = {"sortField": "@timestamp", "showArrayValues": True}
    return Column(label, "last_value", field, params=params, where=Kql(f'"{field}": *', frozenset({field})))


# --- panels -----------------------------------------------------------------------------------------------


def table(
    title: str, view: View, columns: tuple[Column, ...], where: Kql = _ALL, description: str = ""
) -> Panel:
    return Panel(title, view, "table", columns, where, description)


def over_time(title: str, view: View, field: str, label: str, *, counted: str, where: Kql) -> Panel:
    """Return stacked bars: the number of facts over time, by the values of a field."""
    columns = (values(field, label, by=counted), times(), count(counted))
    return Panel(title, view, "bar_stacked", columns, where)


# --- as Kibana keeps them ---------------------------------------------------------------------------------


def data_view(view: View) -> Json:
    described = {field: {"customDescription": meaning} for field, meaning in meanings(view).items()}
    attributes = {
        "allowNoIndex": True,
        "fieldAttrs": _packed(described),
        "fieldFormatMap": _packed(formats(view)),
        "fields": "[]",
        "name": view.name,
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "timeFieldName": "@timestamp",
        "title": view.title,
        "typeMeta": "{}",
    }
    return _object("index-pattern", view.id, attributes, [])


def saved_search(search: Search) -> Json:
    """Build a saved search; raise ValueError for a field that its data view does not have."""
    for field in search.columns:
        search.view.kind(field)
    for field, _ in _TIME_ORDER:
        search.view.grouped(field)
    reference = "kibanaSavedObjectMeta.searchSourceJSON.index"
    attributes = {
        "columns": list(search.columns),
        "description": search.description,
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _packed(
                {"query": _query(search.where, search.view), "filter": [], "indexRefName": reference}
            )
        },
        "sort": [[field, "desc" if search.newest else "asc"] for field, _ in _TIME_ORDER],
        "timeRestore": False,
        "title": f"[Triton] {search.title}",
    }
    return _object("search", identity(search), attributes, [_to_view(reference, search.view)])


def lens(panel: Panel) -> Json:
    """Build a panel; raise ValueError for a field that its data view does not have, or can't group or compute with."""
    ids = {column.label: f"column-{number}" for number, column in enumerate(panel.columns, 1)}
    columns = {ids[column.label]: _column(column, panel.view, ids) for column in panel.columns}
    table_or_number = {"table": "lnsDatatable", "number": "lnsMetric"}
    attributes = {
        "description": panel.description,
        "state": {
            "adHocDataViews": {},
            "datasourceStates": {
                "formBased": {
                    "layers": {
                        _LAYER: {
                            "columnOrder": list(columns),
                            "columns": columns,
                            "incompleteColumns": {},
                            "sampling": 1,
                        }
                    }
                }
            },
            "filters": [],
            "internalReferences": [],
            "query": _query(panel.where, panel.view),
            "visualization": _visualization(panel, list(columns)),
        },
        "title": f"[Triton] {panel.title}",
        "visualizationType": table_or_number.get(panel.shape, "lnsXY"),
    }
    reference = f"indexpattern-datasource-layer-{_LAYER}"
    return _object("lens", identity(panel), attributes, [_to_view(reference, panel.view)])


def _column(column: Column, view: View, ids: dict[str, str]) -> Json:
    kind = "long" if column.field == _RECORDS else view.grouped(column.field)
    counted = column.operation in {"count", "unique_count"}
    made: Json = {
        "customLabel": True,
        "dataType": "number" if counted else _DATA_TYPES.get(kind, kind),
        "isBucketed": column.bucketed,
        "label": column.label,
        "operationType": column.operation,
        "params": dict(column.params or {}),
        "scale": _scale(column, counted or kind == "long"),
        "sourceField": column.field,
    }
    if column.operation == "terms":
        by = {"type": "column", "columnId": ids[column.by]} if column.by else {"type": "alphabetical"}
        made["params"] |= {
            "exclude": [],
            "excludeIsRegex": False,
            "include": [],
            "includeIsRegex": False,
            "missingBucket": False,
            "orderBy": by,
            "orderDirection": "desc" if column.by else "asc",
            "otherBucket": False,
            "parentFormat": {"id": "terms"},
        }
    if column.where:
        made["filter"] = _query(column.where, view)
    return made


def _scale(column: Column, number: bool) -> str:
    if column.operation == "date_histogram":
        return "interval"
    return "ratio" if number and not column.bucketed else "ordinal"


def _visualization(panel: Panel, ids: list[str]) -> Json:
    layer: Json = {"layerId": _LAYER, "layerType": "data"}
    if panel.shape == "number":
        return layer | {"metricAccessor": ids[0]}
    if panel.shape == "table":
        columns = [
            {"columnId": id_, "isTransposed": False} | ({"hidden": True} if column.hidden else {})
            for id_, column in zip(ids, panel.columns, strict=True)
        ]
        return layer | {"columns": columns}
    grouped = [id_ for id_, column in zip(ids, panel.columns, strict=True) if column.bucketed]
    layer |= {
        "accessors": [id_ for id_ in ids if id_ not in grouped],
        "seriesType": panel.shape,
        "xAccessor": grouped[-1],
    }
    # as in Lens: the grouping that splits a series comes before the time
    if len(grouped) > 1:
        layer["splitAccessor"] = grouped[0]
    return {
        "fittingFunction": "Carry" if panel.shape == "line" else "None",
        "layers": [layer],
        "legend": {"isVisible": True, "position": "right"},
        "preferredSeriesType": panel.shape,
        "valueLabels": "hide",
    }


def dashboard(board: Dashboard) -> Json:
    """Build a dashboard; raise ValueError for a control on a text field."""
    panels = [
        {
            "embeddableConfig": {"enhancements": {}},
            "gridData": place,
            "panelIndex": place["i"],
            "panelRefName": f"panel_{place['i']}",
            "title": at.what.title,
            "type": kind_of(at.what),
            "version": _VERSIONS["dashboard"],
        }
        for at, place in zip(board.places, _grid(board.places), strict=True)
    ]
    attributes: Json = {
        "controlGroupInput": {
            "chainingSystem": "HIERARCHICAL",
            "controlStyle": "oneLine",
            "ignoreParentSettingsJSON": _packed(
                {
                    "ignoreFilters": False,
                    "ignoreQuery": False,
                    "ignoreTimerange": False,
                    "ignoreValidations": False,
                }
            ),
            "panelsJSON": _packed(
                {_slug(field): _control(order, field, board) for order, field in enumerate(board.controls)}
            ),
            "showApplySelections": False,
        },
        "description": board.description,
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _packed({"filter": [], "query": _query(Kql(), board.controls_of)})
        },
        "optionsJSON": _packed(
            {
                "hidePanelTitles": False,
                "syncColors": True,
                "syncCursor": True,
                "syncTooltips": False,
                "useMargins": True,
            }
        ),
        "panelsJSON": _packed(panels),
        "refreshInterval": {"pause": not board.refresh_seconds, "value": board.refresh_seconds * 1000},
        "timeFrom": board.since,
        "timeRestore": True,
        "timeTo": "now",
        "title": f"[Triton] {board.title}",
        "version": 1,
    }
    references = [
        {"id": identity(at.what), "name": f"{place['i']}:panel_{place['i']}", "type": kind_of(at.what)}
        for at, place in zip(board.places, _grid(board.places), strict=True)
    ]
    references += [
        _to_view(f"controlGroup_{_slug(field)}:optionsListDataView", board.controls_of)
        for field in board.controls
    ]
    return _object("dashboard", f"triton-dashboard-{_slug(board.title)}", attributes, references)


def _control(order: int, field: str, board: Dashboard) -> Json:
    board.controls_of.grouped(field)
    return {
        "explicitInput": {
            "enhancements": {},
            "fieldName": field,
            "id": _slug(field),
            "searchTechnique": "prefix",
            "selectedOptions": [],
            "title": field,
        },
        "grow": True,
        "order": order,
        "type": "optionsListControl",
        "width": "medium",
    }


def _grid(places: Sequence[Place]) -> list[Json]:
    """Place from left to right; a new row begins when the width is used up, a row is as high as its highest panel."""
    made: list[Json] = []
    x = y = row = 0
    for number, place in enumerate(places, 1):
        if x + place.width > _WIDTH:
            x, y, row = 0, y + row, 0
        made.append({"h": place.height, "i": f"{number}", "w": place.width, "x": x, "y": y})
        x, row = x + place.width, max(row, place.height)
    return made


def kind_of(what: Panel | Search) -> str:
    """Return the type of the saved object."""
    return "lens" if isinstance(what, Panel) else "search"


def identity(what: Panel | Search) -> str:
    """Return the id of the saved object, made from its name, so that importing it again replaces it."""
    return f"triton-{kind_of(what)}-{_slug(what.title)}"


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _query(where: Kql, view: View) -> Json:
    for field in where.fields:
        view.kind(field)
    return {"language": "kuery", "query": where.text}


def _to_view(name: str, view: View) -> Json:
    return {"id": view.id, "name": name, "type": "index-pattern"}


def _object(kind: str, id_: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "attributes": attributes,
        "coreMigrationVersion": _CORE_VERSION,
        "id": id_,
        "managed": False,
        "references": references,
        "type": kind,
        "typeMigrationVersion": _VERSIONS[kind],
    }


def _packed(value: Any) -> str:
    """Return JSON as text, the form of some of Kibana's attributes."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def lines(objects: Sequence[Json]) -> str:
    """Return one object a line; raise ValueError if two have the same id."""
    ids = sorted((made["type"], made["id"]) for made in objects)
    for one, other in pairwise(ids):
        if one == other:
            msg = f"two saved objects have the id {one}"
            raise ValueError(msg)
    return "".join(f"{_packed(made)}\n" for made in objects)
