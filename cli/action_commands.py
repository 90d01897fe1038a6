"""The verbs that start a release of an instance that there is, or that go on with one after a failure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exits import FAILED, BadInput
from cli.options import UNSAID, As, Name, Output, OverrideFreeze, Where
from cli.output import Format, note, show
from cli.releases import at, steer

if TYPE_CHECKING:
    from cli.backends import Wanted
    from shared.domain.deployflow import DeployFlowSpec
    from shared.releases.specs import Known

Json = dict[str, Any]

Instance = Annotated[str, typer.Argument(metavar="NAME", help="The instance.", show_default=False)]
BatchSize = Annotated[
    str | None, typer.Option("--batch-size", help="A count or a share: 2, 25%. Default: all at once.")
]
Mode = Annotated[str | None, typer.Option("--mode", help="auto or manual. Default: auto.")]
Interval = Annotated[int | None, typer.Option("--interval", min=0, help="Seconds between batches.")]
Pods = Annotated[
    list[str] | None,
    typer.Option("--pod", metavar="POD", help="A pod that goes; may be given several times."),
]


def _begin(wanted: Wanted, where: Where, requested_by: str | None, output: Format | None) -> None:
    """Begin the release, if there is anything to do, and print its name."""
    from cli.control import requester

    made = at(where, lambda backend: backend.begin(wanted, requester(requested_by)))
    if made is None:
        return
    if output is None:
        print(made["metadata"]["name"])
    else:
        show(made, output)


def update(
    instance: Instance,
    image: Annotated[str, typer.Option("--image", help="The new image.", show_default=False)],
    container: Annotated[
        str | None, typer.Option("--container", help="Needed where there are several.")
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", min=0)] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", help="A count or a share: 2, 25%.")
    ] = None,
    canary: Annotated[int | None, typer.Option("--canary", help="Pods of the canary; 0: none.")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="auto or manual.")] = None,
    interval: Annotated[int | None, typer.Option("--interval", help="Seconds between batches.")] = None,
    override_freeze: OverrideFreeze = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Release a new image of an instance.

    All else stays as in its last successful release, and as many pods as there are. Prints the name of the new DeployFlow.

    Examples:
      triton update web --image registry.example.com/web:2.1
      triton update web --image web:2.1 --batch-size 25% --canary 1 --mode auto

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    strategy = paced(batch_size, mode, interval, canary=canary)
    override = override_freeze or ""
    wanted = Wanted(
        instance,
        lambda known: specs.update(known, specs.Wish(image, container, replicas, strategy)),
        lambda server: server.triton.update(
            instance,
            image,
            container=container,
            replicas=replicas,
            strategy=strategy,
            queue=True,
            freeze_override=override,
        ),
        freeze_override=override,
    )
    _begin(wanted, where, requested_by, output)


def rollback(
    instance: Instance,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DEPLOYFLOW", help="Default: the last successful one before this."),
    ] = None,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Go back to what an earlier release of an instance had released.

    Whatever its current release does, also in the middle of a batch: that one becomes Aborted, and pods that still have the template stay. Prints the name of the new DeployFlow.

    Examples:
      triton rollback web
      triton rollback web --to web-kvnpb --batch-size 25%

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)

    def build(known: Known) -> DeployFlowSpec:
        base, spec = specs.rollback(known, to, asked)
        note(f"{instance} goes back to {specs.title(base)}")
        return spec

    wanted = Wanted(instance, build, lambda server: server.rollback(instance, to, asked))
    _begin(wanted, where, requested_by, output)


def restart(
    instance: Instance,
    pods: Pods = None,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Replace all pods of an instance, or those named, by fresh ones.

    A fresh pod serves before the one that it replaces goes. Prints the name of the new DeployFlow.

    Examples:
      triton restart web --batch-size 25%
      triton restart web --pod web-zh98f --pod web-k2x4d

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)
    wanted = Wanted(
        instance,
        lambda known: specs.restart(known, {**asked, **_naming(pods)}),
        lambda server: server.triton.restart(instance, pods=pods or (), strategy=asked, queue=True),
        pods=bool(pods),
    )
    _begin(wanted, where, requested_by, output)


def scale(
    instance: Instance,
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, help="How many there are in the end.", show_default=False)
    ],
    pods: Pods = None,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Change how many pods an instance has.

    Where it gets fewer, pods named go first. Prints the name of the new DeployFlow.

    Examples:
      triton scale web --replicas 12 --batch-size 2
      triton scale web --replicas 2 --pod web-zh98f

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)

    def build(known: Known) -> DeployFlowSpec | None:
        spec = specs.scale(known, replicas, {**asked, **_naming(pods)})
        if spec is None:
            note(f"{instance} has {replicas} replicas already: nothing to do")
        return spec

    wanted = Wanted(
        instance,
        build,
        lambda server: server.scale(instance, replicas, pods or (), asked),
        pods=bool(pods),
    )
    _begin(wanted, where, requested_by, output)


def stop(
    instance: Instance,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Take all pods of an instance away, and remember how many there were.

    Prints the name of the new DeployFlow.

    Examples:
      triton stop web
      triton stop web --batch-size 25% --interval 60

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)
    wanted = Wanted(
        instance,
        lambda known: specs.stop(known, asked),
        lambda server: server.triton.stop(instance, strategy=asked, queue=True),
    )
    _begin(wanted, where, requested_by, output)


def start(
    instance: Instance,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Make the pods of a stopped instance again, as many as there were.

    Prints the name of the new DeployFlow.

    Examples:
      triton start web
      triton start web --batch-size 2

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)
    wanted = Wanted(
        instance,
        lambda known: specs.start(known, asked),
        lambda server: server.triton.start(instance, strategy=asked, queue=True),
    )
    _begin(wanted, where, requested_by, output)


def delete(
    instance: Instance,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    batch_size: BatchSize = None,
    mode: Mode = None,
    interval: Interval = None,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Take an instance away: all its pods, then its CloneSet.

    Its DeployFlows stay. Asks first; where there is no terminal, --yes is needed. Prints the name of the new DeployFlow.

    Examples:
      triton delete web
      triton delete web --yes --batch-size 25%

    """
    from cli.backends import Wanted
    from cli.strategy import paced
    from shared.releases import specs

    asked = paced(batch_size, mode, interval)
    if not yes:
        if not sys.stdin.isatty():
            msg = "--yes: there is no terminal to ask on, and a delete can't be undone"
            raise BadInput(msg)
        pods = at(where, lambda backend: backend.replicas(instance))
        if not typer.confirm(f"Delete {instance} with its {pods} pods for good?", err=True):
            note("nothing is deleted")
            raise typer.Exit(FAILED)
    wanted = Wanted(
        instance,
        lambda known: specs.delete(known, asked),
        lambda server: server.delete(instance, asked),
    )
    _begin(wanted, where, requested_by, output)


def _naming(pods: list[str] | None) -> Json:
    return {"podsToDelete": pods} if pods else {}


def retry(
    name: Name,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Start the failed batch of a release anew.

    Its pods that do not serve go, fresh ones take their place.

    Example:
      triton retry 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    steer(name, CommandType.RETRY, where, requested_by, output=output)


def promote(
    name: Name,
    requested_by: As = None,
    where: Where = UNSAID,
    output: Output = None,
) -> None:
    """Let a release go past every gate, to its end.

    It asks nobody any more; intervals and bakes last as long as they last, and a failure still stops it.

    Example:
      triton promote 12122-sample-10010

    """
    from shared.domain.deploy_commands import CommandType

    steer(name, CommandType.PROMOTE, where, requested_by, output=output)
