"""An embedded Kubernetes for trying and testing: API server, CloneSet controller, kubelet and endpoints in
one process.

Nothing outside Python is needed. `Cluster` runs it inside an event loop, `python -m sandbox.kubernetes` on
its own. It keeps objects in memory, authenticates nobody and listens on loopback only; pods are simulated.
"""

from __future__ import annotations

from .cluster import Cluster, Options
from .kubelet import Timing

__all__ = ["Cluster", "Options", "Timing"]
