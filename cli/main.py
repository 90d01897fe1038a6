"""The `triton` command (also `kubectl triton`).

Only what a command needs is imported, when it runs: `triton --help` answers at once, and a service's process
does not carry the command line with it. Every failure ends here as one line on stderr and an exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_OPTIONS: Final = {"podsToDelete": "--pod", "container": "--container", "deployName": "--to"}
"""The option of each field of the wire."""
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
    from cli.exits import FAILED, INTERRUPTED, USAGE, Failure
    from cli.interrupts import Interrupted

    try:
        code = app(args=arguments, prog_name=_program(), standalone_mode=False)
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
        option = _OPTIONS.get(error.field)
        return (f"{option}: {error.problem}" if option else str(error)), True
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


def _of_server(text: str, status: int, reason: str) -> tuple[str, bool]:
    """Return a problem that the server reported, with options for the fields of the wire."""
    field, _, problem = text.partition(": ")
    if option := _OPTIONS.get(field):
        text = f"{option}: {problem}"
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
    if not usage.format_message().strip():
        return usage.exit_code  # the help was shown instead
    context = getattr(usage, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _say(usage.format_message() + hint, usage.exit_code)


def _program() -> str:
    return "kubectl triton" if Path(sys.argv[0]).name == "kubectl-triton" else "triton"


def _say(text: str, code: int) -> int:
    from cli.output import note

    note(f"error: {text}")
    return code


if __name__ == "__main__":
    main()
