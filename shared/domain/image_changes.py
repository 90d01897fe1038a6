"""The images that a release changes, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from shared.domain.json_types import Json

_SHOWN: Final = 2
"""Containers by name; of more only the number is said."""


class Change(Protocol):
    @property
    def container(self) -> str: ...
    @property
    def from_image(self) -> str: ...
    @property
    def to_image(self) -> str: ...


class Container(NamedTuple):
    """A change as JSON has it: the entry of `.status`."""

    container: str
    from_image: str
    to_image: str


def changes_in(status: Json) -> list[Container]:
    """Return the changes of a `.status`."""
    return [
        Container(one["container"], one.get("fromImage") or "", one.get("toImage") or "")
        for one in status.get("images") or []
    ]


def describe_images(changes: Sequence[Change]) -> str:
    """Return `web:2.0 → web:3.0`; of several containers each with its name, and of many the first two.

    Of a create, which replaces no image, the new ones alone.
    """
    replaces = any(one.from_image for one in changes)
    texts = [
        f"{one.from_image or 'none'} → {one.to_image or 'none'}" if replaces else one.to_image
        for one in changes[:_SHOWN]
    ]
    if len(changes) > 1:
        texts = [f"{one.container} {text}" for one, text in zip(changes, texts, strict=False)]
    more = len(changes) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
