"""The options that several commands share, with the same name and the same help everywhere."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.exits import BadInput
from cli.output import Format
from shared.domain.json_types import Json

NAME_HELP = (
    "An instance: its current release (the unfinished one, else the newest); or a DeployFlow, df/NAME where "
    "both have the name."
)

Namespace = Annotated[
    str | None,
    typer.Option(
        "-n", "--namespace", help="Default: the namespace of the kubeconfig's context, else default."
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Default: TRITON_KUBECONFIG, KUBECONFIG, else ~/.kube/config."),
]
Context = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="A context of the kubeconfig. Default: its current one."),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Use Triton's REST API at this URL, not the cluster. Default: TRITON_SERVER.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="PEM",
        help="Certificates of the CA that signed the server's. Default: TRITON_SERVER_CA_FILE.",
    ),
]
Output = Annotated[Format | None, typer.Option("-o", "--output", help="Print JSON or YAML instead of text.")]
NAME: Final = typer.Argument(metavar="NAME", help=NAME_HELP, show_default=False)
Name = Annotated[str, NAME]
INSTANCE: Final = typer.Argument(metavar="NAME", help="The instance.", show_default=False)
Instance = Annotated[str, INSTANCE]
As = Annotated[
    str | None,
    typer.Option(
        "--requested-by",
        metavar="WHO",
        help="The requester's name for the release log. Default: the account's, else $USER.",
    ),
]


def _refuse_as(who: str | None) -> None:
    if who is not None:
        msg = "--as is kubectl's option to act with the rights of another: to name the requester, use --requested-by"
        raise BadInput(msg)


OldAs = Annotated[str | None, typer.Option("--as", hidden=True, callback=_refuse_as)]
Pods = Annotated[
    list[str] | None,
    typer.Option("--pod", metavar="POD", help="A pod to delete; repeat it for several pods."),
]
_Mode = Annotated[str | None, typer.Option("--mode", help="auto or manual.")]
_Interval = Annotated[int | None, typer.Option("--interval", min=0, help="Seconds between batches.")]


Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask where the release has fewer approvals than the last one requested."
    ),
]


def _reason(text: str | None) -> str | None:
    if text is not None and not text.strip():
        msg = "the reason is empty"
        raise typer.BadParameter(msg)
    return text


OverrideFreeze = Annotated[
    str | None,
    typer.Option(
        "--override-freeze",
        metavar="WHY",
        help="Start in a freeze window too; the requester and this reason are recorded.",
        callback=_reason,
    ),
]
File = Annotated[
    str,
    typer.Option(
        "-f", "--filename", metavar="FILE", help="YAML or JSON file with one or more documents; - is stdin."
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Folder for logs, kubeconfig and events. Default: a temporary one."
    ),
]


_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds_of(text: str) -> float:
    """Return the seconds of 90, 90s, 10m or 1h30m; raise `typer.BadParameter`."""
    if text.isdecimal():
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        msg = f"{text} is no time: write it as 90s, 10m or 1h30m"
        raise typer.BadParameter(msg)
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


@dataclass(frozen=True)
class Where:
    """The cluster or server, and the namespace, of a command."""

    namespace: Namespace = None
    kubeconfig: Kubeconfig = None
    server: Server = None
    ca_file: CaFile = None
    context: Context = None

    @property
    def named(self) -> bool:
        """Return whether an option names a cluster or a server."""
        return any(value is not None for value in (self.kubeconfig, self.server, self.context))


@dataclass(frozen=True)
class Request(Where):
    """The options of every command that changes a release: also the requester and the form of the output."""

    requested_by: As = None
    old_as: OldAs = None
    output: Output = None


@dataclass(frozen=True)
class Start(Request):
    """The options of every command that starts a release: also whether it may ask first."""

    yes: Yes = False


@dataclass(frozen=True)
class Pace:
    """The sizes and pauses of the batches of a release."""

    batch_size: Annotated[
        str | None, typer.Option("--batch-size", help="A count or a share: 2, 25%. Default: all at once.")
    ] = None
    mode: Annotated[str | None, typer.Option("--mode", help="auto or manual. Default: auto.")] = None
    interval: _Interval = None

    def strategy(self) -> Json:
        """Return the fields of the strategy that the options set."""
        return strategy_of(self.batch_size, self.mode, self.interval)


@dataclass(frozen=True)
class UpdatePace:
    """The same of an update; an option that is absent keeps the value that the last create or update requested."""

    batch_size: Annotated[str | None, typer.Option("--batch-size", help="A count or a share: 2, 25%.")] = None
    canary: Annotated[int | None, typer.Option("--canary", help="Pods of the canary; 0: none.")] = None
    mode: _Mode = None
    interval: _Interval = None

    def strategy(self) -> Json:
        """Return the fields of the strategy that the options set."""
        return strategy_of(self.batch_size, self.mode, self.interval, canary=self.canary)


def strategy_of(
    batch_size: str | None = None,
    mode: str | None = None,
    interval: int | None = None,
    *,
    canary: int | None = None,
) -> Json:
    """Return the strategy fields for these values, without those that are None.

    Raises `BadInput` for a batch size of 0: in a DeployFlow it means that none is set, and nobody types it for that.
    """
    if batch_size and _INTEGER.fullmatch(batch_size) and not int(batch_size):
        msg = "--batch-size: a batch has at least one pod: use a count from 1 or a percentage like 25% (received: 0)"
        raise BadInput(msg)
    values = {
        "batchSize": int(batch_size) if batch_size and _INTEGER.fullmatch(batch_size) else batch_size,
        "mode": mode,
        "batchIntervalSeconds": interval,
        "canary": canary,
    }
    return {name: value for name, value in values.items() if value is not None}


def server_of(where: Where) -> str | None:
    """Return the URL of the server to use, None for the cluster: --kubeconfig and --context override TRITON_SERVER."""
    by_cluster = where.kubeconfig or where.context
    return where.server or (None if by_cluster else os.environ.get("TRITON_SERVER"))


_INTEGER: Final = re.compile(r"[+-]?\d+")
_GROUPS: Final = (Where, Request, Start, Pace, UpdatePace)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each parameter that is a group of options replaced by the options themselves."""
    parameters = inspect.signature(command, eval_str=True).parameters
    groups = {name: each.annotation for name, each in parameters.items() if each.annotation in _GROUPS}
    options: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        members = _members(groups[name]) if name in groups else [parameter]
        options += [member.replace(kind=inspect.Parameter.KEYWORD_ONLY) for member in members]

    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _members(group: type) -> list[inspect.Parameter]:
    return list(inspect.signature(group, eval_str=True).parameters.values())
