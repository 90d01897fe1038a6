"""Which commands there are, in the order in which the help shows them."""

from __future__ import annotations

from typing import Final

import typer

from cli import parts, releases

app: Final = typer.Typer(
    name="triton",
    add_completion=False,
    # plain help: the coloured one takes longer to load than most commands to run
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_HANDED_ON: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""For a command whose own module reads the arguments, so that it is imported only when it is called."""


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Releases applications on Kubernetes in controlled batches.

    \b
    Try it here, without a cluster:
      triton demo
      triton sandbox
    \b
    A release:
      triton plan -f FILE && triton apply -f FILE
      triton watch NAME
      triton next NAME
    \b
    Exit codes: 0 success, 1 failed (also: a watched release that failed or was canceled), 2 bad input.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


for _command in (releases.apply, releases.plan, releases.get, releases.describe, releases.watch):
    app.command()(_command)
app.command("next")(releases.next_)
app.command("continue")(releases.continue_)
for _command in (releases.pause, releases.resume, releases.cancel, releases.update):
    app.command()(_command)


@app.command(context_settings=_HANDED_ON)
def log(context: typer.Context) -> None:
    """Tell the story of a release from the event store."""
    from cli import log as story

    whole = typer.Typer(rich_markup_mode=None, add_completion=False)
    whole.command()(story.log)
    whole(args=context.args, prog_name=context.command_path, standalone_mode=False)


@app.command("dead-letters", context_settings=_HANDED_ON)
def dead_letters(context: typer.Context) -> None:
    """List, show and replay messages that failed."""
    from cli import dead_letters as letters

    letters.dead_letters(args=context.args, prog_name=context.command_path, standalone_mode=False)


app.command()(parts.sandbox)
app.command()(parts.demo)
app.command("run")(parts.run_)
for _command in (parts.planner, parts.executor, parts.readiness, parts.events, parts.crd):
    app.command()(_command)
