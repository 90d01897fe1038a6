"""Decides which release a name on the command line stands for: the DeployFlow's own name, or its instance's."""

from __future__ import annotations

from typing import Final, Protocol

from cli.exits import BadInput, Failure
from shared.domain.json_types import Json

KINDS: Final = ("deployflow", "deployflows", "df")
"""Before a name and a slash, as for kubectl: the name of a DeployFlow, whatever an instance is called."""


class Names(Protocol):
    """What is known of the names of one namespace."""

    @property
    def namespace(self) -> str:
        """Return the name of the namespace."""

    async def deployflow(self, name: str) -> Json | None:
        """Return the DeployFlow of that name."""

    async def has_instance(self, name: str) -> bool:
        """Return whether there is an instance of that name; one whose first release has made no CloneSet need not count."""

    async def releases(self, instance: str) -> list[Json]:
        """Return all DeployFlows of an instance, oldest first."""


async def resolve(name: str, names: Names) -> Json:
    """Return the DeployFlow that `name` stands for; for an instance its current release, else its newest.

    A manifest often gives the first DeployFlow the name of its instance: once it has finished, the name is the
    instance's. Raises `BadInput` where a DeployFlow of another instance has the name of an instance, and `Failure` where
    nothing has it.
    """
    kind, slash, rest = name.rpartition("/")
    if slash and kind not in KINDS:
        msg = f"{name}: only df/NAME names a DeployFlow, and NAME alone an instance or a DeployFlow"
        raise BadInput(msg)
    flow = await names.deployflow(rest)
    if slash:
        if flow is None:
            msg = f"no DeployFlow is named {rest} in namespace {names.namespace}: see `triton get`"
            raise Failure(msg)
        return flow
    if flow is not None:
        instance = flow["spec"]["application"]["instanceName"]
        if instance == name and not (flow.get("status") or {}).get("finished"):
            return flow
        if instance != name and await names.has_instance(name):
            msg = (
                f"{name} is an instance, and also a DeployFlow of instance {instance}: "
                f"df/{name} names that one, and `triton history {name}` has the names of the instance's releases"
            )
            raise BadInput(msg)
        if instance != name:
            return flow
    found = await names.releases(name)
    if not found:
        msg = (
            f"no DeployFlow and no instance with releases is named {name} in namespace {names.namespace}: "
            "see `triton get`"
        )
        raise Failure(msg)
    return current_release(found)


def current_release(releases: list[Json]) -> Json:
    """Return the running release, else the next to run, else the newest; `releases` are sorted, oldest first."""
    unfinished = [flow for flow in releases if not (flow.get("status") or {}).get("finished")]
    started = [flow for flow in unfinished if (flow.get("status") or {}).get("startedAt")]
    return (started or unfinished or releases[-1:])[0]
