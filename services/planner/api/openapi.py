"""Prints the OpenAPI document of REST: `python -m services.planner.api.openapi`, kept in `docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from services.planner.api.rate_limits import Unlimited
from services.planner.api.rest_app import application


def text() -> str:
    app = application(cast("Any", None), limits=Unlimited(), body_bytes=0)
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
