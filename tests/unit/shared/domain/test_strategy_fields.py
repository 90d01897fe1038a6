"""A field of the strategy is declared once, in shared/domain/deployflow.py, and stands in every place that needs it.

Most places are derived from the model. This says of each field where it is missing, and what to do there.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from services.planner.api.protos import deployflow_pb2
from services.planner.model.state import Strategy
from services.planner.model.strategy import NAMES, strategy_of
from services.planner.rules.clocks import RULES
from shared.domain import deployflow as df
from shared.domain.deploy_commands import DeployCommand
from shared.domain.json_types import Json
from tests.docs.blocks import ROOT
from tests.docs.field_tables import strategy_rows
from tests.simulation.strategies import NOT_DRAWN, drawn_values, sample_of
from tests.unit.planner.api.rest_surroundings import client_of
from tests.unit.planner.api.surroundings import World

FIELDS = list(df.STRATEGY_FIELDS)
IDENTITY = {"appID": 12122, "groupID": 10010, "appName": "hello", "instanceName": "web"}
TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}}
RUNNING = {"phase": "BatchStarted"}
TEST = "tests/unit/shared/domain/test_strategy_fields.py"


def alias_of(field: str) -> str:
    return str(df.STRATEGY_FIELDS[field].alias)


def action_of(field: str) -> str:
    """An action that may have it."""
    return "update" if field in df.UpdateStrategy.model_fields else "restart"


def spec_with(field: str, value: Any) -> Json:
    action = action_of(field)
    application: Json = {**IDENTITY, "replicas": 4}
    if action == "update":
        return {
            "action": action,
            "application": {**application, "template": TEMPLATE},
            "updateStrategy": {alias_of(field): value},
        }
    return {
        "action": action,
        "application": application,
        "nonUpdateStrategy": {alias_of(field): value},
    }


@functools.cache
def document(path: str) -> Any:
    return yaml.load((ROOT / path).read_text(), yaml.CSafeLoader)


def strategies_with(field: str) -> list[str]:
    return [
        model.__name__ for model in (df.UpdateStrategy, df.NonUpdateStrategy) if field in model.model_fields
    ]


# --- the places -------------------------------------------------------------------------------------------


def missing_from_declaration(field: str) -> Iterator[str]:
    info = df.STRATEGY_FIELDS[field]
    if sum(isinstance(rule, df.InheritedBy) for rule in info.metadata) != 1:
        yield "shared/domain/deployflow.py: declare which later releases inherit it (Annotated[…, InheritedBy.…])"
    if not info.description:
        yield "shared/domain/deployflow.py: describe it (Annotated[…, Field(description=…)])"


def missing_from_planner(field: str) -> Iterator[str]:
    name = NAMES[field]
    where = "services/planner/model/state.py"
    if name not in Strategy.__struct_fields__:
        yield f"{where}: add `{name}` to Strategy"
        return
    default = df.STRATEGY_FIELDS[field].default
    kept = getattr(Strategy(), name)
    if kept != (() if field == "pods_to_delete" else default):
        yield f"{where}: the default of Strategy.{name} is {kept!r}, that of the model {default!r}"
    value = sample_of(df.STRATEGY_FIELDS[field])
    arrived = getattr(strategy_of(df.DeployFlowSpec.model_validate(spec_with(field, value))), name)
    if arrived != (tuple(value) if isinstance(value, list) else value):
        yield f"services/planner/model/strategy.py: {value!r} arrives as {arrived!r}"


def missing_from_decisions(field: str) -> Iterator[str]:
    if any(NAMES[field] in rule.limit for rule in RULES.values()):
        return
    used = re.compile(rf"\.{NAMES[field]}\b")
    rooms = ("model", "rules", "decision")
    files = [path for room in rooms for path in (ROOT / "services" / "planner" / room).glob("*.py")]
    if not any(used.search(path.read_text()) for path in files):
        yield f"services/planner: nothing reads flow.strategy.{NAMES[field]}; a rule has to (services/planner/rules)"


def missing_from_crd(field: str) -> Iterator[str]:
    path = "deploy/crds/apps.triton.io_deployflows.yaml"
    (version,) = document(path)["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    for strategy in strategies_with(field):
        name = strategy[0].lower() + strategy[1:]
        if alias_of(field) not in spec[name]["properties"]:
            yield f"{path}: run make documents ({name})"


def missing_from_schemas(field: str) -> Iterator[str]:
    for path, schemas in (
        ("docs/openapi.json", document("docs/openapi.json")["components"]["schemas"]),
        ("docs/asyncapi.yaml", document("docs/asyncapi.yaml")["components"]["schemas"]),
        (
            "docs/schemas/deploy-command.schema.json",
            document("docs/schemas/deploy-command.schema.json")["$defs"],
        ),
    ):
        names = [*strategies_with(field), *(["StrategyPatch"] if "StrategyPatch" in schemas else [])]
        lacking = [name for name in names if alias_of(field) not in schemas[name]["properties"]]
        if lacking:
            yield f"{path}: run make documents ({', '.join(lacking)})"


def missing_from_docs(field: str) -> Iterator[str]:
    (row,) = strategy_rows(field)
    if row not in (ROOT / "docs" / "deployflow.md").read_text().splitlines():
        yield f"docs/deployflow.md: run make documents, its table has no row {row}"


def missing_from_kafka(field: str) -> Iterator[str]:
    value = sample_of(df.STRATEGY_FIELDS[field])
    body = {"id": "1", "type": "deploy", "namespace": "shop", "spec": spec_with(field, value)}
    read = DeployCommand.model_validate_json(json.dumps(body))
    assert read.spec is not None
    if getattr(read.spec.strategy, field) != value:
        yield "shared/domain/deploy_commands.py: a deploy command does not carry it"


async def missing_from_rest(field: str) -> list[str]:
    value = sample_of(df.STRATEGY_FIELDS[field])
    found: list[str] = []

    def hold(answer: httpx.Response, what: str, where: str) -> None:
        if answer.is_error:
            found.append(f"{where}: {what} refuses it: {answer.text}")

    for version in ("v2", "v1"):
        world = World()
        world.cloneset()
        world.pod("web-a")
        world.flow("web-1", status=RUNNING, action=action_of(field))
        where = f"services/planner/api ({version})"
        async with client_of(world, f"/api/{version}/namespaces/shop") as rest:
            patched = await rest.patch("/deployflows/web-1", json={alias_of(field): value})
            hold(patched, "PATCH deployflows", where)
            if version == "v1":
                continue
            read = (await rest.get("/deployflows/web-1")).json()["spec"]
            (strategy,) = (read[name] for name in ("updateStrategy", "nonUpdateStrategy") if name in read)
            if strategy.get(alias_of(field)) != value:
                found.append(f"{where}: PATCH deployflows does not write it")
            hold(
                await rest.post("/plans", json={"spec": spec_with(field, value)}),
                "POST plans",
                where,
            )
            made = {"spec": spec_with(field, value), "queue": True}
            hold(await rest.post("/deployflows", json=made), "POST deployflows", where)
    return found


def missing_from_property_test(field: str) -> Iterator[str]:
    alias = alias_of(field)
    if (alias in drawn_values()) == (alias in NOT_DRAWN):
        yield "tests/simulation/strategies.py: draw it, or say in NOT_DRAWN why not"


PLACES = (
    missing_from_declaration,
    missing_from_planner,
    missing_from_decisions,
    missing_from_crd,
    missing_from_schemas,
    missing_from_docs,
    missing_from_kafka,
    missing_from_property_test,
)


@pytest.mark.parametrize("field", FIELDS, ids=alias_of)
async def test_a_field_of_the_strategy_stands_in_every_place(field: str) -> None:
    missing: list[str] = []
    for place in PLACES:
        try:
            missing += place(field)
        except (TypeError, ValueError) as error:
            missing.append(f"{TEST}, {place.__name__}: {error}")
    missing += await missing_from_rest(field)
    assert not missing, f"{alias_of(field)} is missing from\n" + "\n".join(f"  {item}" for item in missing)


# --- the other way round: nothing else has a field that the model has not ----------------------------------


def test_the_planner_keeps_no_field_that_the_model_has_not() -> None:
    assert set(Strategy.__struct_fields__) == set(NAMES.values())


def test_the_strategies_of_grpc_have_fields_of_the_model() -> None:
    known = {alias_of(field) for field in FIELDS}
    for message in (deployflow_pb2.UpdateStrategy, deployflow_pb2.NonUpdateStrategy):
        assert {field.name for field in message.DESCRIPTOR.fields} <= known


def test_the_planner_writes_a_strategy_to_redis_under_the_names_that_it_reads() -> None:
    """States that are stored already have these keys."""
    assert set(Strategy.__struct_encode_fields__) >= {
        *("batchSize", "interval", "mode", "batches", "stage", "paused", "canceled", "canary", "noPullIn"),
        *("startupTimeout", "pullInTimeout", "bake", "pullOut", "onFailure", "failureThreshold"),
        *("progressDeadline", "retries", "podsToDelete"),
    }
