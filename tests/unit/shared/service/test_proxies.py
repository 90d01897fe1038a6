"""Who calls, by the headers of proxies that may say so."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from shared.service.proxies import Proxies
from shared.settings import Settings

PROXIES = Proxies([ip_network("10.0.0.0/24"), ip_network("fd00::/64")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("10.0.0.5", "", "10.0.0.5"),
        ("10.0.0.5", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.5", "192.0.2.1, 10.0.0.9", "192.0.2.1"),
        ("10.0.0.5", "198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.5", "192.0.2.1:4711", "192.0.2.1"),
        ("10.0.0.5", "[2001:db8::1]:443", "2001:db8::1"),
        ("fd00::5", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.5", "unknown", "10.0.0.5"),
        ("10.0.0.5", "'; drop", "10.0.0.5"),
        ("192.0.2.99", "198.51.100.7", "192.0.2.99"),
        ("", "198.51.100.7", ""),
    ],
)
def test_only_what_a_trusted_proxy_has_added_is_believed(peer: str, forwarded: str, caller: str) -> None:
    assert PROXIES.caller(peer, forwarded) == caller


def test_proxies_are_set_as_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Proxies(Settings().api_trusted_proxies).trusted("127.0.0.6"), "a sidecar"
    monkeypatch.setenv("TRITON_API_TRUSTED_PROXIES", "10.1.2.3, 10.2.0.0/16,fd00::/64")
    proxies = Proxies(Settings().api_trusted_proxies)
    assert [proxies.trusted(address) for address in ("10.1.2.3", "10.2.9.9", "fd00::7", "127.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]
