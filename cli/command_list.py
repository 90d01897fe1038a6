"""The commands of `triton`, in the order in which the help lists them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Final

import typer

from cli import action_commands, completion, get_command, release_commands, system_commands
from cli.options import INSTANCE, NAME, with_options
from cli.output import verbatim

_HELP: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
app: Final = typer.Typer(
    name="triton",
    add_completion=False,
    # plain help: the coloured one takes longer to load than most commands to run
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
_DELEGATED: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""For a command whose own module reads the arguments, so that it is imported only when it is called."""


_PREFORMATTED: Final = "\b\n"
"""Before a paragraph, this keeps click from filling its lines."""


def _help(function: Callable[..., None]) -> str:
    """Return the docstring as help text, in which examples and other listings keep their lines."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(
        _PREFORMATTED + text if text.partition("\n")[0].endswith(":") else text for text in paragraphs
    )


def _add(name: str, function: Callable[..., None]) -> None:
    app.command(name, help=_help(function))(with_options(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        verbatim(f"triton {version('triton-release')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Releases applications on Kubernetes in controlled batches.

    Try it here, without a cluster:
      triton demo
      triton sandbox

    A release:
      triton plan -f FILE && triton apply -f FILE
      triton watch NAME
      triton next NAME

    After a failure:
      triton retry NAME, triton cancel NAME, triton rollback INSTANCE

    Other releases of an instance:
      triton update, restart, scale, stop, start, delete INSTANCE

    An application that Triton did not make:
      triton adopt CLONESET

    Commands use the cluster of the kubeconfig, or Triton's REST API:
      triton get --server https://triton.example.com:8088
      TRITON_SERVER, TRITON_TOKEN or TRITON_TOKEN_FILE, TRITON_SERVER_CA_FILE

    Exit codes:
      0 success
      1 failed (also: a release that failed or was canceled)
      2 bad input
      3 the release waits for a person (watch --exit-on wait, status)
      4 timed out (watch --timeout)
      5 the release goes on by itself (status)
    """
    if context.invoked_subcommand is None:
        verbatim(context.get_help())


def _log(context: typer.Context) -> None:
    """Show what happened in a release, from the event store."""
    from cli import log_command

    _delegate(context, log_command.log)


def _history(context: typer.Context) -> None:
    """List past releases: who released what, when, and with which result."""
    from cli import history_command

    _delegate(context, history_command.history)


def _delegate(context: typer.Context, command: Callable[..., None]) -> None:
    whole = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=_HELP)
    whole.command(help=_help(command))(command)
    whole(args=context.args, prog_name=context.command_path, standalone_mode=False)


def _dead_letters(context: typer.Context) -> None:
    """List, show and replay messages that could not be processed."""
    from cli import dead_letters as letters

    letters.dead_letters.rich_markup_mode = None
    letters.dead_letters(args=context.args, prog_name=context.command_path, standalone_mode=False)


# reading names needs a backend, which knows the options: they can't know it
NAME.autocompletion = INSTANCE.autocompletion = completion.names
app.callback(invoke_without_command=True, help=_help(_root))(_root)
_add("apply", release_commands.apply)
_add("plan", release_commands.plan)
_add("get", get_command.get)
_add("describe", release_commands.describe)
_add("watch", release_commands.watch)
_add("status", release_commands.status)
_add("next", release_commands.next_)
_add("continue", release_commands.continue_)
_add("pause", release_commands.pause)
_add("resume", release_commands.resume)
_add("cancel", release_commands.cancel)
_add("retry", release_commands.retry)
_add("promote", release_commands.promote)
_add("update", action_commands.update)
_add("rollback", action_commands.rollback)
_add("restart", action_commands.restart)
_add("scale", action_commands.scale)
_add("stop", action_commands.stop)
_add("start", action_commands.start)
_add("delete", action_commands.delete)
_add("adopt", action_commands.adopt)
app.command("log", context_settings=_DELEGATED)(_log)
app.command("history", context_settings=_DELEGATED)(_history)
app.command("dead-letters", context_settings=_DELEGATED)(_dead_letters)
_add("sandbox", system_commands.sandbox)
_add("demo", system_commands.demo)
_add("run", system_commands.run_)
_add("planner", system_commands.planner)
_add("executor", system_commands.executor)
_add("readiness", system_commands.readiness)
_add("events", system_commands.events)
_add("crd", system_commands.crd)
_add("completion", completion.completion)
