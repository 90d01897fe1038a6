"""Parts of the stack that settings name are used instead of started, and report their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.environment import SERVICES, Sandbox
from sandbox.process import SandboxError
from sandbox.real.cluster_build import KUBERNETES
from sandbox.real.java import ELASTICSEARCH
from sandbox.real.stack import EXTERNAL_PARTS, RealStack

pytestmark = pytest.mark.asyncio(loop_scope="session")
NONE = dict.fromkeys(SERVICES, 0)


async def test_parts_that_settings_name_are_used_and_nothing_is_started(sandbox: Sandbox) -> None:
    stack = RealStack(print, settings=sandbox.environment)
    async with Sandbox(replicas=NONE, stack=stack) as other:
        assert other.parts == frozenset()
        for name in set(EXTERNAL_PARTS) - {"TRITON_KUBECONFIG"}:
            assert other.environment[name] == sandbox.environment[name]
        assert other.kubernetes_url == sandbox.kubernetes_url
        versions = await stack.versions()
    assert versions["Kubernetes"] == f"v{KUBERNETES}"
    assert versions["Kafka"] == "4.3"
    assert versions["Redis"].startswith("7.")
    assert versions["Elasticsearch"] == ELASTICSEARCH


async def test_a_named_kubeconfig_that_is_not_there_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    settings = {**sandbox.environment, "TRITON_KUBECONFIG": str(missing)}
    with pytest.raises(SandboxError, match=f"TRITON_KUBECONFIG names no file that can be read: .*{missing}"):
        async with Sandbox(replicas=NONE, stack=RealStack(print, settings=settings)):
            pass
