"""The JSON Schemas of deploy commands and of the answers to them, made from the models that read and write them.

`python -m shared.messaging.json_schemas FOLDER` writes them there; the repository keeps them in `docs/schemas`, and a test keeps
the two equal. Other systems check their commands with them before they send them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from shared.domain.deploy_commands import DeployCommand
from shared.domain.replies import DeployCommandReply

MODELS: Final[dict[str, type[BaseModel]]] = {
    "deploy-command.schema.json": DeployCommand,
    "reply.schema.json": DeployCommandReply,
}
"""The models by the name of their file."""


def schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": GenerateJsonSchema.schema_dialect, **model.model_json_schema()}


def text(model: type[BaseModel]) -> str:
    return json.dumps(schema(model), indent=2, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    for name, model in MODELS.items():
        (folder / name).write_text(text(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
