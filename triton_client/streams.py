"""Server-sent events: from bytes to events, and going on where a connection breaks. Nothing is sent here."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import httpx

from triton_client.answers import TritonError
from triton_client.calls import Listen
from triton_client.policy import Outcome, checked, for_now, pause_before_another

SILENCE_SECONDS: Final = 45.0
"""The server says something every 15."""
T = TypeVar("T")


class Following(Generic[T]):
    """A stream over as many connections as it takes; each event once. `over`: nothing more comes."""

    def __init__(self, listen: Listen[T], server: str, retries: int) -> None:
        self.path = listen.path
        self.over = False
        self._read = listen.read
        self._server = server
        self._retries = retries
        self._last_id = listen.after
        self._before = ""
        """The event before, which a new connection may begin with."""
        self._begun = False
        self._attempt = 0
        self._rest = b""
        self._id, self._event, self._data = "", "", ""

    @property
    def headers(self) -> dict[str, str]:
        """Of the next connection."""
        return {"Accept": "text/event-stream", **({"Last-Event-ID": self._last_id} if self._last_id else {})}

    def opened(self) -> None:
        self._rest, self._event, self._data = b"", "", ""

    def feed(self, some: bytes) -> list[T]:
        """What these bytes of the stream complete."""
        *lines, self._rest = (self._rest + some).split(b"\n")
        found: list[T] = []
        for line in lines:
            if self.over:
                break
            self._line(line.decode().removesuffix("\r"), found)
        return found

    def again_in(self, outcome: Outcome | None) -> float:
        """Seconds until the next connection, after one that broke, was refused or, None, just ended.

        Raises `TritonError` where there is no use in another: before the first event after so many attempts, later only
        for a refusal. A release that is gone meanwhile is the end.
        """
        if outcome is not None:
            self._judge(outcome)
        if self.over:
            return 0
        pause = None if outcome is None else pause_before_another(outcome, min(self._attempt, 5), 6)
        self._attempt += 1
        return pause or min(0.1 * 2 ** min(self._attempt, 5), 5.0)

    def _judge(self, outcome: Outcome) -> None:
        if for_now(outcome) and (self._begun or self._attempt < self._retries):
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
