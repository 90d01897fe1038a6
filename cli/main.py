"""The `triton` command (also `kubectl triton`).

Only what a command needs is imported, when it runs: `triton --help` answers at once, and a service's process
does not carry the command line with it. Every failure ends here as one line on stderr and an exit code.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

_OPTIONS: Final = {
    "podsToDelete": "--pod",
    "strategy.podsToDelete": "--pod",
    "container": "--container",
    "image": "--image",
    "deployName": "--to",
    "replicas": "--replicas",
    "strategy.batchSize": "--batch-size",
    "strategy.canary": "--canary",
    "strategy.mode": "--mode",
    "strategy.batchIntervalSeconds": "--interval",
    "appID": "--app-id",
    "groupID": "--group-id",
    "appName": "--app-name",
}
"""The option of each field of a request."""
SERVICES: Final = ("planner", "executor", "readiness", "events")


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1] in SERVICES:
        import importlib

        importlib.import_module(f"services.{sys.argv[1]}.app").main()
        return
    sys.exit(_command_line(sys.argv[1:]))


def _command_line(arguments: list[str]) -> int:
    """Run one command and return the exit code. Errors become a line on stderr."""
    import typer
    from typer.exceptions import TyperException

    from cli.command_list import app
    from cli.completion import VARIABLE
    from cli.exits import FAILED, INTERRUPTED, USAGE, Failure
    from cli.interrupts import Interrupted

    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    try:
        code = app(
            args=_verb_first(arguments),
            prog_name=_program(),
            standalone_mode=False,
            complete_var=VARIABLE,
        )
    except typer.Exit as ending:
        return ending.exit_code
    except TyperException as error:
        return _usage(error)
    except Failure as error:
        return _say(str(error), error.code)
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) is gone; this also keeps Python from reporting it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        known = _known(error)
        if known is None:
            return _fault(error)
        text, bad_input = known
        return _say(text, USAGE if bad_input else FAILED)
    return code if isinstance(code, int) else 0


_BEFORE_THE_VERB: Final = ("-n", "--namespace", "--kubeconfig", "--context", "--server", "--ca-file")


def _verb_first(arguments: list[str]) -> list[str]:
    """Move the options that say where behind the verb, so that they may stand before it, as for kubectl."""
    moved: list[str] = []
    rest = list(arguments)
    while rest:
        name, equals, _ = rest[0].partition("=")
        short = rest[0].startswith("-n") and not rest[0].startswith("--") and len(rest[0]) > 2
        if name not in _BEFORE_THE_VERB and not short:
            break
        count = 1 if equals or short else 2
        moved, rest = [*moved, *rest[:count]], rest[count:]
    return [*rest[:1], *moved, *rest[1:]] if rest else arguments


def _known(error: Exception) -> tuple[str, bool] | None:
    """Return the text of an error that is meant for people, and whether the input is at fault."""
    # imported here: only a command that failed pays for it
    from pydantic import ValidationError

    from shared.domain.deploy_commands import Refusal
    from shared.domain.deployflow import problems
    from shared.errors import ConfigError, Unavailable
    from shared.kube.client import ApiError
    from shared.releases.specs import Unfit

    if isinstance(error, Unfit):
        return _by_options(str(error)), True
    if isinstance(error, ValidationError):
        return problems(error), True
    if isinstance(error, ApiError):
        return f"Kubernetes refused: {error}", error.code in {400, 422}
    if "triton_client" in sys.modules:
        import triton_client

        if isinstance(error, triton_client.TritonError):
            return _of_server(str(error), error.status, error.reason)
        if isinstance(error, triton_client.ConfigError):
            return str(error), True
    if isinstance(error, ConfigError):
        return str(error), True
    if isinstance(error, Refusal | Unavailable):
        return str(error), False
    from sandbox.process import SandboxError

    return (str(error), False) if isinstance(error, SandboxError) else None


def _by_options(text: str) -> str:
    """Return the problems of a request with the options in the place of its fields."""
    problems = (problem.partition(": ") for problem in text.split("; "))
    return "; ".join(f"{_OPTIONS.get(field, field)}{colon}{text}" for field, colon, text in problems)


def _of_server(text: str, status: int, reason: str) -> tuple[str, bool]:
    """Return a problem that the server reported, with options for the fields of the wire."""
    text = _by_options(text)
    if status == 401:
        text += " (set TRITON_TOKEN or TRITON_TOKEN_FILE)"
    if reason == "UnknownIssuer":
        text += " (--ca-file or TRITON_SERVER_CA_FILE)"
    return text, status in {400, 422} or reason == "NotTriton"


def _fault(error: Exception) -> int:
    """Report a bug of the program itself; the traceback is shown on request."""
    if os.environ.get("TRITON_LOG_LEVEL") == "DEBUG":
        raise error
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _say(f"this is a bug of triton: {text} (TRITON_LOG_LEVEL=DEBUG shows the traceback)", 1)


def _usage(error: Exception) -> int:
    from typing import cast

    from typer.exceptions import TyperException

    usage = cast("TyperException", error)
    unknown = _unknown_command(usage)
    if unknown in _OURS:
        return _say(f"triton has no {unknown}: {_OURS[unknown]}", usage.exit_code)
    if error.__cause__ is not None:
        usage.message = _of_an_option(error.__cause__, usage.message)
    if not usage.format_message().strip():
        return usage.exit_code  # the help was shown instead
    context = getattr(usage, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _say(usage.format_message() + hint, usage.exit_code)


_OURS: Final = {
    **dict.fromkeys(("ls", "list", "releases"), "use `triton get`"),
    **dict.fromkeys(("abort", "stop-release", "terminate"), "use `triton cancel NAME`"),
    **dict.fromkeys(("undo", "revert", "back"), "use `triton rollback INSTANCE`"),
    **dict.fromkeys(
        ("lint", "validate", "diff", "dry-run", "template"), "use `triton plan -f FILE`, which checks it too"
    ),
    **dict.fromkeys(
        ("approve", "step", "advance"),
        "use `triton next NAME`, or `triton promote NAME` for all that is left",
    ),
    **dict.fromkeys(("unpause", "unfreeze"), "use `triton resume NAME`"),
    **dict.fromkeys(("create", "install", "deploy"), "use `triton apply -f FILE`"),
    **dict.fromkeys(
        ("set", "set-image", "upgrade", "release", "edit"), "use `triton update INSTANCE --image IMAGE`"
    ),
    **dict.fromkeys(("logs", "events", "story"), "use `triton log NAME` for what happened in a release"),
    **dict.fromkeys(("show", "info", "inspect"), "use `triton describe NAME`"),
    **dict.fromkeys(
        ("wait", "rollout", "follow"), "use `triton watch NAME --timeout 10m`, or `triton status NAME`"
    ),
    "version": "use `triton --version`",
}
"""What people try who know other tools, and our words for it."""


def _unknown_command(error: Exception) -> str:
    """Return the word in place of a command; empty where there is none, or where a command has commands of its own."""
    context = getattr(error, "ctx", None)
    if context is None or context.info_name != _program():
        return ""
    found = re.fullmatch(r"No such command '(.*?)'\..*", getattr(error, "message", ""), re.DOTALL)
    return found[1] if found else ""


def _of_an_option(error: BaseException, otherwise: str) -> str:
    """Return what is wrong with the value of an option, which the option's type said in its own words."""
    from pydantic import ValidationError

    from shared.domain.problem_words import in_words

    if not isinstance(error, ValidationError):
        return otherwise
    return "; ".join(dict.fromkeys(in_words(item) for item in error.errors(include_url=False)))


def _program() -> str:
    return "kubectl triton" if Path(sys.argv[0]).name == "kubectl-triton" else "triton"


def _say(text: str, code: int) -> int:
    from cli.output import note

    note(f"error: {text}")
    return code


if __name__ == "__main__":
    main()
