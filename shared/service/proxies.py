"""Finds the address of a caller, also behind a proxy that is trusted to name it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from shared.settings import Network


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)
        self.trusted = lru_cache(maxsize=10_000)(self._trusted)
        """Decide whether an address is of such a proxy."""

    def _trusted(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def caller(self, peer: str, forwarded: str) -> str:
        """Return the address of the caller: of the connection, or the last that trusted proxies have put into the header.

        What a caller has put there itself stands before it, and is not believed.
        """
        caller = peer
        for address in reversed(forwarded.split(",")):
            if not self.trusted(caller) or not (address := _without_port(address.strip())):
                break
            caller = address
        return caller


def _without_port(text: str) -> str:
    """Return the address in the forms that proxies write; empty for what is none."""
    text = text.removeprefix("[").partition("]")[0] if text.startswith("[") else text
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
