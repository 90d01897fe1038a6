"""Objects as the checks read them, and how the images of a campaign are named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from bench.campaigns.story import GOOD, NEVER_READY
from shared.domain.deployflow import UPDATING, containers_of
from shared.domain.json_types import Json
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from shared.kube.reflector import Meta, milliseconds

INSTANCE: Final = "app"
"""Every story has a namespace of its own, so that all instances have one name."""


class Flow(msgspec.Struct, frozen=True):
    """A DeployFlow."""

    metadata: Meta
    spec: Json
    status: Json = {}

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or "Pending")

    @property
    def finished(self) -> bool:
        return bool(self.status.get("finished"))

    @property
    def reason(self) -> str:
        return str(self.status.get("reason") or "")

    @property
    def message(self) -> str:
        return str(self.status.get("message") or "")

    @property
    def conditions(self) -> list[Json]:
        return self.status.get("conditions") or []

    @property
    def action(self) -> str:
        return str(self.spec["action"])

    @property
    def image(self) -> str:
        containers = containers_of(self.spec["application"].get("template"))
        return str(containers[0]["image"]) if containers and self.action in UPDATING else ""

    @property
    def replicas(self) -> int:
        return int(self.spec["application"].get("replicas", 1))

    @property
    def finished_batches(self) -> int:
        return int(self.status.get("finishedBatches") or 0)

    @property
    def started_at(self) -> int:
        """Return when it started, in milliseconds since 1970; 0 where it did not."""
        return milliseconds(self.status.get("startedAt"))

    @property
    def finished_at(self) -> int:
        return milliseconds(self.status.get("finishedAt"))

    @property
    def baked(self) -> bool:
        """Return whether pods of it were accepted: they stay when it is canceled."""
        return any(condition["phase"] == "Baked" for condition in self.conditions)


@dataclass
class Snapshot:
    """What the cluster has of one instance: its DeployFlows by name, its CloneSet and its pods by uid."""

    flows: dict[str, Flow] = field(default_factory=dict)
    cloneset: CloneSet | None = None
    pods: dict[str, Pod] = field(default_factory=dict)

    @property
    def live(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if not pod.deleting]

    @property
    def unfinished(self) -> list[Flow]:
        """Return the releases that have not finished, those that run before those that wait."""
        found = [flow for flow in self.flows.values() if not flow.finished]
        return sorted(found, key=lambda flow: (not flow.started_at, flow.started_at))


def image_name(number: int, does: str) -> str:
    """Return an image that no other release of the story has, whose pods do that."""
    return f"app{number}:{does}"


def does(image: str) -> str:
    return image.rpartition(":")[2]


def never_ready(image: str) -> bool:
    return does(image) in NEVER_READY


def stays_well(image: str) -> bool:
    return does(image) == GOOD


def image_of(pod: Pod) -> str:
    return pod.spec.containers[0].image if pod.spec.containers else ""
