"""Shell completion: the scripts for each shell, and the names of releases."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from cli.exits import BadInput
from cli.output import verbatim

VARIABLE: Final = "_TRITON_COMPLETE"
"""With it in its environment, `triton` prints what may come next, and does nothing else."""
SHELLS: Final = ("bash", "zsh", "fish")
_SECONDS: Final = 2.0
"""A person waits at the prompt: no names are better than late ones."""


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SHELLS)}.", show_default=False)
    ],
) -> None:
    """Print the script that makes a shell complete commands, options and the names of releases.

    Examples:
      triton completion bash > /etc/bash_completion.d/triton
      triton completion zsh > "${fpath[1]}/_triton"
      triton completion fish > ~/.config/fish/completions/triton.fish

    """
    from typer._completion_classes import completion_init
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        msg = f"{shell} is none of {', '.join(SHELLS)}"
        raise BadInput(msg)
    completion_init()
    verbatim(get_completion_script(prog_name="triton", complete_var=VARIABLE, shell=shell))


def names(incomplete: str) -> list[str]:
    """Return the instances and unfinished releases whose names begin so; none where they can't be read in time."""
    from cli.options import Where
    from cli.reach import reach

    async def read() -> list[str]:
        async with asyncio.timeout(_SECONDS), reach(Where()) as backend:
            flows = await backend.flows()
        instances = {flow["spec"]["application"]["instanceName"] for flow in flows}
        running = {
            flow["metadata"]["name"] for flow in flows if not (flow.get("status") or {}).get("finished")
        }
        return sorted(name for name in instances | running if name.startswith(incomplete))

    try:
        return asyncio.run(read())
    except Exception:
        return []
