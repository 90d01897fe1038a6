"""Writing and reading of CloneSets: the format that executor and readiness must agree on."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from shared.domain.deployflow import GROUP, KIND
from shared.domain.messages import AppRef, CloneSetFacts, FlowRef, Hold
from shared.domain.object_bounds import DEEPEST_READ, TooDeep, count_in, is_deeper, json_in
from shared.kube.reflector import Meta, int_or_percent

SEQUENCE: Final = "apps.triton.io/sequence"
"""Sequence of the last command that was written into this CloneSet."""
REJECTED: Final = "apps.triton.io/rejected"
"""That sequence, where the command was rejected and nothing else of it was written: it stays rejected."""
HOLD: Final = "apps.triton.io/hold"
"""JSON of `Hold`: the new pods of this batch wait for their pull_in."""
REPLICAS: Final = "apps.triton.io/replicas"
"""The replicas that Triton set; another live value was set by somebody else."""
SCALED_TO: Final = "apps.triton.io/scaled-to"
"""The count that somebody else set during the release under way: it leads to that one."""
OWNER_STRATEGY: Final = "apps.triton.io/owner-strategy"
"""JSON of the updateStrategy to put back when the release has finished."""
OWNER_LIFECYCLE: Final = "apps.triton.io/owner-lifecycle"
"""JSON of the lifecycle to put back when a batch that waits goes on."""
STABLE_TEMPLATE: Final = "apps.triton.io/stable-template"
"""JSON of the template of the last successful release, while another is under way."""
STABLE_REVISION: Final = "apps.triton.io/stable-revision"
"""The ControllerRevision of OpenKruise that has that template, where it is too large for an annotation."""
STABLE_CLAIMS: Final = "apps.triton.io/stable-claims"
"""JSON of its volumeClaimTemplates, where the release under way changes them."""
APPLICATION_TYPE: Final = "apps.triton.io/application-type"
STOPPED: Final = "apps.triton.io/stopped-replicas"
"""The replicas before a stop: a start goes back to them."""
RELEASE: Final = "apps.triton.io/release"
"""JSON of `FlowRef`: the release that wrote last, while it is under way; only the log reads it."""
FIRST_RELEASE: Final = "apps.triton.io/first-release"
"""The uid of the create that made this CloneSet, until a release was successful; `CANCELED` once that create was."""
CANCELED: Final = "canceled"
ADOPT: Final = "apps.triton.io/adopt"
"""`true`: somebody who may write the CloneSet has had Triton adopt it, which did not make it."""
ADOPTED_BY: Final = "apps.triton.io/adopted-by"
"""Who requested the adoption, where that came through Triton."""
NO_PULL_IN: Final = "apps.triton.io/no-pull-in"
"""Somebody else opens the gates of this CloneSet's pods."""


MOST_FINALIZERS: Final = 20
"""So many are named of an object that they hold."""
T = TypeVar("T", dict[str, Any], list[Any])
LONGEST_RECORD: Final = 2_000
"""Characters of what Triton writes as JSON into an annotation about a release."""


class CloneSetMeta(Meta, rename="camel", frozen=True):
    owner_references: list[dict[str, Any]] = msgspec.field(default_factory=list)


