"""The commands about releases: what they take and print. The work itself is imported when one of them runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli.exits import FAILED, BadInput, Failure
from cli.options import UNSAID, As, File, Name, Output, OverrideFreeze, Where
from cli.output import Format, note, now, show

if TYPE_CHECKING:
    from cli.backends import Backend
    from cli.manifests import Document
    from shared.domain.deploy_commands import CommandType, Target
    from shared.domain.deployflow import BatchPhase, DeployFlowSpec

Json = dict[str, Any]
T = TypeVar("T")


def at(where: Where, work: Callable[[Backend], Awaitable[T]]) -> T:
    """What `work` returns, done with the cluster or server that the options name."""
    from cli.backends import reach
    from cli.interrupts import run

    async def reached() -> T:
        async with reach(where) as backend:
            return await work(backend)

    return run(reached())


def apply(
    filename: File,
    override_freeze: OverrideFreeze = None,
    requested_by: As = None,
    where: Where = UNSAID,
) -> None:
    """Create or change the objects of a file.

    DeployFlows, and whatever else is in it. DeployFlows are checked before anything is sent; a field that does not fit is named and nothing is changed.

    Examples:
      triton apply -f examples/nginx-deployflow.yaml
      triton apply -f fix.yaml --override-freeze "the shop is down"
      kustomize build . | triton apply -f -

    """
    from cli import control, manifests

    documents = manifests.read(filename)
    who = control.requester(requested_by)
    if override_freeze:
        documents = [document.overriding_freeze(override_freeze, who) for document in documents]
    for document in documents:
        if document.is_flow:
            document.spec()

    given = where.namespace is not None

    async def work(backend: Backend) -> None:
        for document in documents:
            backend.accepts(document)
        for document in documents:
            print(await backend.apply(document, namespace_given=given, requested_by=who))

    at(where, work)


def plan(
    filename: File,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Show the whole batch plan of a file's DeployFlows.

    Nothing is started. The plan starts from the live CloneSet. Without a cluster it assumes that there is none, and says so.

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
            print(*([""] if number else []), *planning.plan_lines(spec, plan), sep="\n")
    refused = [
        f"{flow.where}: {plan['refused']}"
        for flow, plan in zip(flows, plans, strict=True)
        if "refused" in plan
    ]
    if refused:
        raise BadInput("; ".join(refused))


def _plans(flows: list[tuple[Document, DeployFlowSpec]], where: Where) -> list[Json]:
    """For programs; where no cluster answers, and nobody named one, of what may be supposed."""
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
        what = "assuming that there is no CloneSet yet" if assumed else "assuming what the file tells"
        note(f"no cluster ({error}): {what}")
        return [planned(spec, suppose(spec)) for _, spec in flows]


def get(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """List the releases of a namespace, or show one.

    NAME is a DeployFlow, or an instance: then its current release (the unfinished one, else the newest).

    Examples:
      triton get
      triton get 12122-sample-10010 -o yaml

    """
    from cli.rendering import flow_table

    async def work(backend: Backend) -> list[Json]:
        return [await backend.flow(name)] if name else await backend.flows()

    flows = at(where, work)
    if output is not None:
        show(flows[0] if name else {"apiVersion": "v1", "kind": "List", "items": flows}, output)
    elif flows:
        print(*flow_table(flows, now()), sep="\n")
    else:
        note("no releases here: start one with `triton apply -f FILE`")


def describe(
    name: Name,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Show all about a release, and what it waits for.

    Examples:
      triton describe 12122-sample-10010-df
      triton describe 12122-sample-10010

    """
    from cli import rendering

    flow = at(where, lambda backend: backend.flow(name))
    if output is not None:
        show(flow, output)
    else:
        print(*rendering.describe(flow, now()), sep="\n")


