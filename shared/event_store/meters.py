"""Prometheus metrics of the stores' writes."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final, Literal

from prometheus_client import Counter, Histogram

from shared.event_store.interface import Document

Outcome = Literal["stored", "duplicate", "refused"]

_documents = Counter(
    "triton_events_documents_total", "Documents stored, there already, or refused", ["stream", "outcome"]
)
BULK: Final = Histogram(
    "triton_events_bulk_seconds",
    "Bulk requests, and how long they took",
    ["outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


def count(documents: Iterable[Document], outcome: Outcome) -> None:
    for stream, number in collections.Counter(document.stream for document in documents).items():
        _documents.labels(stream, outcome).inc(number)
