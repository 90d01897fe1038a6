"""The commands that start, show and control releases. Each imports what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from cli.exits import FAILED, BadInput, Failure
from cli.options import As, File, Name, OldAs, Output, OverrideFreeze, Request, Where, Yes, seconds_of
from cli.output import ask, note, now, say, show
from shared.domain.json_types import Json

if TYPE_CHECKING:
    from cli.backend import Approve, Backend
    from cli.manifests import Document
    from shared.domain.deploy_commands import CommandType, Target
    from shared.domain.deployflow import BatchPhase, DeployFlowSpec
    from shared.releases.specs import Known

T = TypeVar("T")


def at(where: Where, work: Callable[[Backend], Awaitable[T]]) -> T:
    """Run `work` with the cluster or server that the options name, and return its result."""
    from cli.interrupts import run
    from cli.reach import reach

    async def reached() -> T:
        async with reach(where) as backend:
            return await work(backend)

    return run(reached())


def start(where: Where, work: Callable[[Backend, Approve], Awaitable[T]], *, yes: bool) -> T:
    """Run `work`, which starts releases. On a terminal ask about those that are less careful, unless `yes`.

    Started again after an answer, `work` goes on where it was.
    """
    from cli.approval import Approval, Unapproved

    approval = Approval(ask=not yes and sys.stdin.isatty())
    while True:
        try:
            return at(where, lambda backend: work(backend, approval))
        except Unapproved as stopped:
            if not ask("Start it?"):
                note("nothing is started")
                raise typer.Exit(FAILED) from None
            approval.approved.append(stopped.spec)


def apply(
    filename: File,
    override_freeze: OverrideFreeze = None,
    requested_by: As = None,
    old_as: OldAs = None,  # noqa: ARG001
    yes: Yes = False,
    *,
    where: Where,
) -> None:
    """Create or change the objects of a file.

    The file may hold DeployFlows and any other kinds. DeployFlows are checked before anything is sent: an invalid field is named, and nothing is changed.

    Examples:
      triton apply -f examples/nginx-deployflow.yaml
      triton apply -f fix.yaml --override-freeze "the shop is down"
      kustomize build . | triton apply -f -

    """
    from cli import manifests

    documents = manifests.read(filename)
    for document in documents:
        if document.is_flow:
            document.spec()

    namespace_explicit = where.namespace is not None

    left = [
        document.overriding_freeze(override_freeze) if override_freeze else document for document in documents
    ]

    async def work(backend: Backend, approve: Approve) -> None:
        requester = await backend.requester(requested_by)
        for document in left:
            backend.accepts(document)
        while left:
            done = await backend.apply(
                left[0], namespace_explicit=namespace_explicit, requested_by=requester, approve=approve
            )
            say(done)
            del left[0]

    start(where, work, yes=yes)


def plan(
    filename: File,
    *,
    where: Where,
    output: Output = None,
) -> None:
    """Show the batch plan of a file's DeployFlows without starting anything.

    The plan starts from the live CloneSet. Without a cluster it assumes that there is no CloneSet, and says so.

    Examples:
      triton plan -f examples/nginx-deployflow.yaml
      triton plan -f update.yaml -o json

    """
    from cli import manifests, planning

    flows = [document for document in manifests.read(filename) if document.is_flow]
    if not flows:
        msg = f"{filename}: there is no DeployFlow to plan"
        raise BadInput(msg)
    specs = [flow.spec() for flow in flows]
    plans = _plans(list(zip(flows, specs, strict=True)), where)
    made = [(spec, plan) for spec, plan in zip(specs, plans, strict=True) if "refused" not in plan]
    if output is not None:
        show(plans[0] if len(plans) == 1 else plans, output)
    else:
        for number, (spec, plan) in enumerate(made):
            say(*([""] if number else []), *planning.plan_lines(spec, plan))
    refused = [
        f"{flow.where}: {plan['refused']}"
        for flow, plan in zip(flows, plans, strict=True)
        if "refused" in plan
    ]
    if refused:
        raise BadInput("; ".join(refused))


def _plans(flows: list[tuple[Document, DeployFlowSpec]], where: Where) -> list[Json]:
    """Return the plans as objects; if no option names a cluster and none answers, from assumptions about the CloneSet."""
    from cli.planning import planned
    from services.planner.views.plan_preview import suppose
    from shared.errors import Unavailable

    async def work(backend: Backend) -> list[Json]:
        return [await backend.plan(document, spec) for document, spec in flows]

    try:
        return at(where, work)
    except (Failure, Unavailable) as error:
        if where.named:
            raise
        assumed = all(spec.updating for _, spec in flows)
        what = (
            "assuming that there is no CloneSet yet" if assumed else "assuming the number of pods in the file"
        )
        note(f"no cluster ({error}): {what}")
        return [planned(spec, suppose(spec)) for _, spec in flows]


def describe(
    name: Name,
    *,
    where: Where,
    output: Output = None,
) -> None:
    """Show a release: first where it stands, then what can be done about it, then all details.

    Examples:
      triton describe 12122-sample-10010-df
      triton describe 12122-sample-10010

    """
    from cli import rendering

    async def work(backend: Backend) -> tuple[Json, Known | None]:
        flow = await backend.flow(name)
        asks = output is None and not (flow.get("status") or {}).get("finished")
        return flow, await backend.known(flow["spec"]["application"]["instanceName"]) if asks else None

    flow, known = at(where, work)
    if output is not None:
        show(flow, output)
    else:
        say(*rendering.describe(flow, now(), known))


def status(
    name: Name,
    *,
    where: Where,
    output: Output = None,
) -> None:
    """Say in one line where a release stands; for scripts, by the exit code.

    Exit codes:
      0 finished with Success
      1 finished otherwise, or stands at a failed batch
      3 waits for a person
      5 goes on by itself

    Examples:
      triton status web
      triton status web -o json
      triton watch web --exit-on failure,wait --timeout 30m    # waits for it

    """
    from cli.headline import headline, ways
    from cli.outcome import EXIT_CODES, outcome_of

    flow = at(where, lambda backend: backend.flow(name))
    outcome = outcome_of(flow)
    if output is not None:
        state = flow.get("status") or {}
        show(
            {
                "name": flow["metadata"]["name"],
                "namespace": flow["metadata"]["namespace"],
                "instance": flow["spec"]["application"]["instanceName"],
                "outcome": str(outcome),
                "phase": state.get("phase") or "Pending",
                "reason": state.get("reason") or "",
                "message": state.get("message") or "",
                "batches": state.get("batches", 0),
                "finishedBatches": state.get("finishedBatches", 0),
                "commands": [way.command for way in ways(flow, None)],
            },
            output,
        )
    else:
        say(f"{flow['metadata']['name']}: {headline(flow, now())}")
    if code := EXIT_CODES[outcome]:
        raise typer.Exit(code)


_EXIT_ON: Final = {"failure": "failed", "wait": "waiting"}


def _exit_on(text: str | None) -> str | None:
    unknown = [word for word in (text or "").split(",") if word and word not in {*_EXIT_ON, "end"}]
    if unknown:
        msg = f"{unknown[0]} is none of {', '.join(_EXIT_ON)}, end"
        raise typer.BadParameter(msg)
    return text


def watch(
    name: Name,
    exit_on: Annotated[
        str,
        typer.Option(
            "--exit-on",
            metavar="WHAT",
            callback=_exit_on,
            help="Before its end, exit also on: failure (it stands at a failed batch), wait (it waits for a "
            "person), both (failure,wait), or on neither (end).",
        ),
    ] = "failure",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="TIME", parser=seconds_of, help="90s, 10m, 1h30m. Default: none."),
    ] = None,
    *,
    where: Where,
    output: Output = None,
) -> None:
    """Follow a release live until it is finished, or needs somebody.

    A live picture on a terminal, else one line per change with its time. When the release waits for a person it shows the command that continues it.

    Exit codes:
      0 finished with Success
      1 finished otherwise, or stands at a failed batch
      3 waits for a person (only with --exit-on wait)
      4 timed out; the release goes on

    Examples:
      triton watch 12122-sample-10010
      triton watch 12122-sample-10010 --exit-on failure,wait --timeout 30m    # in CI
      triton watch 12122-sample-10010 -o json     # the DeployFlow, at the end

    """
    from cli import watching
    from cli.outcome import EXIT_CODES, Outcome, outcome_of

    until = [Outcome(_EXIT_ON[word]) for word in exit_on.split(",") if word in _EXIT_ON]

    async def work(backend: Backend) -> Json:
        found = (await backend.flow(name))["metadata"]["name"]
        quiet = watching.PlainScreen(lambda _: None)
        screen = quiet if output else watching.screen()
        flow = await watching.watch(backend, found, screen, until, timeout)
        if output is not None:
            show(await backend.flow(f"df/{found}"), output)
        return flow

    code = EXIT_CODES[outcome_of(at(where, work))]
    if code:
        raise typer.Exit(code)


def _send(
    name: str,
    kind: CommandType,
    request: Request,
    *,
    place: tuple[int, BatchPhase | None] | None = None,
    target: Target | None = None,
) -> None:
    """Send the command to the release and print its result. `place`: batch and stage that a `next` is meant for."""
    from cli import control
    from shared.domain.deploy_commands import CommandType

    async def work(backend: Backend) -> None:
        flow = await backend.flow(name)
        batch, stage = place or (control.place_of(flow) if kind == CommandType.NEXT else (None, None))
        requested_by = await backend.requester(request.requested_by)
        command = control.command_for(flow, kind, requested_by, batch=batch, stage=stage, target=target)
        result = await backend.command(flow, command)
        if request.output is None:
            say(result)
        else:
            show(await backend.flow(f"df/{flow['metadata']['name']}"), request.output)

    at(request, work)


def next_(
    name: Name,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="The batch it is meant for: once past it, nothing happens."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="The phase it is meant for: Smoked, Baking or Baked.")
    ] = None,
    *,
    request: Request,
) -> None:
    """Approve the next step of a release that waits.

    Send traffic to the canary, accept it, start the next batch. Pressed twice in the same place, it takes effect once.

    Examples:
      triton next 12122-sample-10010
      triton next 12122-sample-10010 --batch 1 --stage Smoked

    """
    from shared.domain.deploy_commands import CommandType

    meant = _stage(stage)
    if meant is not None and batch is None:
        msg = "--stage needs --batch: name the batch that it is meant for"
        raise typer.BadParameter(msg)
    _send(name, CommandType.NEXT, request, place=None if batch is None else (batch, meant))


def continue_(
    name: Name,
    batches: Annotated[
        int | None, typer.Option("--batches", min=1, help="The last batch that is approved.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="The last approved phase of it: Smoked, Baking or Baked.")
    ] = None,
    *,
    request: Request,
) -> None:
    """Approve a release up to a batch, a phase, or both.

    Examples:
      triton continue web --batches 3
      triton continue web --batches 1 --stage Baking

    """
    from shared.domain.deploy_commands import CommandType, Target

    if batches is None and stage is None:
        msg = "say how far: --batches N, --stage S, or both"
        raise typer.BadParameter(msg)
    _send(name, CommandType.CONTINUE, request, target=Target(batches=batches, stage=_stage(stage)))


def _stage(text: str | None) -> BatchPhase | None:
    from shared.domain.deployflow import BatchPhase

    if text is None:
        return None
    stages = (BatchPhase.SMOKED, BatchPhase.BAKING, BatchPhase.BAKED)
    for stage in stages:
        if stage.lower() == text.lower():
            return stage
    msg = f"{text!r} is no phase to wait in: use one of {', '.join(stages)}"
    raise typer.BadParameter(msg, param_hint="--stage")


def promote(name: Name, request: Request) -> None:
    """Approve a release to its end.

    It waits for no more approvals; intervals and bakes keep their lengths, and a failure still stops it.

    Example:
      triton promote 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    _send(name, CommandType.PROMOTE, request)


def retry(name: Name, request: Request) -> None:
    """Start the failed batch of a release again.

    Its pods that do not serve are deleted, and new ones are made.

    Example:
      triton retry 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    _send(name, CommandType.RETRY, request)


def pause(name: Name, request: Request) -> None:
    """Pause a release where it is.

    No new batch starts and no pod is made until it is resumed.

    Example:
      triton pause 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    _send(name, CommandType.PAUSE, request)


def resume(name: Name, request: Request) -> None:
    """Resume a paused release.

    Example:
      triton resume 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    _send(name, CommandType.RESUME, request)


def cancel(name: Name, request: Request) -> None:
    """End a release for good.

    New pods that are not baked are deleted; the wanted number of pods keeps serving.

    Example:
      triton cancel 12122-sample-10010 --requested-by on-call

    """
    from shared.domain.deploy_commands import CommandType

    _send(name, CommandType.CANCEL, request)
