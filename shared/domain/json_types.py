"""The type of JSON objects, such as the resources of Kubernetes."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
