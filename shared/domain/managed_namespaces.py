"""The border of `TRITON_NAMESPACES`: a Triton acts only in the namespaces that it manages, whoever requests it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NOT_LOOKED_AFTER: Final = "NotLookedAfter"
"""The reason of a refusal, the same on every road."""


def manages(managed: Sequence[str], namespace: str) -> bool:
    """Return whether a Triton that manages these namespaces acts in this one; none named are all."""
    return not managed or namespace in managed


def explain_border(managed: Sequence[str], namespace: str) -> str:
    """Return why a request for this namespace is refused."""
    return f"nobody would act in namespace {namespace}: this Triton manages {', '.join(managed)} (TRITON_NAMESPACES)"
