"""Which commands there are, in the order in which the help shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

import typer

from cli import actions, parts, releases
from cli.options import located

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


_PREFORMATTED: Final = "\b\n"
"""Before a paragraph, this keeps click from filling its lines."""


def _help(function: Callable[..., None]) -> str:
    """The docstring as help text: examples and other listings keep their lines."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(
        _PREFORMATTED + text if text.partition("\n")[0].endswith(":") else text for text in paragraphs
    )


def _add(name: str, function: Callable[..., None]) -> None:
    app.command(name, help=_help(function))(located(function))


def _root(context: typer.Context) -> None:
    """Releases applications on Kubernetes in controlled batches.

    Try it here, without a cluster:
      triton demo
      triton sandbox

    A release:
      triton plan -f FILE && triton apply -f FILE
      triton watch NAME
      triton next NAME

    What goes wrong, and what else there is to do with an instance:
      triton retry NAME, triton cancel NAME, triton rollback INSTANCE
      triton update, restart, scale, stop, start, delete INSTANCE

    Where it does that:
      in the cluster of the kubeconfig, or by Triton's REST API:
      triton get --server https://triton.example.com:8088
      TRITON_SERVER, TRITON_TOKEN or TRITON_TOKEN_FILE, TRITON_SERVER_CA_FILE

    Exit codes:
      0 success
      1 failed (also: a watched release that failed or was canceled)
      2 bad input
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def _log(context: typer.Context) -> None:
    """Tell the story of a release from the event store."""
    from cli import log

    _hand_on(context, log.log)


def _history(context: typer.Context) -> None:
    """Tell who released what, when, and how it went."""
    from cli import history

    _hand_on(context, history.history)


def _hand_on(context: typer.Context, command: Callable[..., None]) -> None:
    whole = typer.Typer(rich_markup_mode=None, add_completion=False)
    whole.command(help=_help(command))(command)
    whole(args=context.args, prog_name=context.command_path, standalone_mode=False)


def _dead_letters(context: typer.Context) -> None:
    """List, show and replay messages that failed."""
    from cli import dead_letters as letters

    letters.dead_letters.rich_markup_mode = None
    letters.dead_letters(args=context.args, prog_name=context.command_path, standalone_mode=False)


app.callback(invoke_without_command=True, help=_help(_root))(_root)
_add("apply", releases.apply)
_add("plan", releases.plan)
_add("get", releases.get)
_add("describe", releases.describe)
_add("watch", releases.watch)
_add("next", releases.next_)
_add("continue", releases.continue_)
_add("pause", releases.pause)
_add("resume", releases.resume)
_add("cancel", releases.cancel)
_add("retry", actions.retry)
_add("promote", actions.promote)
_add("update", actions.update)
_add("rollback", actions.rollback)
_add("restart", actions.restart)
_add("scale", actions.scale)
_add("stop", actions.stop)
_add("start", actions.start)
_add("delete", actions.delete)
app.command("log", context_settings=_HANDED_ON)(_log)
app.command("history", context_settings=_HANDED_ON)(_history)
app.command("dead-letters", context_settings=_HANDED_ON)(_dead_letters)
_add("sandbox", parts.sandbox)
_add("demo", parts.demo)
_add("run", parts.run_)
_add("planner", parts.planner)
_add("executor", parts.executor)
_add("readiness", parts.readiness)
_add("events", parts.events)
_add("crd", parts.crd)
