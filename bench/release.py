"""How much slower Triton is than the least that the same release can take, and what it costs.

Each run releases a workload twice on one API server, by a bare script (the floor) and by Triton, one after the
other, and compares: seconds differ from machine to machine and from hour to hour, their ratio much less.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable
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

from bench.demo import run_demo
from bench.errors import BenchError
from bench.measure import compare
from bench.progress import say
from bench.report import Results, record, table
from bench.surroundings import in_sandbox
from bench.workloads import DEFAULT, WORKLOADS
from sandbox.embedded import EmbeddedStack
from sandbox.environment import Stack
from sandbox.process import SandboxError
from sandbox.real.stack import RealStack
from shared.errors import Unavailable
from shared.kube.client import ApiError

EXAMPLES: Final = """
examples:
  python bench/release.py --sandbox                  W1 and W3, three runs each, and triton demo
  python bench/release.py --sandbox W1 --runs 5
  python bench/release.py --sandbox W2 --runs 1      500 pods
  python bench/release.py --real W1 W2 --runs 1      on Kafka, Redis, Elasticsearch and Kubernetes with OpenKruise
  python bench/release.py --demo                     triton demo: its time and memory
  python bench/release.py --sandbox --demo -o json > result.json
  python bench/picture.py result.json > docs/images/bench-sandbox.svg

workloads:
"""


def _arguments() -> argparse.Namespace:
    workloads = "\n".join(f"  {workload}" for workload in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python bench/release.py",
        description=__doc__,
        epilog=EXAMPLES
        + workloads
        + "\n\nA missed target is printed and changes no exit code; a release that fails exits with 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--sandbox", action="store_true", help="measure on a sandbox, fresh in each run")
    parser.add_argument(
        "--real",
        action="store_true",
        help="measure on the real parts (triton sandbox --real), fresh in each run",
    )
    parser.add_argument(
        "--demo", action="store_true", help="measure `triton demo`; with --sandbox also beside the W named"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    if given.sandbox and given.real:
        parser.error("--sandbox or --real: one place at a time")
    if not given.sandbox and not given.real and not given.demo:
        parser.error("say where to measure: --sandbox, --real, or --demo")
    if given.workloads and not given.sandbox and not given.real:
        parser.error("workloads are measured with --sandbox or --real")
    if unknown := [name for name in given.workloads if name not in WORKLOADS]:
        parser.error(f"no workload is named {', '.join(unknown)}: there are {', '.join(WORKLOADS)}")
    if given.runs < 1:
        parser.error("--runs: at least 1")
    return given


async def _measure(workloads: list[str], runs: int, results: Results, stack: Callable[[], Stack]) -> None:
    for number in range(1, runs + 1):
        say(f"run {number} of {runs}")
        async with in_sandbox(stack()) as where:
            results.ready_seconds.append(where.ready_seconds)
            say(f"  sandbox ready in {where.ready_seconds:.1f} s")
            for name in workloads:
                run = await compare(where, WORKLOADS[name], number)
                results.workloads.setdefault(name, []).append(run)


async def _run(given: argparse.Namespace) -> Results:
    results = Results(where="real" if given.real else "sandbox")
    if given.sandbox:
        await _measure(given.workloads or list(DEFAULT), given.runs, results, EmbeddedStack)
    if given.real:
        names = given.workloads or list(WORKLOADS)
        await _measure(names, given.runs, results, lambda: RealStack(say, audit=True))
    if given.demo or (given.sandbox and not given.workloads):
        results.demo = await run_demo()
    return results


def _innermost(error: BaseException) -> BaseException:
    """The first error in a group of them, which is what the others come from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> int:
    given = _arguments()
    try:
        results = asyncio.run(_run(given))
    except* (BenchError, SandboxError, Unavailable, ApiError, TimeoutError) as group:
        print(f"error: {_innermost(group) or 'a release took too long'}", file=sys.stderr)
        results = None
    except* KeyboardInterrupt:
        results = None
    if results is None:
        return 1
    print(json.dumps(record(results), indent=1) if given.output == "json" else table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
