"""Policies of the cluster's operators that refuse writes: ValidatingAdmissionPolicy, for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from shared.kube.client import Resource
from tests.system.releases import Releases, until

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLICIES = Resource(_ADMISSION, "validatingadmissionpolicies")
_BINDINGS = Resource(_ADMISSION, "validatingadmissionpolicybindings")


class Policy(NamedTuple):
    """Refuses, with that message, what the CEL expression is not true for."""

    resource: Resource
    operations: tuple[str, ...]
    expression: str
    message: str


@asynccontextmanager
async def in_force(
    releases: Releases, policy: Policy, refuses: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """The policy holds in the namespace of these releases while the block runs. `refuses`: whether it does already."""
    name = f"refuses-{releases.namespace}"
    group = policy.resource.api.split("/")[2] if policy.resource.api.startswith("/apis/") else ""
    body = {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": releases.namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["*"],
                        "operations": list(policy.operations),
                        "resources": [policy.resource.plural],
                    }
                ],
            },
            "validations": [{"expression": policy.expression, "message": policy.message}],
        },
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    await releases.client.create(_POLICIES, None, body)
    await releases.client.create(_BINDINGS, None, binding)
    try:
        await until("the policy is in force", refuses)
        yield
    finally:
        await releases.client.delete(_BINDINGS, "", name)
        await releases.client.delete(_POLICIES, "", name)
