"""The fixtures of the event log, for the tests of its stores."""

from tests.unit.events.conftest import settings, store

__all__ = ["settings", "store"]
