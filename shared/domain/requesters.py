"""How the name of a requester is shown: one that nobody has checked is a claim, and is not to be read as a fact."""

from __future__ import annotations


def show_requester(name: str, *, claimed: bool) -> str:
    """Return the name, marked where whoever sent the request wrote it and nobody checked it; empty where there is none."""
    return f"{name} (claimed)" if name and claimed else name
