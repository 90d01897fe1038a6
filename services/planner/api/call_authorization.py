"""The checks that every call of the APIs begins with: valid names, the caller's right, a managed namespace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from services.planner.api import access
from services.planner.api.access import Access, Caller, Right
from services.planner.api.problem import Kind, Problem
from shared.domain import deployflow as df
from shared.domain.deploy_commands import OBJECT_NAME
from shared.domain.managed_namespaces import NOT_LOOKED_AFTER, explain_border, manages

NAME: Final = OBJECT_NAME
NAMESPACE: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Kubernetes' own patterns."""


class Authorization:
    """`namespaces`: those that this Triton manages; empty: all."""

    def __init__(self, access: Access, namespaces: Sequence[str] = ()) -> None:
        self._access = access
        self._namespaces = namespaces

    async def require(self, caller: Caller, right: Right, namespace: str, name: str = "") -> None:
        """Raise `Problem` unless the caller has the right; `namespace` "" is all of them."""
        check_name(NAMESPACE, namespace)
        check_name(NAME, name)
        await self._access.allow(caller, right, namespace, name)
        if namespace and not manages(self._namespaces, namespace):
            raise Problem(Kind.NOT_FOUND, NOT_LOOKED_AFTER, explain_border(self._namespaces, namespace))

    async def require_release(self, caller: Caller, namespace: str, action: str) -> None:
        """Raise `Problem` unless the caller may begin a release of this action."""
        await self.require(caller, access.CREATE, namespace)
        if action == df.Action.DELETE:
            await self.require(caller, access.DELETE, namespace)


def check_name(pattern: str, text: str) -> None:
    """Raise `Problem` for a text that must not get into a path of the API server; an empty one restricts nothing."""
    if text and not is_name(pattern, text):
        raise Problem(Kind.INVALID, "Invalid", f"{text[:253]!r} is no name of Kubernetes")


def is_name(pattern: str, text: str) -> bool:
    return len(text) <= 253 and re.fullmatch(pattern, text) is not None
