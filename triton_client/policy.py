"""The rules of when to send a request again, and which error an answer means. Pure, for both clients."""

from __future__ import annotations

from typing import Final

import httpx

from triton_client.errors import TritonError

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0
"""The longest pause between two attempts, also where the server asks for more."""
_TEMPORARY: Final = frozenset({429, 502, 503, 504})

Outcome = httpx.Response | httpx.TransportError


def pause_before_another(outcome: Outcome, attempt: int, retries: int) -> float | None:
    """Return the seconds to wait after attempt number `attempt` (from 0); None if the outcome is final.

    Every request may be repeated: a change carries an id, so that it takes effect once.
    """
    if attempt >= retries or not is_temporary(outcome):
        return None
    wait = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    pause = float(wait) if wait.isdecimal() else FIRST_SECONDS * 2**attempt
    return min(pause, LONGEST_SECONDS)


def is_temporary(outcome: Outcome) -> bool:
    """Return whether the same request may succeed soon."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in _TEMPORARY
    return not (_unknown_issuer(outcome) or isinstance(outcome, httpx.UnsupportedProtocol))


def checked(outcome: Outcome, server: str) -> httpx.Response:
    """Return a successful answer; raises `TritonError` for any other outcome."""
    server = without_login(server)
    if isinstance(outcome, httpx.TransportError):
        raise _not_reached(outcome, server) from outcome
    if outcome.is_success and "json" in outcome.headers.get("Content-Type", "json"):
        return outcome
    raise _refused(outcome, server)


def without_login(server: str) -> str:
    """Return the URL without user and password, for messages."""
    scheme, mark, rest = server.partition("://")
    return scheme + mark + rest.rpartition("@")[2] if mark else server.rpartition("@")[2]


def _not_reached(error: httpx.TransportError, server: str) -> TritonError:
    if _unknown_issuer(error):
        text = f"the certificate of {server} is not trusted ({_why(error)}): name the CA that signed it"
        return TritonError(0, "UnknownIssuer", text)
    return TritonError(0, "Unavailable", f"Triton at {server} does not answer: {_why(error)}")


def _unknown_issuer(error: httpx.TransportError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _why(error: httpx.TransportError) -> str:
    text = " ".join(str(error).split())
    # the position in OpenSSL's source code helps nobody
    return (
        text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        or text
        or type(error).__name__
    )


def _refused(answer: httpx.Response, server: str) -> TritonError:
    try:
        problem = answer.json()
        return TritonError(answer.status_code, str(problem["reason"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        pass
    code = answer.status_code
    if code in _TEMPORARY:
        return TritonError(
            code, "Unavailable", f"Triton at {server} does not answer: {code} {answer.reason_phrase}"
        )
    text = f"{server} is not Triton's REST API: it answered {answer.request.method} {answer.request.url.path} with {code}"
    return TritonError(code, "NotTriton", text)
