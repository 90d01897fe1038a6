"""What a campaign has come to: its numbers by kind of disturbance and by action, as a table and as JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.campaigns.kinds import KINDS
from bench.campaigns.player import Played
from shared.domain.json_types import Json


@dataclass
class Results:
    """Everything that was played. `seconds`: of the whole campaign, without the start of the sandbox."""

    where: str
    seed: int
    played: list[Played] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, played: Played) -> None:
        self.played.append(played)

    @property
    def releases(self) -> int:
        return sum(played.releases for played in self.played)

    @property
    def violated(self) -> list[Played]:
        return [played for played in self.played if played.violations]

    @property
    def done(self) -> Counter[str]:
        """Return how many disturbances of each kind were carried out."""
        return sum((played.done for played in self.played), Counter[str]())

    @property
    def missed(self) -> Counter[str]:
        return sum((played.missed for played in self.played), Counter[str]())

    @property
    def ends(self) -> Counter[tuple[str, str]]:
        return sum((played.ends for played in self.played), Counter[tuple[str, str]]())


def record(results: Results) -> Json:
    return {
        "where": results.where,
        "seed": results.seed,
        "seconds": round(results.seconds, 1),
        "stories": len(results.played),
        "releases": results.releases,
        "ends": [
            {"action": action, "phase": phase, "releases": count}
            for (action, phase), count in sorted(results.ends.items())
        ],
        "disturbances": {
            name: {"group": kind.group, "done": results.done[name], "missed": results.missed[name]}
            for name, kind in KINDS.items()
            if name in results.done or name in results.missed
        },
        "violations": [
            {
                "story": played.story.as_json(),
                "checks": [violation._asdict() for violation in played.violations],
                "seen": played.facts,
            }
            for played in results.violated
        ],
    }


def table(results: Results) -> str:
    violations = f"{len(results.violated) or 'no'} violation{'' if len(results.violated) == 1 else 's'}"
    stories = f"{results.releases} releases in {len(results.played)} stories on {results.where}"
    lines = [
        *_ends(results.ends),
        "",
        f"{'disturbance':<20}{'group':<12}{'carried out':>12}{'not met':>9}",
    ]
    lines += [
        f"{name:<20}{kind.group:<12}{results.done[name]:>12}{results.missed[name]:>9}"
        for name, kind in KINDS.items()
        if name in results.done or name in results.missed
    ]
    headline = f"{stories}, seed {results.seed}, {results.seconds:.0f} s: {violations}"
    return "\n".join([*lines, "", headline])


def _ends(ends: Counter[tuple[str, str]]) -> list[str]:
    actions = sorted({action for action, _ in ends})
    phases = sorted({phase for _, phase in ends})
    header = f"{'action':<12}" + "".join(f"{phase:>14}" for phase in phases)
    return [
        header,
        *(f"{action:<12}" + "".join(f"{ends[action, phase]:>14}" for phase in phases) for action in actions),
    ]


def explained(played: Played, where: str, file: str) -> str:
    """Describe a violation: what does not hold, the story, what was seen, and how to see it again."""
    flag = "--sandbox" if where == "sandbox" else "--real"
    lines: Sequence[str] = (
        f"VIOLATION in story {played.story.number} of seed {played.story.seed} (namespace {played.namespace})",
        *(f"  {violation}" for violation in played.violations),
        *str(played.story).splitlines(),
        "seen:",
        *(f"  {fact}" for fact in played.facts),
        "again:",
        f"  python bench/campaign.py {flag} --story {shlex.quote(file)}",
        f"  python bench/campaign.py {flag} --story {shlex.quote(file)} --shrink",
    )
    return "\n".join(lines)
