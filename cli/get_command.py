"""`triton get`: the releases of a namespace or of all, as a table, as names or as objects."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.exits import BadInput
from cli.options import Where
from cli.output import Format, note, now, say, show, terminal_width
from cli.release_commands import at
from shared.domain.json_types import Json
from shared.domain.safe_text import json_text

if TYPE_CHECKING:
    from datetime import datetime

    from cli.backend import Backend

_SORTS: Final = ("age", "name", "instance", "phase", "namespace")
_WATCH_SECONDS: Final = 2.0
_PATH: Final = re.compile(r"\{([^{}]*)\}")


def _output(text: str | None) -> str | None:
    kind = (text or "").partition("=")[0]
    if text is not None and kind not in {"json", "yaml", "wide", "name", "jsonpath"}:
        msg = f"{text!r} is none of json, yaml, wide, name, jsonpath='{{.metadata.name}}'"
        raise typer.BadParameter(msg)
    if kind == "jsonpath" and not _PATH.search(text or ""):
        msg = "write a path in braces: jsonpath='{.items[*].metadata.name}'"
        raise typer.BadParameter(msg)
    return text


def _sort(text: str) -> str:
    if text not in _SORTS:
        msg = f"{text!r} is none of {', '.join(_SORTS)}"
        raise typer.BadParameter(msg)
    return text


def _phase(text: str | None) -> str | None:
    from shared.domain.deployflow import FlowPhase

    known = {str(phase).lower(): str(phase) for phase in FlowPhase} | {
        "running": "running",
        "waiting": "waiting",
    }
    if text is not None and text.lower() not in known:
        msg = f"{text!r} is none of {', '.join(sorted(known.values()))}"
        raise typer.BadParameter(msg)
    return known[text.lower()] if text is not None else None


def get(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List the releases of all namespaces.")
    ] = False,
    selector: Annotated[
        str,
        typer.Option(
            "--selector", "-l", metavar="LABELS", help="Only those with these labels: app=7,group!=8."
        ),
    ] = "",
    phase: Annotated[
        str | None,
        typer.Option(
            "--phase",
            metavar="PHASE",
            callback=_phase,
            help="Only those in this phase (Success, Failed, Pending …), or that are running, or waiting for a person.",
        ),
    ] = None,
    sort_by: Annotated[
        str,
        typer.Option(
            "--sort-by",
            metavar="COLUMN",
            callback=_sort,
            help=f"One of {', '.join(_SORTS)}. By age, the unfinished ones come first.",
        ),
    ] = "age",
    follow: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the table again whenever it changes, until Ctrl-C.")
    ] = False,
    *,
    where: Where,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FORM",
            callback=_output,
            help="json, yaml, wide, name, or jsonpath='{.items[*].metadata.name}'.",
        ),
    ] = None,
) -> None:
    """List the releases of a namespace, unfinished and newest first, or show one.

    NAME is an instance: then its current release (the unfinished one, else the newest); or a DeployFlow.

    Examples:
      triton get
      triton get -A --phase waiting
      triton get -l app=12122 --sort-by instance -o wide
      triton get 12122-sample-10010 -o yaml
      triton get -o jsonpath='{.items[*].metadata.name}'

    """
    if name and (all_namespaces or selector or phase):
        msg = "a name and -A, -l or --phase: use only one of them"
        raise BadInput(msg)
    if follow and output not in {None, "wide"}:
        msg = "--watch shows a table: leave -o out, or use -o wide"
        raise BadInput(msg)

    async def read(backend: Backend) -> list[Json]:
        if name:
            return [await backend.flow(name)]
        found = await backend.flows(selector=selector, all_namespaces=all_namespaces)
        return sorted_by(sort_by, [flow for flow in found if phase is None or is_in(flow, phase)])

    async def again(backend: Backend) -> None:
        before: list[str] = []
        while True:
            lines = _table(await read(backend), now(), wide=output == "wide", namespaces=all_namespaces)
            # ages change without anything that has happened
            if (known := [re.sub(r"\S+$", "", line) for line in lines]) != before:
                before = known
                say(*lines, "")
            await asyncio.sleep(_WATCH_SECONDS)

    if follow:
        at(where, again)
        return
    flows = at(where, read)
    items: Json = flows[0] if name else {"apiVersion": "v1", "kind": "List", "items": flows}
    if output in {"json", "yaml"}:
        show(items, Format(output))
    elif output == "name":
        say(*(f"deployflow.apps.triton.io/{flow['metadata']['name']}" for flow in flows))
    elif output is not None and output.startswith("jsonpath="):
        say(by_path(items, output.removeprefix("jsonpath=")))
    elif flows:
        say(*_table(flows, now(), wide=output == "wide", namespaces=all_namespaces))
    elif selector or phase:
        note("no releases are like that")
    else:
        place = "any namespace" if all_namespaces else "this namespace"
        note(f"no releases in {place}: start one with `triton apply -f FILE`")


def _table(flows: list[Json], moment: datetime, *, wide: bool, namespaces: bool) -> list[str]:
    from cli.rendering import flow_table

    return flow_table(flows, moment, wide=wide, namespaces=namespaces, width=terminal_width())


def is_in(flow: Json, phase: str) -> bool:
    """Return whether the release is in a phase as the table calls it, or is running or waiting."""
    from cli.outcome import Outcome, outcome_of
    from cli.rendering import phase_of

    if phase in set(Outcome):
        return outcome_of(flow) == phase
    return phase in {phase_of(flow), (flow.get("status") or {}).get("phase") or "Pending"}


def sorted_by(column: str, flows: list[Json]) -> list[Json]:
    """Sort the releases, which are oldest first; the newest first where all else is equal."""
    from cli.rendering import phase_of

    flows = [*reversed(flows)]
    match column:
        case "name":
            return sorted(flows, key=lambda flow: str(flow["metadata"]["name"]))
        case "instance":
            return sorted(flows, key=lambda flow: str(flow["spec"]["application"]["instanceName"]))
        case "namespace":
            return sorted(flows, key=lambda flow: str(flow["metadata"].get("namespace")))
        case "phase":
            return sorted(flows, key=phase_of)
        case _:
            return sorted(flows, key=lambda flow: bool((flow.get("status") or {}).get("finished")))


_STEP: Final = re.compile(r"\.([\w-]+)|\[\*\]|\[(-?\d+)\]|\['([^']+)'\]")


def by_path(value: Json, template: str) -> str:
    """Return the text of a template as kubectl's `-o jsonpath`, of paths of fields, indexes and `[*]`.

    Raises `BadInput` for what else kubectl knows (filters, ranges): `-o json` and jq can do that.
    """

    def found(match: re.Match[str]) -> str:
        return " ".join(_text(one) for one in _at(value, match[1].strip().removeprefix("$")))

    return _PATH.sub(found, template)


def _at(value: Json, path: str) -> list[object]:
    found: list[object] = [value]
    at, rest = 0, path if path.startswith((".", "[")) else f".{path}"
    while at < len(rest):
        step = _STEP.match(rest, at)
        if step is None:
            msg = (
                f"-o jsonpath: {path!r} is no path of fields, indexes and [*]: use -o json with jq for others"
            )
            raise BadInput(msg)
        at = step.end()
        key, index = step[1] or step[3], step[2]
        if key is not None:
            found = [one[key] for one in found if isinstance(one, dict) and key in one]
        elif index is not None:
            wanted = int(index)
            found = [one[wanted] for one in found if isinstance(one, list) and -len(one) <= wanted < len(one)]
        else:
            found = [
                each
                for one in found
                for each in (one if isinstance(one, list) else one.values() if isinstance(one, dict) else [])
            ]
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)
