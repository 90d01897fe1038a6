"""Random releases with random people, neighbours and faults around them, and whether all that Triton promises holds.

A story is one instance with some releases, one after the other, and what happens around each: it follows from the seed and
its number. Many are played at once on one sandbox. While they run and when they have come to rest, the API server's
objects and the release log are compared with what must hold. docs/campaign.md has the kinds of disturbances and the checks.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # started as a script: the folder above is not on the path then
    root = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))
    if importlib.util.find_spec("aiokafka") is None:
        # by a Python that lacks the project's packages
        own = root / ".venv" / "bin" / "python"
        if not own.exists() or Path(sys.prefix) == own.parents[1]:
            sys.exit("error: packages are missing: run `make .venv/.ready` first")
        os.execv(own, [str(own), *sys.argv])

from bench.campaigns.generator import story
from bench.campaigns.kinds import KINDS, Group, UnknownKind, choose
from bench.campaigns.place import running
from bench.campaigns.results import Results, record, table
from bench.campaigns.runner import Plan, run, stories
from bench.campaigns.story import BadStory, Story, read
from bench.progress import say
from sandbox.process import SandboxError
from shared.errors import Unavailable
from shared.kube.client import ApiError

EXAMPLES: Final = """
examples:
  python bench/campaign.py --sandbox --releases 200 --seed 7
  python bench/campaign.py --sandbox --seconds 120 --seed 7 --instances 10
  python bench/campaign.py --real --releases 600 --seed 1          on Kafka, etcd, kube-apiserver and OpenKruise
  python bench/campaign.py --sandbox --seed 7 --only scale,hpa     no other disturbances
  python bench/campaign.py --sandbox --seed 7 --without faults,namespace
  python bench/campaign.py --sandbox --seed 7 --numbers 12,15      these stories of the seed alone
  python bench/campaign.py --sandbox --story story-7-12-90.json --shrink
  python bench/campaign.py --seed 7 --numbers 12 --show            print the story, play nothing

exit codes: 0 nothing was violated, 1 something was (or the sandbox did not start), 2 the arguments are wrong

disturbances, for --only and --without (a group stands for all of it):
"""


def _arguments() -> argparse.Namespace:
    kinds = "\n".join(
        f"  {group}\n" + "\n".join(f"    {k.name:<19}{k.meaning}" for k in KINDS.values() if k.group == group)
        for group in Group
    )
    parser = argparse.ArgumentParser(
        prog="python bench/campaign.py",
        description=__doc__,
        epilog=EXAMPLES + kinds,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sandbox", action="store_true", help="play on a sandbox")
    parser.add_argument("--real", action="store_true", help="play on the real parts (triton sandbox --real)")
    parser.add_argument(
        "--releases", type=int, metavar="N", help="begin no story after so many (default: 100)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="begin no story after this time")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="what the stories follow from (default: 1)"
    )
    parser.add_argument(
        "--instances", type=int, default=10, metavar="N", help="stories at once (default: 10)"
    )
    parser.add_argument("--only", metavar="KIND,…", help="disturbances of these kinds only; `none` for none")
    parser.add_argument("--without", default="", metavar="KIND,…", help="no disturbances of these kinds")
    parser.add_argument("--numbers", metavar="N,…", help="play only these stories of the seed")
    parser.add_argument("--story", type=Path, metavar="FILE", help="play the stories of a file instead")
    parser.add_argument(
        "--times", type=int, default=1, metavar="N", help="play each of them so often (default: 1)"
    )
    parser.add_argument("--shrink", action="store_true", help="make the first story that violates shorter")
    parser.add_argument("--show", action="store_true", help="print the stories and play nothing")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="for the stories that violate (default: here)",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    if given.sandbox and given.real:
        parser.error("--sandbox or --real: one place at a time")
    if not given.sandbox and not given.real and not given.show:
        parser.error("say where to play: --sandbox or --real")
    if given.instances < 1 or given.times < 1:
        parser.error("--instances and --times: at least 1")
    if given.show and given.story is None and not given.numbers:
        parser.error("--show: say which, by --numbers or --story")
    try:
        given.kinds = _kinds(given)
        given.stories = _chosen(given)
    except (UnknownKind, BadStory, OSError, ValueError) as error:
        parser.error(str(error))
    if given.releases is None and given.seconds is None and given.stories is None:
        given.releases = 100
    return given


def _kinds(given: argparse.Namespace) -> list[str]:
    without = [name for name in given.without.split(",") if name]
    only = None if given.only is None else [name for name in given.only.split(",") if name != "none"]
    return choose(only, without, real=given.real)


def _chosen(given: argparse.Namespace) -> list[Story] | None:
    """Return the stories that the arguments name; None for those of the seed, one after the other."""
    if given.story is None and not given.numbers:
        return None
    found: list[Story]
    if given.story is not None:
        found = read(given.story.read_text())
    else:
        found = [story(given.seed, int(number), given.kinds) for number in given.numbers.split(",")]
    times: int = given.times
    return found * times


async def _run(given: argparse.Namespace) -> Results:
    plan = Plan(
        seed=given.seed,
        instances=given.instances,
        releases=given.releases,
        seconds=given.seconds,
        kinds=given.kinds,
        folder=given.folder,
        shrinks=given.shrink,
    )
    say("starting the sandbox")
    async with running(real=given.real, say=say) as place:
        return await run(place, plan, stories(plan) if given.stories is None else given.stories, say)


@contextmanager
def _errors_in_a_line() -> Iterator[None]:
    try:
        yield
    except* (SandboxError, Unavailable, ApiError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"error: {error}", file=sys.stderr)
    except* KeyboardInterrupt:
        pass


def main() -> int:
    given = _arguments()
    if given.show:
        print(*given.stories, sep="\n\n")
        return 0
    results: Results | None = None
    with _errors_in_a_line():
        results = asyncio.run(_run(given))
    if results is None:
        return 1
    print(json.dumps(record(results), indent=1) if given.output == "json" else table(results))
    return 1 if results.violated else 0


if __name__ == "__main__":
    sys.exit(main())
