"""Decides which connections a server keeps: bounds in all and by caller, and a time for each step of a request.

A connection that waits for a request (just opened, half a header, kept alive) costs its server nothing to close: where
there are too many, the one that has waited longest makes room for a new one. So connections that only stay open keep
nobody out. Those with a request in work are never closed for another one: there the new one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from itertools import chain
from typing import Final, Generic, NamedTuple, TypeVar

from shared.settings import on_this_machine

HEAD_SECONDS: Final = 10.0
"""How long a new connection may take to its first whole header, with the handshake of TLS."""
KEEP_ALIVE_SECONDS: Final = 5
"""How long a connection is kept after an answer, without a byte of the next request."""
BODY_SECONDS: Final = 30.0
"""How long a body may take to arrive."""
UNREAD_SECONDS: Final = 60.0
"""How long a caller may leave an answer unread."""
MOST_WAITING: Final = 1_000
"""Connections that wait for a request: each may hold half a header in memory."""

C = TypeVar("C", bound=Hashable)


class Bounds(NamedTuple):
    """The connections of one server, in all and of one caller."""

    most: int
    most_of_caller: int


class TooMany(Exception):
    """A new connection is one too many: in all, or of its caller."""

    def __init__(self, *, of_caller: bool) -> None:
        super().__init__("too many connections")
        self.of_caller = of_caller


class Connections(Generic[C]):
    """The open connections of a server. Times are monotonic, in seconds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._callers: dict[C, str] = {}
        self._counts: Counter[str] = Counter()
        self._waiting: dict[C, float] = {}
        """Those that wait for a request, longest first, and until when."""
        self._limited: dict[C, float] = {}
        """Those of the others that have to end in time."""

    def __len__(self) -> int:
        return len(self._callers)

    def admit(self, connection: C, caller: str, now: float, *, exempt: bool = False) -> C | None:
        """Count a new connection; return the one that is to be closed for it, if any. Raises `TooMany`.

        `caller` is its address. `exempt`: a proxy, which calls for many. This machine is exempt too.
        """
        counts = not exempt and not on_this_machine(caller)
        leaves = None
        if counts and self._counts[caller] >= self._bounds.most_of_caller:
            leaves = next((other for other in self._waiting if self._callers[other] == caller), None)
            if leaves is None:
                raise TooMany(of_caller=True)
        elif len(self._callers) >= self._bounds.most or len(self._waiting) >= MOST_WAITING:
            leaves = next(iter(self._waiting), None)
            if leaves is None:
                raise TooMany(of_caller=False)
        if leaves is not None:
            self.remove(leaves)
        self._callers[connection] = caller if counts else ""
        if counts:
            self._counts[caller] += 1
        self._waiting[connection] = now + HEAD_SECONDS
        return leaves

    def wait(self, connection: C, now: float) -> None:
        """Note that its request is answered: the whole header of the next one has to come."""
        if connection in self._callers:
            self.work(connection)
            self._waiting[connection] = now + KEEP_ALIVE_SECONDS + HEAD_SECONDS

    def work(self, connection: C) -> None:
        """Note that its request is there."""
        self._waiting.pop(connection, None)
        if self._limited:
            self._limited.pop(connection, None)

    def limit(self, connection: C, until: float) -> None:
        """Note that what it does has to end in time; it makes no room for another one then."""
        if connection in self._callers:
            self._waiting.pop(connection, None)
            self._limited[connection] = until

    def is_waiting(self, connection: C) -> bool:
        return connection in self._waiting

    def remove(self, connection: C) -> None:
        self.work(connection)
        if caller := self._callers.pop(connection, ""):
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]

    def late(self, now: float) -> list[C]:
        """Return those whose time has passed."""
        every = chain(self._waiting.items(), self._limited.items())
        return [connection for connection, until in every if until <= now]
