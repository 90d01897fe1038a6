"""The interface between the commands and where releases are kept: the cluster itself or Triton's REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shared.domain.deploy_commands import DeployCommand
from shared.domain.deployflow import DeployFlowSpec, Unsaid
from shared.domain.json_types import Json
from shared.releases.specs import Known

if TYPE_CHECKING:
    from cli.manifests import Document
    from triton_client import AsyncTriton, DeployFlow


class NewRelease(NamedTuple):
    """A new release of an existing instance: how to build its spec here, and how to request it from a server.

    Both return None where there is nothing to do. `names_pods`: `build` needs the names of the instance's pods.
    `unsaid`: what the caller left open.
    """

    instance: str
    build: Callable[[Known], DeployFlowSpec | None]
    request: Callable[[AsyncTriton], Awaitable[DeployFlow | None]]
    names_pods: bool = False
    freeze_override: str = ""
    unsaid: Unsaid = Unsaid.NOTHING


class Outlook(NamedTuple):
    """A release before it is made: its spec, its plan as an object (or why there is none), and the releases of its
    instance, oldest first. `where`: the document that it comes from.
    """

    spec: DeployFlowSpec
    plan: Json
    releases: Sequence[Json]
    where: str = ""


Approve = Callable[[Outlook], None]
"""Shows what a release would do; raises where it is not to be made."""


class Adoption(NamedTuple):
    """A CloneSet to adopt, with the application that it belongs to; None: as its labels say."""

    instance: str
    app_id: int | None
    group_id: int | None
    app_name: str | None


class Backend(Protocol):
    """Access to the releases of one namespace. A DeployFlow is JSON as the cluster has it."""

    async def flow(self, name: str) -> Json:
        """Return the DeployFlow of that name; for an instance its current release, else its newest."""

    async def flows(self, *, selector: str = "", all_namespaces: bool = False) -> list[Json]:
        """Return all DeployFlows with these labels, oldest first."""

    def follow(self, name: str) -> AsyncIterator[Json]:
        """Yield the DeployFlow now and after each change; raises `Failure` once it is deleted."""

    async def requester(self, name: str | None) -> str:
        """Return the name to record as the requester: `name`, else the account's or that of the user of this machine."""

    async def begin(self, release: NewRelease, requested_by: str, approve: Approve) -> Json | None:
        """Create the release, once it is approved, and return it; None where there is nothing to do."""

    async def command(self, flow: Json, command: DeployCommand) -> str:
        """Carry out the command and return the line that reports its result."""

    def accepts(self, document: Document) -> None:
        """Raise `BadInput` for a document that this backend can't apply."""

    async def apply(
        self, document: Document, *, namespace_explicit: bool, requested_by: str, approve: Approve
    ) -> str:
        """Create or change the object and return the line that reports the result; a new release is approved first."""

    async def plan(self, document: Document, spec: DeployFlowSpec) -> Json:
        """Return the plan as an object, or the reason why there is none."""

    async def adopt(self, adoption: Adoption, requested_by: str) -> Json:
        """Have Triton adopt a CloneSet that it did not make; return the result as the cluster or the server has it."""

    async def known(self, instance: str) -> Known:
        """Return the releases of an instance and its CloneSet."""

    async def replicas(self, instance: str) -> int:
        """Return the wanted number of replicas of the instance."""
