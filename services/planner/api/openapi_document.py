"""The documents of the APIs that are served: OpenAPI of REST, AsyncAPI of Kafka, and an index that leads to them."""

from __future__ import annotations

import copy
import functools
import html
import json
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema

from services.planner.api import models_v2
from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.messages import FlowEvent
from shared.messaging import asyncapi

router = APIRouter(include_in_schema=False)
SCHEMAS = "#/components/schemas/"


@functools.cache
def _asyncapi() -> str:
    return asyncapi.text()


@router.get("/asyncapi.yaml")
async def get_asyncapi() -> Response:
    return Response(_asyncapi(), media_type="application/yaml")


_INDEX: Final = {
    "/openapi.json": "REST: every call, field and answer (OpenAPI)",
    "/asyncapi.yaml": "Kafka: every topic and message (AsyncAPI)",
    "/api/v2/deployflows": "the releases of all namespaces, newest first",
}
"""Where a caller goes from the index."""


@router.get("/")
@router.get("/api")
@router.get("/api/v1")
@router.get("/api/v2")
@router.get("/docs")
async def get_index(request: Request) -> Response:
    """Return where the documents and the calls are, as a page to a browser. It needs no login, as the documents."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page(document(request.app)))
    grpc = "gRPC: a port of its own, with reflection"
    return JSONResponse({"name": "Triton", "links": _INDEX, "grpc": grpc})


def _page(described: Json) -> str:
    links = [f'<li><a href="{path}">{path}</a>: {text}' for path, text in _INDEX.items()]
    rows = [
        f"<tr><td>{method.upper()}<td><code>{html.escape(path)}</code><td>{html.escape(operation['summary'])}"
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Triton</title>'
        f"<h1>Triton</h1><p>{html.escape(described['info']['summary'])}<ul>{''.join(links)}</ul>"
        f"<table>{''.join(rows)}</table></html>\n"
    )


def document(app: FastAPI) -> Json:
    """Return the OpenAPI document; it is made once for an application."""
    if app.openapi_schema is None:
        app.openapi_schema = _make(app)
    return app.openapi_schema


def _make(app: FastAPI) -> Json:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        separate_input_output_schemas=False,
    )
    models = (models_v2.ProblemDetails, df.DeployFlowSpec, FlowEvent)
    _, shared_schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template=f"{SCHEMAS}{{model}}"
    )
    schemas = document["components"]["schemas"]
    schemas |= shared_schemas["$defs"]
    schemas |= _schemas_by_action(schemas)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of an account of the cluster, as kubectl has it.",
        }
    }
    # where nobody has to log in, a call needs no token
    document["security"] = [{"token": []}, {}]
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            if examples := EXAMPLES.get(operation["operationId"]):
                content = operation["requestBody"]["content"]["application/json"]
                content["examples"] = {name: {"value": value} for name, value in examples.items()}
            summary, _, more = operation.pop("description").partition("\n\n")
            operation["summary"] = summary.replace("\n", " ").removesuffix(".")
            if more:
                operation["description"] = more
            if "HTTPValidationError" in json.dumps(answers.get("422", "")):
                del answers["422"]
    substituted: Json = _substitute(document)
    return substituted


def _schemas_by_action(schemas: Json) -> Json:
    """Return the schemas for what the models check beyond their fields: which action has which ones."""
    application, naming = copy.deepcopy(schemas["Application"]), copy.deepcopy(schemas["NonUpdateStrategy"])
    application["required"].append("template")
    application["properties"]["template"] = {
        "type": "object",
        "description": "A pod template, as Kubernetes has it.",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["containers"],
                "properties": {"containers": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
            }
        },
    }
    old = copy.deepcopy(schemas["Application"])
    old["properties"] |= {"template": application["properties"]["template"]}
    del old["properties"]["selector"], old["properties"]["replicas"]["default"]
    old["description"] = "The application: what is left out is as the instance has it."
    old["required"] = ["instanceName", "template"]
    plain = copy.deepcopy(naming)
    plain["properties"]["podsToDelete"] = {"type": "null"}
    naming["properties"]["podsToDelete"]["anyOf"][0]["uniqueItems"] = True
    place = copy.deepcopy(schemas["Target"])
    place["properties"] = {
        "batches": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
        "stage": {"enum": ["Smoked", "Baking", "Baked"]},
    }
    place["minProperties"] = 1
    plain_actions = [action for action in df.Action if action not in {*df.UPDATING, *df.NAMING}]
    return {
        "ApplicationWithTemplate": application,
        "FirstVersionApplication": old,
        "PlainStrategy": plain,
        "NamingStrategy": naming,
        "Place": place,
        "SpecWithTemplate": _spec(df.UPDATING, "ApplicationWithTemplate", "updateStrategy", "UpdateStrategy"),
        "SpecNamingPods": _spec(df.NAMING, "Application", "nonUpdateStrategy", "NamingStrategy"),
        "PlainSpec": _spec(plain_actions, "Application", "nonUpdateStrategy", "PlainStrategy"),
    }


def _spec(actions: Sequence[str], application: str, field: str, strategy: str) -> Json:
    other = {"updateStrategy", "nonUpdateStrategy"} - {field}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["action", "application"],
        "properties": {
            "action": {"enum": [str(action) for action in actions]},
            "application": _ref(application),
            field: {"anyOf": [_ref(strategy), {"type": "null"}]},
            other.pop(): {"type": "null"},
        },
    }


def _ref(name: str) -> Json:
    return {"type": "null"} if name == "null" else {"$ref": f"{SCHEMAS}{name}"}


def _substitute(value: Any) -> Any:
    """Put the schemas that `x-schema` names in the place of the model's own."""
    if isinstance(value, list):
        return [_substitute(item) for item in value]
    if not isinstance(value, dict):
        return value
    if names := value.get("x-schema"):
        kept = {key: value[key] for key in ("description", "title") if key in value}
        return {**kept, **(_ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]})}
    return {key: _substitute(item) for key, item in value.items()}