def watch(
    name: Name,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Follow a release live until it is over.

    Exit code 0 after Success, 1 after any other end. Bars on a terminal, one line a change elsewhere. It says when the release waits for a person, and which
    command lets it go on.

    Examples:
      triton watch 12122-sample-10010
      triton watch 12122-sample-10010 -o json     # the finished DeployFlow, when it is over

    """
    from cli import watching

    async def work(backend: Backend) -> str:
        found = (await backend.flow(name))["metadata"]["name"]
        quiet = watching.PlainScreen(lambda _: None)
        view = await watching.watch(backend, found, quiet if output else watching.screen())
        if output is not None:
            show(await backend.flow(found), output)
        return view.phase

    if at(where, work) != "Success":
        raise typer.Exit(FAILED)


def steer(
    name: str,
    kind: CommandType,
    where: Where,
    requested_by: str | None,
    *,
    batch: int | None = None,
    stage: BatchPhase | None = None,
    target: Target | None = None,
    output: Format | None = None,
) -> None:
    """Let a running release do something, and say what it came to."""
    from cli import control
    from shared.domain.deploy_commands import CommandType

    async def work(backend: Backend) -> None:
        flow = await backend.flow(name)
        place = (batch, stage)
        if kind == CommandType.NEXT and batch is None:
            place = control.meant_for(flow)
        who = control.requester(requested_by)
        command = control.command_for(flow, kind, who, batch=place[0], stage=place[1], target=target)
        said = await backend.command(flow, command)
        if output is None:
            print(said)
        else:
            show(await backend.flow(flow["metadata"]["name"]), output)

    at(where, work)


def next_(
    name: Name,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="The batch it is meant for: past it, nothing happens."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="The phase it is meant for: Smoked, Baking or Baked.")
    ] = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Let a waiting release go one step on.

    Pull the canary in, count it as baked, start the next batch. Pressed twice at the same place, it advances once.

    Examples:
      triton next 12122-sample-10010
      triton next 12122-sample-10010 --batch 1 --stage Smoked

    """
    from shared.domain.deploy_commands import CommandType

    if stage is not None and batch is None:
        msg = "--stage needs --batch: the stage of which batch?"
        raise typer.BadParameter(msg)
    meant = _stage(stage)
    steer(name, CommandType.NEXT, where, requested_by, batch=batch, stage=meant, output=output)


def continue_(
    name: Name,
    batches: Annotated[
        int | None, typer.Option("--batches", min=1, help="How many batches may go ahead.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="How far the last of them: Smoked, Baking or Baked.")
    ] = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Let a release go on up to a batch or a stage.

    Examples:
      triton continue web --batches 3
      triton continue web --batches 1 --stage Baking

    """
    from shared.domain.deploy_commands import CommandType, Target

    if batches is None and stage is None:
        msg = "say how far: --batches N, --stage S, or both"
        raise typer.BadParameter(msg)
    target = Target(batches=batches, stage=_stage(stage))
    steer(name, CommandType.CONTINUE, where, requested_by, target=target, output=output)


def _stage(text: str | None) -> BatchPhase | None:
    from shared.domain.deployflow import BatchPhase

    if text is None:
        return None
    stages = (BatchPhase.SMOKED, BatchPhase.BAKING, BatchPhase.BAKED)
    for stage in stages:
        if stage.lower() == text.lower():
            return stage
    msg = f"{text!r} is no stage to stop at: one of {', '.join(stages)}"
    raise typer.BadParameter(msg, param_hint="--stage")


def pause(
    name: Name,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Stop a release where it is.

    No new batch begins and no pod is made until it is resumed.

    Example:
      triton pause 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    steer(name, CommandType.PAUSE, where, requested_by, output=output)


def resume(
    name: Name,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Let a paused release go on.

    Example:
      triton resume 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    steer(name, CommandType.RESUME, where, requested_by, output=output)


def cancel(
    name: Name,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """End a release for good.

    Pods that were never baked go, the wanted count keeps serving.

    Example:
      triton cancel 12122-sample-10010 --as on-call

    """
    from shared.domain.deploy_commands import CommandType

    steer(name, CommandType.CANCEL, where, requested_by, output=output)
