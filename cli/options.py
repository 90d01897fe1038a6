"""The options that several commands share, with the same name and the same help everywhere."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

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
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask Triton's REST API there, not the cluster. Default: TRITON_SERVER.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="PEM",
        help="Who signed the server's certificate. Default: TRITON_SERVER_CA_FILE.",
    ),
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


@dataclass(frozen=True)
class Where:
    """Which cluster or server, and which namespace, as the options say it; `located` puts them in its place."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    server: str | None = None
    ca_file: Path | None = None

    @property
    def named(self) -> bool:
        """Whether an option says whom to ask."""
        return self.kubeconfig is not None or self.server is not None


def server_of(where: Where) -> str | None:
    """The URL of the server, if one is to be asked: a kubeconfig that is named goes before TRITON_SERVER."""
    return where.server or (None if where.kubeconfig else os.environ.get("TRITON_SERVER"))


UNSAID: Final = Where()
_OF_WHERE: Final = {"namespace": Namespace, "kubeconfig": Kubeconfig, "server": Server, "ca_file": CaFile}


def located(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `Where` in the place of its parameter `where`, if it has one."""
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    if parameters.pop("where", None) is None:
        return command

    def run(**given: Any) -> None:
        where = Where(**{name: given.pop(name) for name in _OF_WHERE})
        command(**given, where=where)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OF_WHERE.items()
    ]
    output = parameters.pop("output", None)
    kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters.values()]
    last = [output.replace(kind=inspect.Parameter.KEYWORD_ONLY)] if output else []
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*kept, *more, *last])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*kept, *more, *last)}
    return run
