"""What the options of the verbs say of a new release, as its strategy has it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def paced(
    batch_size: str | None = None, mode: str | None = None, interval: int | None = None, **more: Any
) -> Json:
    """The strategy fields of the options; what was not given is left to Triton."""
    asked = {"batchSize": _batch_size(batch_size), "mode": mode, "batchIntervalSeconds": interval, **more}
    return {key: value for key, value in asked.items() if value is not None and value != []}


def _batch_size(text: str | None) -> int | str | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text
