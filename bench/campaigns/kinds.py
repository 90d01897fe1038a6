"""The kinds of disturbances, each by its name: `--only` and `--without` choose among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Group(StrEnum):
    PEOPLE = "people"
    NEIGHBOURS = "neighbours"
    FAULTS = "faults"


@dataclass(frozen=True)
class Kind:
    """`weight`: how often it is drawn. `excuses`: a healthy release may fail because of it. `everywhere`: it disturbs
    all instances, not one. `last`: nothing can be released after it.
    """

    name: str
    group: Group
    meaning: str
    weight: int = 3
    excuses: bool = False
    everywhere: bool = False
    last: bool = False
    real_only: bool = False


_KINDS: Final = (
    Kind("pause", Group.PEOPLE, "pauses the release, and resumes it later", 5),
    Kind("cancel", Group.PEOPLE, "cancels the release", 4),
    Kind("retry", Group.PEOPLE, "retries, whether or not a batch has failed"),
    Kind("rollback", Group.PEOPLE, "rolls the instance back in the middle of the release"),
    Kind("second-release", Group.PEOPLE, "applies an update behind the release"),
    Kind("promote", Group.PEOPLE, "approves all that is left of the release"),
    Kind("batch-size", Group.PEOPLE, "changes `batchSize`"),
    Kind("strategy-edit", Group.PEOPLE, "changes another field of the strategy"),
    Kind("spec-back", Group.PEOPLE, "applies the manifest again as it was at first (GitOps)"),
    Kind("delete-release", Group.PEOPLE, "deletes the DeployFlow", 2),
    Kind("create-again", Group.PEOPLE, "applies a create over the instance", 1),
    Kind("scale", Group.NEIGHBOURS, "scales the CloneSet", 5),
    Kind("hpa", Group.NEIGHBOURS, "scales the CloneSet to one number again and again, as an HPA does"),
    Kind("scale-zero", Group.NEIGHBOURS, "scales the CloneSet to 0, and up again later", 1),
    Kind("pod-deletion", Group.NEIGHBOURS, "deletes a pod", 4, excuses=True),
    Kind("eviction", Group.NEIGHBOURS, "evicts a pod", excuses=True),
    Kind("drain", Group.NEIGHBOURS, "cordons a node and evicts the instance's pods there", 2, excuses=True),
    Kind("label-off", Group.NEIGHBOURS, "takes the instance label off a pod", 2, excuses=True),
    Kind("pod-label", Group.NEIGHBOURS, "puts a label of its own on the pods"),
    Kind(
        "cloneset-labels", Group.NEIGHBOURS, "takes Triton's labels off the CloneSet, and puts them back", 2
    ),
    Kind("cloneset-edit", Group.NEIGHBOURS, "edits the CloneSet where no release writes"),
    Kind("cloneset-deletion", Group.NEIGHBOURS, "deletes the CloneSet", 1, excuses=True),
    Kind("quota", Group.NEIGHBOURS, "forbids more pods by a ResourceQuota for a while", 2, excuses=True),
    Kind(
        "policy",
        Group.NEIGHBOURS,
        "refuses changes of CloneSets by a ValidatingAdmissionPolicy for a while",
        2,
        excuses=True,
    ),
    Kind(
        "webhook",
        Group.NEIGHBOURS,
        "puts a webhook that does not answer before CloneSets for a while",
        2,
        excuses=True,
        real_only=True,
    ),
    Kind("namespace", Group.NEIGHBOURS, "deletes the namespace", 1, excuses=True, last=True),
    Kind("kill", Group.FAULTS, "ends a service by kill -9", everywhere=True),
    Kind("stop", Group.FAULTS, "stops a service by SIGSTOP for a while", 2, everywhere=True),
    Kind("redis-emptied", Group.FAULTS, "empties Redis", 2, everywhere=True),
    Kind("watch-closed", Group.FAULTS, "closes all watches of the services", 2, everywhere=True),
    Kind("gone-storm", Group.FAULTS, "answers watches with 410 for a while", 2, everywhere=True),
    Kind(
        "conflict-storm",
        Group.FAULTS,
        "answers half of the guarded writes with 409 for a while",
        2,
        everywhere=True,
    ),
    Kind("busy-storm", Group.FAULTS, "answers half of all requests with 429 for a while", 2, everywhere=True),
    Kind(
        "kafka-restarted",
        Group.FAULTS,
        "ends Kafka's broker by kill -9 and starts it again",
        2,
        everywhere=True,
        real_only=True,
    ),
)
KINDS: Final = {kind.name: kind for kind in _KINDS}


class UnknownKind(Exception):
    """A name that is no kind of disturbance."""


def choose(only: Iterable[str] | None, without: Iterable[str], *, real: bool) -> list[str]:
    """Return the names of the kinds to draw from, in the order of the table; raise `UnknownKind`."""
    without = set(without)
    unknown = sorted({*(only or ()), *without} - {*KINDS, *Group})
    if unknown:
        msg = f"no kind of disturbance is named {', '.join(unknown)}: there are {', '.join(KINDS)}"
        raise UnknownKind(msg)
    chosen = set(KINDS) if only is None else _named(only)
    return [
        kind.name for kind in _KINDS if kind.name in chosen - _named(without) and (real or not kind.real_only)
    ]


def _named(names: Iterable[str]) -> set[str]:
    """Return the kinds of these names; that of a group stands for all of the group."""
    wanted = set(names)
    return {kind.name for kind in _KINDS if kind.name in wanted or kind.group in wanted}
