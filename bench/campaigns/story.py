"""A story: one instance, the releases of it one after the other, and what happens around each. A value; JSON in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from bench.campaigns.kinds import KINDS
from shared.domain.deployflow import UPDATING, Action
from shared.domain.json_types import Json

GOOD: Final = "good"
NEVER_READY: Final = ("crash", "hang", "imagepull", "never-ready")
"""Images whose containers never become ready."""
SICK_LATER: Final = ("crash-after-ready", "unready-after-ready")
"""Images whose pods take traffic and fail then."""
AFTER_FAILURE: Final = ("cancel", "retry", "rollback", "update")
AT_ONCE: Final = "Applied"
PHASES: Final = (AT_ONCE, "Smoking", "Smoked", "Baking", "Baked", "BatchFinished", "Failed", "Ending")
"""What a disturbance waits for: that the release is applied, that a batch is in that phase, that a batch has failed, or
that the release was canceled.
"""


class BadStory(Exception):
    """A text that is no story."""


@dataclass(frozen=True)
class Disturbance:
    """Of that kind, `delay` seconds after the release has come to the phase; `args`: what the kind needs."""

    kind: str
    phase: str = AT_ONCE
    delay: float = 0.0
    args: Json = field(default_factory=dict)

    def __str__(self) -> str:
        when = "at once" if self.phase == AT_ONCE else f"at {self.phase}"
        wait = f" + {self.delay:g} s" if self.delay else ""
        what = " ".join(f"{name}={value}" for name, value in self.args.items())
        return f"{self.kind} {when}{wait}{f' ({what})' if what else ''}"


@dataclass(frozen=True)
class Release:
    """`change`: pods more or less than before it. `image`: what its pods do, see sandbox/kubernetes/behaviours.py.

    `after_failure`: what a person does when a batch of it has failed.
    """

    action: Action
    change: int = 0
    image: str = GOOD
    strategy: Json = field(default_factory=dict)
    after_failure: str = "cancel"
    disturbances: tuple[Disturbance, ...] = ()

    @property
    def updating(self) -> bool:
        return self.action in UPDATING

    def __str__(self) -> str:
        count = f" {self.change:+}" if self.change else ""
        image = f" to {self.image}" if self.updating and self.image != GOOD else ""
        strategy = " ".join(f"{name}={value}" for name, value in self.strategy.items())
        around = "".join(f"\n    {disturbance}" for disturbance in self.disturbances)
        return f"{self.action}{count}{image} {strategy}{around}"


@dataclass(frozen=True)
class Story:
    """`number`: which one of its seed it is. `replicas`: of the create that it begins with."""

    seed: int
    number: int
    replicas: int
    releases: tuple[Release, ...]

    def __str__(self) -> str:
        releases = "".join(f"\n  {release}" for release in self.releases)
        return f"story {self.number} of seed {self.seed}: {self.replicas} replicas{releases}"

    @property
    def kinds(self) -> set[str]:
        return {disturbance.kind for release in self.releases for disturbance in release.disturbances}

    @property
    def size(self) -> int:
        """Return how much there is in it: releases, disturbances and fields."""
        return sum(
            10
            + len(release.strategy)
            + abs(release.change)
            + (release.image != GOOD)
            + sum(5 + (d.delay > 0) for d in release.disturbances)
            for release in self.releases
        )

    def as_json(self) -> Json:
        return asdict(self)

    @classmethod
    def of(cls, body: Any) -> Self:
        """Read what `as_json` wrote; raise `BadStory`."""
        try:
            return cls(
                **{
                    **body,
                    "releases": tuple(
                        Release(
                            **{
                                **release,
                                "action": Action(release["action"]),
                                "disturbances": tuple(map(_disturbance, release.get("disturbances") or ())),
                            }
                        )
                        for release in body["releases"]
                    ),
                }
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            msg = f"this is no story: {error!r}"
            raise BadStory(msg) from error


def _disturbance(body: Json) -> Disturbance:
    found = Disturbance(**body)
    if found.kind not in KINDS:
        msg = f"no kind of disturbance is named {found.kind}"
        raise ValueError(msg)
    if found.phase not in PHASES:
        msg = f"no phase is named {found.phase}: there are {', '.join(PHASES)}"
        raise ValueError(msg)
    return found


def written(stories: Sequence[Story]) -> str:
    return json.dumps([story.as_json() for story in stories], indent=1)


def read(text: str) -> list[Story]:
    """Return the stories of a file; raise `BadStory`."""
    try:
        bodies = json.loads(text)
    except ValueError as error:
        msg = f"this is no JSON: {error}"
        raise BadStory(msg) from error
    return [Story.of(body) for body in (bodies if isinstance(bodies, list) else [bodies])]
