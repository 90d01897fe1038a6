"""Grafana's dashboards ask for metrics and labels that there are, lead to each other, and can be read by everybody."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from shared.domain.json_types import Json
from tests.dashboards import DASHBOARDS, FOLDER, Dashboard, Query, queries, used
from tests.docs.blocks import ROOT

RANGES = {"__range", "__rate_interval"}
SCRAPED = {"job", "instance"}
NOT_OURS = {
    "up": SCRAPED,
    **dict.fromkeys(
        (
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ),
        SCRAPED,
    ),
}
"""What every process with the Python client exports, and Prometheus itself."""
QUERIES = [query for dashboard in DASHBOARDS for query in dashboard.queries()]
PANELS = [
    pytest.param(dashboard, panel, id=f"{dashboard}: {panel['title']}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
]


def _ours() -> dict[str, set[str]]:
    """The labels of each metric; the table is held to what the services export."""
    rows = re.findall(
        r"^\| `(triton_\w+)` \|([^|]*)\|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE
    )
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


OURS = _ours()
ALERTS = {"alertname", "alertstate", "severity"}.union(*OURS.values())
LABELS = {**OURS, **NOT_OURS, "ALERTS": ALERTS}


def unknown(query: Query) -> set[str]:
    """The metrics and labels of a query that nobody exports."""
    metrics = {name for name in query.metrics if name not in LABELS}
    there = set[str]().union(*(LABELS.get(name, set()) for name in query.metrics), SCRAPED)
    if "_bucket" in query.expression:
        there.add("le")
    return metrics | (query.labels - there)


def test_there_is_what_people_ask_for() -> None:
    assert {dashboard.file: dashboard.body["uid"] for dashboard in DASHBOARDS} == {
        "overview.json": "triton-overview",
        "release.json": "triton-release",
        "services.json": "triton-services",
    }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_a_dashboard_is_one_of_grafana_12(dashboard: Dashboard) -> None:
    body = dashboard.body
    # the id is the database's; a fixed one would take another dashboard's place
    assert "id" not in body
    assert body["schemaVersion"] == 41
    assert body["editable"]
    assert body["title"]
    assert body["description"]
    ids = [panel["id"] for panel in body["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in dashboard.panels]
    assert len(titles) == len(set(titles))
    assert next(iter(dashboard.variables.values()))["type"] == "datasource"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_panels_lie_beside_each_other(dashboard: Dashboard) -> None:
    places = [panel["gridPos"] for panel in dashboard.body["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_says_what_it_shows(dashboard: Dashboard, panel: Json) -> None:
    assert panel["title"]
    if panel["type"] == "text":
        return
    assert panel["fieldConfig"]["defaults"]["unit"]
    # a line over time may need no more than its title
    assert panel.get("description") or panel["type"] == "timeseries"
    for query in queries(dashboard.file, panel):
        assert query.table or query.legend
    letters = [target["refId"] for target in panel["targets"]]
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_the_source_of_all_data_can_be_chosen(dashboard: Dashboard) -> None:
    asking = [panel for panel in dashboard.panels if panel["type"] != "text"]
    asking += [variable for variable in dashboard.variables.values() if variable["type"] == "query"]
    assert {json.dumps(one["datasource"]) for one in asking} == {
        json.dumps({"type": "prometheus", "uid": "${datasource}"})
    }


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_a_query_stands_on_what_is_exported(query: Query) -> None:
    assert query.metrics
    assert not unknown(query)
    # a label that is summed away is not there for the legend
    assert query.legend_labels <= query.grouped | SCRAPED


@pytest.mark.parametrize(
    ("expression", "legend", "wrong"),
    [
        ("sum by (phase) (triton_flow)", "{{phase}}", {"triton_flow", "phase"}),
        ("sum by (phases) (triton_flows)", "", {"phases"}),
        ('triton_flows{fase="Pending"}', "", {"fase"}),
        ("sum by (le, gate) (rate(triton_gate_command_duration_seconds_count[1m]))", "", {"le"}),
        ("triton_flows", "{{group}}", {"group"}),
    ],
)
def test_what_is_misspelt_is_found(expression: str, legend: str, wrong: set[str]) -> None:
    assert unknown(Query("", expression, legend, instant=True, table=False)) == wrong


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=str)
def test_queries_and_texts_use_variables_that_there_are(dashboard: Dashboard) -> None:
    texts = [query.expression for query in dashboard.queries()]
    texts += [
        variable["query"]["query"] for variable in dashboard.variables.values() if "datasource" in variable
    ]
    texts += [panel["options"]["content"] for panel in dashboard.panels if panel["type"] == "text"]
    assert set[str]().union(*map(used, texts)) <= {*dashboard.variables, *RANGES}


def test_variables_are_looked_up_in_what_is_exported() -> None:
    looked_up = [
        variable["query"]["query"]
        for dashboard in DASHBOARDS
        for variable in dashboard.variables.values()
        if variable["type"] == "query"
    ]
    assert looked_up
    for text in looked_up:
        expression, _, label = text.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        assert not unknown(Query("", f"{expression} by ({label})", "", instant=True, table=False))


def _tables() -> list[Json]:
    return [panel for dashboard in DASHBOARDS for panel in dashboard.panels if panel["type"] == "table"]


@pytest.mark.parametrize("panel", _tables(), ids=lambda panel: panel["title"])
def test_a_table_speaks_of_columns_that_it_has(panel: Json) -> None:
    expressions = queries("", panel)
    values = {f"Value #{query.where[-1]}" for query in expressions} if len(expressions) > 1 else {"Value"}
    columns = {"Time", *values}.union(*(query.grouped for query in expressions))
    change = panel["transformations"][-1]["options"]
    assert {*change["excludeByName"], *change["indexByName"]} == columns
    assert set(change["renameByName"]) <= columns
    shown = {change["renameByName"].get(name, name) for name in columns - set(change["excludeByName"])}
    named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    assert named <= shown
    assert {column["displayName"] for column in panel["options"]["sortBy"]} <= shown
    for field in re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)):
        assert field in shown


def test_links_lead_to_dashboards_and_their_variables() -> None:
    by_uid = {dashboard.body["uid"]: dashboard for dashboard in DASHBOARDS}
    found = re.findall(r'"url": "(/[^"]*)"', "".join(json.dumps(dashboard.body) for dashboard in DASHBOARDS))
    assert found
    for url in found:
        target = by_uid[urlsplit(url).path.removeprefix("/d/")]
        variables = {name.removeprefix("var-") for name, _ in parse_qsl(urlsplit(url).query)}
        assert variables == {"datasource", "namespace", "deployflow"}
        assert variables <= set(target.variables)
    for dashboard in DASHBOARDS:
        (among,) = (link for link in dashboard.body["links"] if link["type"] == "dashboards")
        assert set(among["tags"]) <= set(dashboard.body["tags"])


def test_the_link_to_the_log_leads_to_a_dashboard_of_kibana() -> None:
    (release,) = (dashboard for dashboard in DASHBOARDS if dashboard.file == "release.json")
    (link,) = (link for link in release.body["links"] if link["type"] == "link")
    assert used(link["url"]) == {"kibana", "namespace", "deployflow", "__from", "__to"}
    (target,) = re.findall(r"#/view/([\w-]+)\?", link["url"])
    kibana = (ROOT / "deploy/kibana/triton.ndjson").read_text().splitlines()
    assert target in {made["id"] for made in map(json.loads, kibana) if made["type"] == "dashboard"}


def test_the_page_names_every_dashboard() -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    described = set(re.findall(r"^\| \[(\w+\.json)\]\([^)]*\) \| (Triton: [^|]+?) \|", page, re.MULTILINE))
    assert described == {(dashboard.file, dashboard.body["title"]) for dashboard in DASHBOARDS}


def test_compose_has_the_dashboards() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = {to: ROOT / here for here, to, *_ in (volume.split(":") for volume in grafana["volumes"])}
    provisioned = mounted["/etc/grafana/provisioning/dashboards"]
    (provider,) = yaml.safe_load((provisioned / "triton.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert mounted[folder].resolve() == FOLDER
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (mounted[folder] / home.removeprefix(f"{folder}/")).is_file()
    sources = mounted["/etc/grafana/provisioning/datasources"]
    (source,) = yaml.safe_load((sources / "prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"


def test_the_first_duration_is_a_rise() -> None:
    script = (
        "import services.executor.command_handler, services.planner.views.metrics, services.readiness.gate_keeper\n"
        "from prometheus_client import generate_latest\n"
        "print(generate_latest().decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for series in (
        'triton_batch_phase_duration_seconds_count{phase="Baking"} 0.0',
        'triton_batch_duration_seconds_count{action="scale_in"} 0.0',
        'triton_batch_command_duration_seconds_count{command="surge"} 0.0',
        'triton_gate_command_duration_seconds_count{gate="open"} 0.0',
    ):
        assert series in done.stdout.splitlines()
