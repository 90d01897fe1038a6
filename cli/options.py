"""The options that several commands share, with the same name and the same help everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import Format

NAME_HELP = "A DeployFlow, or an instance: then its current release (the unfinished one, else the newest)."

Namespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", help="Default: that of the kubeconfig's context, else default."),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Default: TRITON_KUBECONFIG, KUBECONFIG, else ~/.kube/config."),
]
Output = Annotated[Format | None, typer.Option("-o", "--output", help="For programs, instead of text.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP, show_default=False)]
As = Annotated[
    str | None, typer.Option("--as", metavar="WHO", help="Who asks, for the release log. Default: $USER.")
]


def _why(text: str | None) -> str | None:
    if text is not None and not text.strip():
        msg = "say why"
        raise typer.BadParameter(msg)
    return text


OverrideFreeze = Annotated[
    str | None,
    typer.Option(
        "--override-freeze",
        metavar="WHY",
        help="Begin in a freeze window too; who and why go on record.",
        callback=_why,
    ),
]
File = Annotated[
    str,
    typer.Option("-f", "--filename", metavar="FILE", help="YAML or JSON, one or more documents; - is stdin."),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Where logs, kubeconfig and events go. Default: a temporary one."
    ),
]