DESCRIPTION = """\
`/api/v2` answers DeployFlows as the cluster has them, and problems as RFC 9457 has them. `/api/v1` is for programs \
written for the first version: every answer is `{"code", "data", "msg"}`, `code` 0 is success.

What is done, is done as a change of a DeployFlow, with the rights that kubectl needs for it.
"""
TAGS = {
    "DeployFlows": "Releases: to begin, to see, to follow, to change.",
    "Commands": "Commands for a release that is under way. A command that is carried out already succeeds.",
    "Instances": "Instances, and releases of them that need few parameters.",
    "Plans": "The batches that a release would have.",
    "Many at once": "The same for all instances with certain labels.",
    "v1": "The first version.",
}


_CONTAINER = {"name": "web", "image": "nginx:1.29", "ports": [{"containerPort": 80}]}
_APPLICATION: Json = {
    "appID": 12122,
    "groupID": 10010,
    "appName": "deploy-demo-hello",
    "instanceName": "web",
    "replicas": 3,
    "template": {"spec": {"containers": [_CONTAINER]}},
}
_CANARY: Json = {"canary": 1, "batchSize": "50%", "mode": "auto"}
_RESTART: Json = {
    "action": "restart",
    "application": {name: value for name, value in _APPLICATION.items() if name != "template"},
    "nonUpdateStrategy": {"batchSize": 1, "mode": "auto"},
}
_UPDATE: Json = {"action": "update", "application": _APPLICATION, "updateStrategy": _CANARY}
EXAMPLES: dict[str, dict[str, Json]] = {
    "make_flow": {"update": {"spec": _UPDATE}, "restart": {"spec": _RESTART, "queue": True}},
    "patch_flow": {"faster": {"batchSize": 2, "batchIntervalSeconds": 0}},
    "next_step": {"any": {}, "meant for the canary": {"batch": 1, "stage": "Smoked"}},
    "continue_to": {"up to the second batch": {"target": {"batches": 2, "stage": "Smoked"}}},
    "update": {
        "image": {"image": "nginx:1.29"},
        "with a canary": {"image": "nginx:1.29", "strategy": _CANARY},
    },
    "roll_back": {"last good": {}, "this one": {"deployName": "web-1"}},
    "restart": {"all": {}, "one pod": {"pods": ["web-a"]}},
    "scale": {"count": {"replicas": 5}, "down": {"replicas": 2, "pods": ["web-a"]}},
    "stop": {"by five": {"strategy": {"batchSize": 5}}},
    "start": {"all at once": {}},
    "adopt": {
        "as it is labeled": {},
        "of an application": {"appID": 12122, "groupID": 10010, "appName": "hello"},
    },
    "plan": {"update": {"spec": _UPDATE}},
    "restart_all": {"an application": {"selector": "app=12122", "strategy": {"batchSize": "25%"}}},
    "scale_all": {"an application": {"selector": "app=12122", "replicas": 5}},
    "v1_create_deployflow": {
        "update": {"applicationSpec": _APPLICATION, "updateStrategy": {"batchSize": 1, "mode": "auto"}}
    },
    "v1_patch_deployflow": {"pause": {"paused": True}},
    "v1_roll_back": {"last good": {}, "this one": {"deployName": "web-1"}},
    "v1_restart": {"one pod": {"podsToDelete": ["web-a"], "batchSize": 1}},
    "v1_scale": {"down": {"replicas": 2, "nonUpdateStrategy": {"podsToDelete": ["web-a"]}}},
}
"""Example bodies by operation; the tests send them."""
