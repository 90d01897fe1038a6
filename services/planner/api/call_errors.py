"""Errors of the code below the APIs, translated to the `Problem` that a caller gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import ValidationError

from services.planner.api.problem import Kind, Problem
from shared.domain import deployflow as df
from shared.domain.deploy_commands import Refusal
from shared.errors import Unavailable
from shared.kube.client import ApiError
from shared.releases.specs import Unfit

_REFUSALS: Final = {
    "NotFound": Kind.NOT_FOUND,
    "NoRelease": Kind.NOT_FOUND,
    "InvalidArgument": Kind.UNPROCESSABLE,
    "NotAdoptable": Kind.UNPROCESSABLE,
}
"""The kinds of refusals by reason. All others are conflicts with the state of the release."""
_API_ERRORS: Final = {
    404: Kind.NOT_FOUND,
    409: Kind.CONFLICT,
    403: Kind.FORBIDDEN,
    422: Kind.INVALID,
    413: Kind.TOO_LARGE,
}


@contextmanager
def errors_as_problems() -> Iterator[None]:
    """Raise `Problem` in the place of an expected error of the block."""
    try:
        yield
    except Refusal as error:
        kind = _REFUSALS.get(error.reason, Kind.CONFLICT)
        raise Problem(kind, error.reason, str(error)) from error
    except Unfit as error:
        # with a field named, the request is readable but does not fit the state of the instance
        kind = Kind.UNPROCESSABLE if error.field else Kind.INVALID
        raise Problem(kind, "Invalid", str(error)) from error
    except ValidationError as error:
        raise Problem(Kind.INVALID, "Invalid", df.problems(error)) from error
    except ApiError as error:
        raise _problem_of(error) from error
    except Unavailable as error:
        raise Problem(Kind.UNAVAILABLE, "Unavailable", str(error), retry_after=1) from error


def _problem_of(error: ApiError) -> Problem:
    if error.rights_missing:
        return Problem(Kind.UNAVAILABLE, "RightsMissing", str(error.waited_for("planner")))
    kind = _API_ERRORS.get(error.code, Kind.INVALID)
    return Problem(kind, error.reason, f"Kubernetes refused: {error}")
