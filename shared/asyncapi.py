"""The AsyncAPI document: what goes over Kafka, made from the same models that the services read and write with.

`python -m shared.asyncapi` prints it; the repository keeps it in `docs/asyncapi.yaml`, and a test keeps the two
equal. Other systems' authors write their deploy commands by it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import yaml
from pydantic.json_schema import models_json_schema

from shared import messages as m
from shared import topics
from shared.asyncapi_examples import EXAMPLES
from shared.commands import DeployCommand
from shared.deployflow import Wire
from shared.settings import Settings

Json = dict[str, Any]
Model = type[m.Message] | type[DeployCommand]

VERSION: Final = "1.0.0"
SCHEMAS: Final = "#/components/schemas/"
PREFIX: Final = "triton"
