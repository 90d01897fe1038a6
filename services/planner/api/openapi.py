"""The documents of the APIs, served and kept in `docs/`: OpenAPI of REST, AsyncAPI of Kafka.

`python -m services.planner.api.openapi` prints the first.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic.json_schema import models_json_schema

from services.planner.api import models_v2
from shared import asyncapi

router = APIRouter(include_in_schema=False)
SCHEMAS = "#/components/schemas/"
Json = dict[str, Any]


@functools.cache
def _asyncapi() -> str:
    return asyncapi.text()


@router.get("/asyncapi.yaml")
async def get_asyncapi() -> Response:
    return Response(_asyncapi(), media_type="application/yaml")


def document(app: FastAPI) -> Json:
    """Made once for an application."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> Json:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        separate_input_output_schemas=False,
    )
    _, told = models_json_schema(
        [(models_v2.ProblemDetails, "validation")], ref_template=f"{SCHEMAS}{{model}}"
    )
    schemas = made["components"]["schemas"]
    schemas |= told["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of an account of the cluster, as kubectl has it.",
        }
    }
    # where nobody has to log in, a call without a token is as good
    made["security"] = [{"token": []}, {}]
    for path in made["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            about, _, more = operation.pop("description").partition("\n\n")
            operation["summary"] = about.replace("\n", " ").removesuffix(".")
            if more:
                operation["description"] = more
            if "HTTPValidationError" in json.dumps(answers.get("422", "")):
                del answers["422"]
    return made


DESCRIPTION = """\
`/api/v2` answers DeployFlows as the cluster has them, and problems as RFC 9457 has them. `/api/v1` is for programs \
written for the first version: every answer is `{"code", "data", "msg"}`, `code` 0 is success.

What is done, is done as a change of a DeployFlow, with the rights that kubectl needs for it.
"""
TAGS = {
    "DeployFlows": "Releases: to begin, to see, to follow, to change.",
    "Commands": "What a release that is under way is told to do. Done already is done well.",
    "Instances": "What runs, and releases of it that need to be told little.",
    "Plans": "What a release would do.",
    "Many at once": "The same for all instances with certain labels.",
    "v1": "The first version.",
}


def text() -> str:
    from services.planner.api.rest import Unlimited, application

    app = application(cast("Any", None), limits=Unlimited(), body_bytes=0)
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
