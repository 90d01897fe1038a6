"""The commands that start a new release of an existing instance, and print the name of its DeployFlow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import FAILED, BadInput
from cli.options import Instance, OverrideFreeze, Pace, Pods, Request, Start, UpdatePace
from cli.output import ask, note, say, show
from cli.release_commands import at
from cli.release_commands import start as start_release

if TYPE_CHECKING:
    from cli.backend import Approve, Backend, NewRelease
    from shared.domain.json_types import Json


def _begin(release: NewRelease, request: Request, *, yes: bool) -> None:
    """Create the release, if there is anything to do, and print its name."""

    async def work(backend: Backend, approve: Approve) -> Json | None:
        return await backend.begin(release, await backend.requester(request.requested_by), approve)

    made = start_release(request, work, yes=yes)
    if made is None:
        return
    if request.output is None:
        say(made["metadata"]["name"])
    else:
        show(made, request.output)


def update(
    instance: Instance,
    image: Annotated[str, typer.Option("--image", help="The new image.", show_default=False)],
    container: Annotated[
        str | None, typer.Option("--container", help="Required if there are several.")
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", min=0)] = None,
    *,
    pace: UpdatePace,
    override_freeze: OverrideFreeze = None,
    request: Start,
) -> None:
    """Release a new image of an instance.

    Everything else stays as in the last successful release, the number of pods as it is now, and the strategy as the last create or update requested it: what was promoted or changed since, and a rollback, do not count. Prints the name of the new DeployFlow.

    Examples:
      triton update web --image registry.example.com/web:2.1
      triton update web --image web:2.1 --batch-size 25% --canary 1 --mode auto

    """
    from cli import new_releases
    from shared.releases.specs import Wish

    wish = Wish(image, container, replicas, pace.strategy())
    _begin(new_releases.update(instance, wish, override_freeze or ""), request, yes=request.yes)


def rollback(
    instance: Instance,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DEPLOYFLOW", help="Default: the last successful one before the current release."
        ),
    ] = None,
    *,
    pace: Pace,
    request: Start,
) -> None:
    """Release the template of an earlier release again.

    Works in every phase of the current release, also in the middle of a batch: that release becomes Aborted, and pods that already have the earlier template stay. Prints the name of the new DeployFlow.

    Examples:
      triton rollback web
      triton rollback web --to web-kvnpb --batch-size 25%

    """
    from cli import new_releases

    _begin(new_releases.roll_back(instance, to, pace.strategy()), request, yes=request.yes)


def restart(instance: Instance, pods: Pods = None, *, pace: Pace, request: Start) -> None:
    """Replace all pods of an instance, or the named ones, by new pods.

    Each new pod takes traffic before the pod that it replaces is deleted. Prints the name of the new DeployFlow.

    Examples:
      triton restart web --batch-size 25%
      triton restart web --pod web-zh98f --pod web-k2x4d

    """
    from cli import new_releases

    _begin(new_releases.restart(instance, pods or [], pace.strategy()), request, yes=request.yes)


def scale(
    instance: Instance,
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, help="The new number of pods.", show_default=False)
    ],
    pods: Pods = None,
    *,
    pace: Pace,
    request: Start,
) -> None:
    """Change the number of pods of an instance.

    When scaling in, the pods named by --pod are deleted first. Prints the name of the new DeployFlow.

    Examples:
      triton scale web --replicas 12 --batch-size 2
      triton scale web --replicas 2 --pod web-zh98f

    """
    from cli import new_releases

    _begin(new_releases.scale(instance, replicas, pods or [], pace.strategy()), request, yes=request.yes)


def stop(instance: Instance, *, pace: Pace, request: Start) -> None:
    """Delete all pods of an instance; `triton start` brings the same number back.

    Prints the name of the new DeployFlow.

    Examples:
      triton stop web
      triton stop web --batch-size 25% --interval 60

    """
    from cli import new_releases

    _begin(new_releases.stop(instance, pace.strategy()), request, yes=request.yes)


def start(instance: Instance, *, pace: Pace, request: Start) -> None:
    """Start a stopped instance with as many pods as before the stop.

    Prints the name of the new DeployFlow.

    Examples:
      triton start web
      triton start web --batch-size 2

    """
    from cli import new_releases

    _begin(new_releases.start(instance, pace.strategy()), request, yes=request.yes)


def adopt(
    instance: Annotated[str, typer.Argument(metavar="NAME", help="The CloneSet.", show_default=False)],
    app_id: Annotated[
        int | None,
        typer.Option(
            "--app-id", min=0, help="Id of its application. Default: its label app, if that is a number."
        ),
    ] = None,
    group_id: Annotated[
        int | None, typer.Option("--group-id", min=0, help="Id of its group. Default: its label group.")
    ] = None,
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app-name", help="Name of its application. Default: its label app.kubernetes.io/name."
        ),
    ] = None,
    *,
    request: Request,
) -> None:
    """Bring a CloneSet that Triton did not make under Triton.

    Needs the right to update that CloneSet. No pod is replaced: Triton labels the CloneSet and its pods. The first update then makes all pods anew, in batches, with Triton's readiness gate. Exit code 1 if there is no such CloneSet, or if it can't be adopted: the error names the field.

    Examples:
      triton adopt web
      triton adopt web --app-id 20001 --group-id 10010 --app-name web
      triton adopt web --server https://triton.example.com:8088

    """
    from cli.backend import Adoption

    adoption = Adoption(instance, app_id, group_id, app_name)

    async def work(backend: Backend) -> Json:
        return await backend.adopt(adoption, await backend.requester(request.requested_by))

    adopted = at(request, work)
    if request.output is None:
        say(f"cloneset.apps.kruise.io/{instance} adopted")
    else:
        show(adopted, request.output)


def delete(
    instance: Instance,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    *,
    pace: Pace,
    request: Request,
) -> None:
    """Delete an instance: all its pods, then its CloneSet.

    Its DeployFlows stay. Asks for confirmation; without a terminal, --yes is required. Prints the name of the new DeployFlow.

    Examples:
      triton delete web
      triton delete web --yes --batch-size 25%

    """
    from cli import new_releases

    if not yes:
        if not sys.stdin.isatty():
            msg = "--yes is required: there is no terminal to ask on, and a delete can't be undone"
            raise BadInput(msg)
        pods = at(request, lambda backend: backend.replicas(instance))
        if not ask(f"Delete {instance} and its {pods} pods for good?"):
            note("nothing is deleted")
            raise typer.Exit(FAILED)
    _begin(new_releases.delete(instance, pace.strategy()), request, yes=True)
