"""`python -m sandbox.real` builds and downloads the real parts into the cache, and starts none of them."""

from __future__ import annotations

import argparse
import asyncio
import sys

from sandbox.process import SandboxError
from sandbox.real import prerequisites
from sandbox.real.cluster_build import provide
from sandbox.real.java import ELASTICSEARCH_JAVA, elasticsearch, java, kafka


def _say(line: str) -> None:
    print(line, flush=True)


async def _everything() -> None:
    prerequisites.require({})
    # downloads first: what is missing for them is known before ten minutes of building
    await java(ELASTICSEARCH_JAVA, _say)
    await kafka(_say)
    await elasticsearch(_say)
    await provide(_say)


def main() -> int:
    """Run the command; return exit code 1 when something is missing or fails."""
    argparse.ArgumentParser(prog="python -m sandbox.real", description=__doc__).parse_args()
    try:
        asyncio.run(_everything())
    except SandboxError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
