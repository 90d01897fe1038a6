"""Parts of the stack that settings name are used instead of started, and asked for their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.environment import SERVICES, Sandbox
from sandbox.process import SandboxError
from sandbox.real.cluster_build import KUBERNETES
from sandbox.real.java import ELASTICSEARCH
from sandbox.real.stack import GIVEN, RealStack

pytestmark = pytest.mark.asyncio(loop_scope="session")
NONE = dict.fromkeys(SERVICES, 0)


async def test_parts_that_are_given_are_used_and_nothing_is_started(sandbox: Sandbox) -> None:
    stack = RealStack(print, given=sandbox.environment)
    async with Sandbox(replicas=NONE, stack=stack) as other:
        assert other.parts == frozenset()
        for name in set(GIVEN) - {"TRITON_KUBECONFIG"}:
            assert other.environment[name] == sandbox.environment[name]
        assert other.kubernetes_url == sandbox.kubernetes_url
        told = await stack.versions()
    assert told["Kubernetes"] == f"v{KUBERNETES}"
    assert told["Kafka"] == "4.3"
    assert told["Redis"].startswith("7.")
    assert told["Elasticsearch"] == ELASTICSEARCH


async def test_a_given_kubeconfig_that_is_not_there_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    given = {**sandbox.environment, "TRITON_KUBECONFIG": str(missing)}
    with pytest.raises(SandboxError, match=f"TRITON_KUBECONFIG names no file that can be read: .*{missing}"):
        async with Sandbox(replicas=NONE, stack=RealStack(print, given=given)):
            pass
