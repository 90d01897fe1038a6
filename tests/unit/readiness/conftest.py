from __future__ import annotations

from tests.unit.plumbing.fixtures import api, client, cluster, kafka, trouble

__all__ = ["api", "client", "cluster", "kafka", "trouble"]
