"""Which connections a server keeps, refuses and closes."""

from __future__ import annotations

import pytest

from shared.service import connections
from shared.service.connections import Bounds, Connections, TooMany


@pytest.fixture
def kept() -> Connections[str]:
    return Connections(Bounds(most=5, most_of_caller=2))


def test_the_connection_that_waited_longest_makes_room_for_a_new_one(kept: Connections[str]) -> None:
    addresses = [f"10.0.0.{number}" for number in range(7)]
    leaving = [kept.admit(address, address, now) for now, address in enumerate(addresses)]
    assert leaving == [None] * 5 + ["10.0.0.0", "10.0.0.1"]
    assert len(kept) == 5


def test_a_caller_with_too_many_connections_loses_its_own(kept: Connections[str]) -> None:
    kept.admit("others", "10.0.0.9", 0)
    kept.admit("first", "10.0.0.1", 1)
    kept.admit("second", "10.0.0.1", 2)
    assert kept.admit("third", "10.0.0.1", 3) == "first"


def test_connections_with_a_request_in_work_are_never_closed_for_another(kept: Connections[str]) -> None:
    for name in ("first", "second"):
        kept.admit(name, "10.0.0.1", 0)
        kept.work(name)
    with pytest.raises(TooMany) as refused:
        kept.admit("third", "10.0.0.1", 1)
    assert refused.value.of_caller
    for number in range(3):
        kept.admit(f"other-{number}", f"10.0.1.{number}", 1)
        kept.work(f"other-{number}")
    with pytest.raises(TooMany) as refused:
        kept.admit("last", "10.0.0.7", 2)
    assert not refused.value.of_caller
    kept.remove("second")
    assert kept.admit("third", "10.0.0.1", 3) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.6", "::1"])
def test_this_machine_is_limited_in_all_only(kept: Connections[str], address: str) -> None:
    for number in range(5):
        assert kept.admit(f"{number}", address, number) is None
    assert kept.admit("last", address, 5) == "0"


def test_a_proxy_that_calls_for_many_is_limited_in_all_only(kept: Connections[str]) -> None:
    for number in range(5):
        assert kept.admit(f"{number}", "10.0.0.1", number, exempt=True) is None


def test_what_waits_is_bounded_whoever_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_WAITING", 3)
    kept: Connections[int] = Connections(Bounds(most=100, most_of_caller=100))
    for number in range(10):
        kept.admit(number, f"10.0.0.{number}", number)
    assert len(kept) == 3
    kept.work(9)
    assert kept.admit(10, "10.0.0.10", 10) is None, "two wait, and one has a request in work"


def test_each_step_has_its_time(kept: Connections[str]) -> None:
    kept.admit("silent", "10.0.0.1", 100)
    kept.admit("quick", "10.0.0.2", 100)
    kept.work("quick")
    assert kept.late(109.9) == []
    assert kept.late(110) == ["silent"]
    kept.wait("quick", 200)
    assert kept.late(214.9) == ["silent"]
    assert kept.late(215) == ["silent", "quick"]
    kept.remove("silent")
    kept.remove("quick")
    assert kept.late(1_000) == []
    assert len(kept) == 0
