"""Server-sent events: bytes become events, and a broken stream is continued. Nothing is sent here."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import httpx

from triton_client.errors import TritonError
from triton_client.operations import Subscription
from triton_client.policy import Outcome, checked, is_temporary, pause_before_another

SILENCE_SECONDS: Final = 45.0
"""The server sends at least a comment every 15 s."""
T = TypeVar("T")


class Following(Generic[T]):
    """One stream over as many connections as needed; each event is returned once. `over`: the stream has ended."""

    def __init__(self, subscription: Subscription[T], server: str, retries: int) -> None:
        self.path = subscription.path
        self.over = False
        self._read = subscription.read
        self._server = server
        self._retries = retries
        self._last_id = subscription.after
        self._before = ""
        """The data of the last event: a new connection may start with it again."""
        self._begun = False
        self._attempt = 0
        self._rest = b""
        self._id, self._event, self._data = "", "", ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the next connection."""
        return {"Accept": "text/event-stream", **({"Last-Event-ID": self._last_id} if self._last_id else {})}

    def opened(self) -> None:
        self._rest, self._event, self._data = b"", "", ""

    def feed(self, some: bytes) -> list[T]:
        """Return the events that these bytes complete."""
        *lines, self._rest = (self._rest + some).split(b"\n")
        found: list[T] = []
        for line in lines:
            if self.over:
                break
            self._line(line.decode().removesuffix("\r"), found)
        return found

    def again_in(self, outcome: Outcome | None) -> float:
        """Return the seconds until the next connection; `outcome` is None if the last one just ended.

        Raises `TritonError` if another connection is useless: before the first event after `retries` attempts, after it
        only for a refusal. A release that was deleted meanwhile ends the stream.
        """
        if outcome is not None:
            self._judge(outcome)
        if self.over:
            return 0
        pause = None if outcome is None else pause_before_another(outcome, min(self._attempt, 5), 6)
        self._attempt += 1
        return pause or min(0.1 * 2 ** min(self._attempt, 5), 5.0)

    def _judge(self, outcome: Outcome) -> None:
        if is_temporary(outcome) and (self._begun or self._attempt < self._retries):
            return
        try:
            checked(outcome, self._server)
        except TritonError as error:
            if not (self._begun and error.status == 404):
                raise
        self.over = True

    def _line(self, line: str, found: list[T]) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self._id = value
            case "event":
                self._event = value
            case "data":
                self._data = f"{self._data}\n{value}" if self._data else value
            case "" if not line:
                self._dispatch(found)

    def _dispatch(self, found: list[T]) -> None:
        event, data = self._event, self._data
        self._event, self._data = "", ""
        if event == "end":
            self.over = True
        elif data and data != self._before:
            self._begun, self._attempt, self._last_id, self._before = True, 0, self._id, data
            found.append(self._read(self._id, data))


def is_stream(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "event-stream" in answer.headers.get("Content-Type", "")
