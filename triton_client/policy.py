"""What a refusal means and whether to ask again: pure, for both clients."""

from __future__ import annotations

from typing import Final

import httpx

from triton_client.answers import TritonError

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 10.0
"""Between two attempts, however long the server says."""
_FOR_NOW: Final = frozenset({429, 502, 503, 504})

Outcome = httpx.Response | httpx.TransportError


def pause_before_another(outcome: Outcome, attempt: int, retries: int) -> float | None:
    """Seconds until the next attempt after the `attempt`-th, from 0; None: this outcome counts.

    Every request may be repeated: one that changes something carries an id, by which it is done once.
    """
    if attempt >= retries or not for_now(outcome):
        return None
    told = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    pause = float(told) if told.isdecimal() else FIRST_SECONDS * 2**attempt
    return min(pause, LONGEST_SECONDS)


def for_now(outcome: Outcome) -> bool:
    """Whether it may be otherwise soon."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in _FOR_NOW
    return not (_unknown_issuer(outcome) or isinstance(outcome, httpx.UnsupportedProtocol))


def checked(outcome: Outcome, server: str) -> httpx.Response:
    """The answer, if it is one of success; raises `TritonError`."""
    if isinstance(outcome, httpx.TransportError):
        raise _not_reached(outcome, server) from outcome
    if outcome.is_success and "json" in outcome.headers.get("Content-Type", "json"):
        return outcome
    raise _refused(outcome, server)


def _not_reached(error: httpx.TransportError, server: str) -> TritonError:
    if _unknown_issuer(error):
        text = f"the certificate of {server} is not to be trusted ({_why(error)}): name who signed it"
        return TritonError(0, "UnknownIssuer", text)
    return TritonError(0, "Unavailable", f"Triton at {server} does not answer: {_why(error)}")


def _unknown_issuer(error: httpx.TransportError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _why(error: httpx.TransportError) -> str:
    text = " ".join(str(error).split())
    # OpenSSL's place in its own code tells nobody anything
    return (
        text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        or text
        or type(error).__name__
    )


def _refused(answer: httpx.Response, server: str) -> TritonError:
    try:
        told = answer.json()
        return TritonError(answer.status_code, str(told["reason"]), str(told["detail"]))
    except (ValueError, KeyError, TypeError):
        pass
    code = answer.status_code
    if code in _FOR_NOW:
        return TritonError(
            code, "Unavailable", f"Triton at {server} does not answer: {code} {answer.reason_phrase}"
        )
    text = f"{server} is no REST API of Triton's: {answer.request.method} {answer.request.url.path} was answered {code}"
    return TritonError(code, "NotTriton", text)