class Spec(msgspec.Struct, rename="camel", frozen=True):
    replicas: int = 1
    selector: dict[str, Any] = {}
    template: dict[str, Any] = {}
    update_strategy: dict[str, Any] = {}
    scale_strategy: dict[str, Any] = {}
    volume_claim_templates: list[dict[str, Any]] = []
    revision_history_limit: int | None = None
    lifecycle: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Raise `ValueError` for what is too deep: its reader cuts it."""
        if is_deeper([self.template, self.volume_claim_templates, self.lifecycle], DEEPEST_READ):
            raise TooDeep


class Status(msgspec.Struct, rename="camel", frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    updated_ready_replicas: int = 0
    update_revision: str = ""


class CloneSet(msgspec.Struct, frozen=True):
    metadata: CloneSetMeta
    spec: Spec = Spec()
    status: Status = Status()

    @property
    def sequence(self) -> int:
        return count_in(self.metadata.annotations.get(SEQUENCE)) or 0

    @property
    def rejected(self) -> int:
        """Return the sequence of the last command that was rejected for a count of somebody else."""
        return count_in(self.metadata.annotations.get(REJECTED)) or 0

    @property
    def hold(self) -> Hold | None:
        text = self.metadata.annotations.get(HOLD)
        if not text:
            return None
        try:
            return Hold.model_validate_json(_short(text))
        except ValueError:  # somebody wrote into it; the pods that it covered must continue to wait
            return Hold(flow="", batch=0, surge=0, updated=0, others=0)

    @property
    def release(self) -> FlowRef | None:
        return release_of(self.metadata)

    @property
    def app(self) -> AppRef:
        return AppRef.of(self.metadata.labels)

    @property
    def owner(self) -> str:
        """Return the uid of the DeployFlow that owns it, as Triton 0.1.x wrote it; empty for none."""
        return next(
            (str(ref.get("uid") or "") for ref in self.metadata.owner_references if is_deployflow(ref)), ""
        )

    @property
    def other_owners(self) -> list[dict[str, Any]]:
        """Return the owner references without that one."""
        return [ref for ref in self.metadata.owner_references if not is_deployflow(ref)]

    @property
    def replicas_set(self) -> int | None:
        """Return the replicas that Triton wrote last."""
        return count_in(self.metadata.annotations.get(REPLICAS))

    @property
    def scaled_to(self) -> int | None:
        """Return the count that somebody else set during the release under way."""
        return count_in(self.metadata.annotations.get(SCALED_TO))

    @property
    def scaled_by_others(self) -> bool:
        """Return whether the live count is not the one that Triton wrote last."""
        return self.replicas_set is not None and self.spec.replicas != self.replicas_set

    @property
    def stopped(self) -> int:
        """Return the replicas before a stop; 0 if it was not stopped."""
        return count_in(self.metadata.annotations.get(STOPPED)) or 0

    @property
    def has_no_good_template(self) -> bool:
        """Whether the create that made it was canceled, and no release was successful since."""
        return self.metadata.annotations.get(FIRST_RELEASE) == CANCELED

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def settled(self) -> bool:
        return self.status.observed_generation >= self.metadata.generation


def release_of(meta: Meta) -> FlowRef | None:
    """Return the release under way that the CloneSet names; None if none, or if the annotation is unreadable."""
    try:
        return FlowRef.model_validate_json(_short(meta.annotations.get(RELEASE, "")))
    except ValueError:
        return None


def kept_value(live: CloneSet, name: str, kind: type[T]) -> T | None:
    """Return what Triton keeps as JSON in an annotation; None where nothing is, or where somebody has overwritten it."""
    try:
        value = json_in(live.metadata.annotations.get(name, ""))
    except ValueError:
        return None
    return value if isinstance(value, kind) else None


def _short(text: str) -> str:
    """Return what Triton wrote; raise `ValueError` for what is longer: every message would have it."""
    if len(text) > LONGEST_RECORD:
        msg = f"{len(text)} characters"
        raise ValueError(msg)
    return text


def is_deployflow(owner: dict[str, Any]) -> bool:
    return owner.get("kind") == KIND and str(owner.get("apiVersion", "")).startswith(f"{GROUP}/")


def facts_of(cloneset: CloneSet | None) -> CloneSetFacts:
    if cloneset is None:
        return CloneSetFacts(exists=False)
    spec, status = cloneset.spec, cloneset.status
    return CloneSetFacts(
        uid=cloneset.metadata.uid,
        generation=cloneset.metadata.generation,
        observed_generation=status.observed_generation,
        sequence=cloneset.sequence,
        replicas=spec.replicas,
        partition=int_or_percent(spec.update_strategy.get("partition"), spec.replicas),
        update_revision=status.update_revision,
        hold=cloneset.hold,
        owner=cloneset.owner,
        stopped=cloneset.stopped,
        no_pull_in=NO_PULL_IN in cloneset.metadata.annotations,
        no_good_template=cloneset.has_no_good_template,
        replicas_set=cloneset.replicas_set,
        scaled_to=cloneset.scaled_to,
        deleting=cloneset.deleting,
        finalizers=cloneset.metadata.finalizers[:MOST_FINALIZERS] if cloneset.deleting else [],
        status_replicas=status.replicas,
        ready_replicas=status.ready_replicas,
        available_replicas=status.available_replicas,
        updated_replicas=status.updated_replicas,
        updated_ready_replicas=status.updated_ready_replicas,
    )
