"""Fixtures around the embedded cluster, for the suites that talk to it over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.kubernetes import Cluster
from shared.kube.client import Client
from tests.unit.parts import MemoryKafka, Trouble, connected, running_cluster


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster(bookmark_seconds=0.1) as cluster:
        yield cluster


@pytest.fixture
async def api(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Client]:
    """The way of everybody else to the cluster."""
    async with connected(cluster.url, tmp_path) as client:
        yield client


@pytest.fixture
async def trouble(cluster: Cluster) -> AsyncIterator[Trouble]:
    async with Trouble(cluster.url) as trouble:
        yield trouble


@pytest.fixture
async def client(trouble: Trouble, tmp_path: Path) -> AsyncIterator[Client]:
    """The client under test, which reaches the cluster through trouble."""
    async with connected(trouble.url, tmp_path) as client:
        yield client


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()
