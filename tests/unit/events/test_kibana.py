"""Kibana's saved objects: what a person who imports them relies on, read from the file as Kibana reads it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from services.events.kibana import content
from services.events.kibana.kql import Kql, one_of
from services.events.kibana.objects import (
    Dashboard,
    Panel,
    Search,
    count,
    dashboard,
    lens,
    lines,
    saved_search,
    values,
)
from services.events.kibana.views import DEPLOYFLOWS, MEANINGS, PODS, VIEWS
from shared.domain.json_types import Json
from shared.event_store import Stream, index_name
from shared.event_store.templates import fields
from shared.settings import Settings
from tests.kibana import kql
from tests.kibana.objects import FILE, read, requests
from tests.kibana.objects import fields as used_by

OBJECTS = read(FILE.read_text())
BY_ID = {(made["type"], made["id"]): made for made in OBJECTS}
FIELDS_OF = {view.id: set(view.fields) for view in VIEWS}


def named(made: Json) -> str:
    return f"{made['type']} {made['id']}"


def misspelt(made: Json) -> set[str]:
    """The fields that an object uses and none of its data views has."""
    views = {reference["id"] for reference in made["references"] if reference["type"] == "index-pattern"}
    views |= {made["id"]} & set(FIELDS_OF)
    there = set[str]().union(*(FIELDS_OF[view] for view in views))
    return set(used_by(made["attributes"])) - there


def test_the_file_in_the_repository_is_the_one_that_the_code_makes() -> None:
    assert FILE.read_text() == content.text(), "run `make documents`"


def test_there_is_what_people_ask_for() -> None:
    assert Counter(made["type"] for made in OBJECTS) == {
        "index-pattern": 4,
        "search": 5,
        "lens": 26,
        "dashboard": 5,
    }
    assert [made["attributes"]["title"] for made in OBJECTS if made["type"] == "dashboard"] == [
        "[Triton] Releases now",
        "[Triton] One release's story",
        "[Triton] Failures by reason",
        "[Triton] Slowest pods",
        "[Triton] Who released what",
    ]


@pytest.mark.parametrize("made", OBJECTS, ids=named)
def test_every_field_is_in_the_mapping(made: Json) -> None:
    assert set(used_by(made["attributes"])), "no field was found: the walk misses it"
    assert not misspelt(made)


@pytest.mark.parametrize(
    "place",
    [
        ("search", '"event.action"', '"event.acton"'),
        ("search", "kubernetes.pod.name : *", "kubernetes.pod.nam : *"),
        ("lens", '"sourceField":"triton.age_ms"', '"sourceField":"triton.agems"'),
        ("lens", '\\"triton.batch\\": *', '\\"triton.btch\\": *'),
        ("lens", '"sortField":"@timestamp"', '"sortField":"timestamp"'),
        ("lens", 'event.action : \\"', 'event.acton : \\"'),
        ("dashboard", '\\"fieldName\\":\\"triton.deployflow\\"', '\\"fieldName\\":\\"triton.deployfow\\"'),
        ("index-pattern", '"timeFieldName":"@timestamp"', '"timeFieldName":"@time"'),
        ("index-pattern", '\\"triton.age_ms\\":', '\\"triton.age\\":'),
    ],
    ids=lambda place: f"{place[0]} {place[1]}",
)
def test_a_misspelt_field_is_found_wherever_it_stands(place: tuple[str, str, str]) -> None:
    kind, right, wrong = place
    of_kind = [line for line in FILE.read_text().splitlines() if json.loads(line)["type"] == kind]
    changed = [line.replace(right, wrong) for line in of_kind if right in line]
    assert changed
    assert all(misspelt(made) for made in read("\n".join(changed)))


def test_no_field_has_two_types_in_one_data_view() -> None:
    for view in VIEWS:
        for stream in view.streams:
            assert {name: view.fields[name] for name in fields(stream)} == fields(stream)


def test_every_reference_leads_to_an_object_that_stands_before_it() -> None:
    seen: set[tuple[str, str]] = set()
    for made in OBJECTS:
        assert {(reference["type"], reference["id"]) for reference in made["references"]} <= seen
        names = [reference["name"] for reference in made["references"]]
        assert len(names) == len(set(names))
        seen.add((made["type"], made["id"]))


def test_ids_and_titles_are_unique() -> None:
    assert len(BY_ID) == len(OBJECTS)
    titles = [(made["type"], made["attributes"]["title"]) for made in OBJECTS]
    assert len(set(titles)) == len(titles)


def test_every_panel_is_shown_and_its_columns_are_all_there() -> None:
    shown = {
        (reference["type"], reference["id"])
        for made in OBJECTS
        if made["type"] == "dashboard"
        for reference in made["references"]
    }
    assert {key for key in BY_ID if key[0] == "lens"} <= shown
    for made in OBJECTS:
        if made["type"] == "lens":
            layer = made["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]["layer"]
            assert sorted(layer["columnOrder"]) == sorted(layer["columns"])
            buckets = [layer["columns"][id_]["isBucketed"] for id_ in layer["columnOrder"]]
            assert buckets == sorted(buckets, reverse=True), "Lens wants the groups first"


def test_panels_do_not_lie_on_each_other_and_stay_within_the_grid() -> None:
    for made in OBJECTS:
        if made["type"] != "dashboard":
            continue
        cells: Counter[tuple[int, int]] = Counter()
        for panel in made["attributes"]["panelsJSON"]:
            at = panel["gridData"]
            assert at["x"] + at["w"] <= 48
            cells.update(
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            )
        assert max(cells.values()) == 1


def test_no_version_is_newer_than_kibana_8_9_so_that_later_ones_take_them() -> None:
    assert {
        (made["type"], made["coreMigrationVersion"], made["typeMigrationVersion"]) for made in OBJECTS
    } == {
        ("index-pattern", "8.8.0", "8.0.0"),
        ("search", "8.8.0", "8.0.0"),
        ("lens", "8.8.0", "8.9.0"),
        ("dashboard", "8.8.0", "8.9.0"),
    }


def test_the_data_views_cover_the_data_streams_of_any_prefix() -> None:
    titles = {made["id"]: made["attributes"]["title"] for made in OBJECTS if made["type"] == "index-pattern"}
    for stream in Stream:
        name = index_name(stream, Settings(prefix="any-prefix"))
        covering = {id_ for id_, title in titles.items() if _covers(title, name)}
        assert covering == {view.id for view in VIEWS if stream in view.streams}


def _covers(pattern: str, name: str) -> bool:
    beginning, *rest = pattern.split("*")
    return name.startswith(beginning) and all(part in name for part in rest)


def test_meanings_are_of_fields_that_there_are() -> None:
    assert set(MEANINGS) <= set(VIEWS[0].fields)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lens(Panel("x", PODS, "table", (values("kubernetes.pod.nam", "pod"), count("n")))),
        lambda: lens(Panel("x", PODS, "table", (values("triton.log", "log"), count("n")))),
        lambda: lens(Panel("x", DEPLOYFLOWS, "table", (values("kubernetes.pod.name", "pod"), count("n")))),
        lambda: lens(Panel("x", PODS, "number", (count("n"),), one_of("event.outcom", "failure"))),
        lambda: lens(Panel("x", PODS, "number", (count("n", one_of("event.outcom", "failure")),))),
        lambda: saved_search(Search("x", PODS, Kql(), ("mesage",))),
        lambda: dashboard(Dashboard("x", "", ("message",), PODS, ())),
    ],
    ids=["misspelt", "text", "of another stream", "condition", "condition of a column", "search", "control"],
)
def test_nothing_is_made_with_a_field_that_does_not_fit(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"has no field|is a text"):
        make()


def test_two_objects_of_one_id_are_not_written() -> None:
    made = saved_search(content.FAILURES)
    with pytest.raises(ValueError, match="triton-search-failures"):
        lines([made, made])


def test_every_panel_search_and_control_becomes_a_request() -> None:
    names = [request.name for request in requests(OBJECTS)]
    assert len(names) == len(set(names))
    panels = sum(len(made["attributes"].get("panelsJSON", ())) for made in OBJECTS)
    controls = sum(len(board.controls) for board in content.DASHBOARDS)
    assert len(names) == len(content.SEARCHES) + panels + controls


def test_kql_becomes_the_query_that_kibana_makes_of_it() -> None:
    text = 'a.b : "x y" and (c : (1 or "2") or not d : *) and e >= 5 and f : pod-*'
    assert set(kql.fields(text)) == {"a.b", "c", "d", "e", "f"}
    assert kql.query(text) == {
        "bool": {
            "filter": [
                {"match_phrase": {"a.b": "x y"}},
                {
                    "bool": {
                        "should": [
                            {
                                "bool": {
                                    "should": [{"match": {"c": "1"}}, {"match_phrase": {"c": "2"}}],
                                    "minimum_should_match": 1,
                                }
                            },
                            {"bool": {"must_not": [{"exists": {"field": "d"}}]}},
                        ],
                        "minimum_should_match": 1,
                    }
                },
                {"range": {"e": {"gte": "5"}}},
                {"query_string": {"fields": ["f"], "query": "pod-*"}},
            ]
        }
    }
