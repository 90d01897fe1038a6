"""The topics of Kafka, and the key that keeps everything about one instance in order.

Every flow topic has the same key, the same number of partitions and the same partitioner: all about one
instance arrives in order, at one replica of each service.
"""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One application instance; on the wire `<namespace>/<instanceName>`."""

    namespace: str
    instance: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.instance}"

    @classmethod
    def parse(cls, text: str) -> Key:
        namespace, _, instance = text.partition("/")
        return cls(namespace, instance)


DEPLOY_COMMANDS = "deploy-commands"
PLANNER_FACTS = "planner-facts"
BATCH_COMMANDS = "batch-commands"
BATCH_RESULTS = "batch-results"
PHASE_EVENTS = "phase-events"
CLONESET_EVENTS = "cloneset-events"
CLUSTER_EVENTS = "cluster-events"
DEPLOYFLOW_EVENTS = "deployflow-events"
DEAD_LETTERS = "dead-letters"

ALL = (
    DEPLOY_COMMANDS,
    PLANNER_FACTS,
    BATCH_COMMANDS,
    BATCH_RESULTS,
    PHASE_EVENTS,
    CLONESET_EVENTS,
    CLUSTER_EVENTS,
    DEPLOYFLOW_EVENTS,
    DEAD_LETTERS,
)
"""Names without the prefix: the topic is `<TRITON_PREFIX>.<name>`."""
