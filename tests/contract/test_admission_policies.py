"""ValidatingAdmissionPolicies: who is refused, in which words, and what a policy looks at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from shared.domain.json_types import Json

from .kube import (
    CLONESETS,
    CONFIGS,
    EVENTS,
    PATIENCE,
    PODS,
    Answer,
    Kube,
    a_cloneset,
    a_config,
    a_pod,
    condition,
)

GROUP = "/apis/admissionregistration.k8s.io/v1"
POLICIES = f"{GROUP}/validatingadmissionpolicies"
BINDINGS = f"{GROUP}/validatingadmissionpolicybindings"
BAD_IMAGE = "object.spec.containers.all(c, !c.image.endsWith(':bad'))"
CHANGES = ("CREATE", "UPDATE", "DELETE")


class Policies:
    """Policies that hold in the test's namespace alone, and go with it."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._names: list[str] = []

    async def post(self, called: str, resource: str, *validations: Json, **more: Any) -> Answer:
        """Ask for a policy over the writes of a resource (`pods`, `clonesets.apps.kruise.io/scale`)."""
        names, _, subresource = resource.partition("/")
        plural, _, group = names.partition(".")
        rule = {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": more.pop("operations", ["CREATE", "UPDATE"]),
            "resources": [f"{plural}/{subresource}" if subresource else plural],
        }
        spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **more}
        return await self._kube.post(POLICIES, {"metadata": {"name": self.name(called)}, "spec": spec})

    async def bind(self, called: str, actions: tuple[str, ...] = ("Deny",)) -> None:
        self._names.append(self.name(called))
        selector = {"matchLabels": {"kubernetes.io/metadata.name": self._kube.namespace}}
        spec = {
            "policyName": self.name(called),
            "validationActions": list(actions),
            "matchResources": {"namespaceSelector": selector},
        }
        await self._kube.made(BINDINGS, {"metadata": {"name": self.name(called)}, "spec": spec})

    async def make(self, called: str, resource: str, *validations: Json, **more: Any) -> None:
        """Make a policy and put it into force."""
        actions = more.pop("actions", ("Deny",))
        answer = await self.post(called, resource, *validations, **more)
        assert answer.code == 201, answer.body
        await self.bind(called, actions)

    def name(self, called: str) -> str:
        return f"{self._kube.namespace}-{called}"

    def words(self, called: str, message: str) -> str:
        """Return what a refusal by that policy says."""
        name = self.name(called)
        return f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {message}"

    async def remove(self) -> None:
        for name in self._names:
            await self._kube.delete(f"{BINDINGS}/{name}")
            await self._kube.delete(f"{POLICIES}/{name}")


@pytest_asyncio.fixture
async def policies(kube: Kube) -> AsyncIterator[Policies]:
    found = Policies(kube)
    yield found
    await found.remove()


async def _in_force(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The first refusal: a real server knows a new policy within a second."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await ask()).code < 300:
            await asyncio.sleep(0.05)
        return answer


def _config(called: str, value: str) -> Json:
    return {**a_config(called), "data": {"a": value}}


async def test_a_policy_refuses_with_its_name_its_message_and_a_code(kube: Kube, policies: Policies) -> None:
    await policies.make("images", "pods", {"expression": BAD_IMAGE, "message": "no bad images"})
    bad = a_pod("one", image="demo:bad")
    answer = await _in_force(lambda: kube.post(kube.path(PODS), bad, dryRun="All"))
    words = policies.words("images", "no bad images")
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert answer.message == f'pods "one" is forbidden: {words}'
    assert answer.body["details"] == {"name": "one", "kind": "pods", "causes": [{"message": words}]}
    assert (await kube.post(kube.path(PODS), bad)).code == 422
    await kube.made(kube.path(PODS), a_pod("one"))
    # an update of the image is a write of the pod too
    spec = {"containers": [{"name": "main", "image": "demo:bad"}]}
    answer = await kube.patch(
        kube.path(PODS, "one"), {"spec": spec}, "application/strategic-merge-patch+json"
    )
    assert answer.message == f'pods "one" is forbidden: {words}'


async def test_without_a_binding_it_refuses_nothing(kube: Kube, policies: Policies) -> None:
    no = {"expression": "object.data.a != 'no'"}
    assert (await policies.post("unbound", "configmaps", no)).code == 201
    await policies.make("bound", "configmaps", {"expression": "object.data.a != 'never'"})
    await _in_force(lambda: kube.post(kube.path(CONFIGS), _config("one", "never"), dryRun="All"))
    assert (await kube.post(kube.path(CONFIGS), _config("one", "no"))).code == 201
    await policies.bind("unbound")
    answer = await _in_force(lambda: kube.post(kube.path(CONFIGS), _config("two", "no"), dryRun="All"))
    # without a message of its own it shows the expression
    assert policies.words("unbound", "failed expression: object.data.a != 'no'") in answer.message


async def test_messages_and_reasons_are_its_authors(kube: Kube, policies: Policies) -> None:
    await policies.make(
        "written",
        "configmaps",
        {
            "expression": "variables.value != 'no'",
            "messageExpression": "'value ' + variables.value + ' in ' + namespaceObject.metadata.name",
            "reason": "Forbidden",
        },
        variables=[{"name": "value", "expression": "'a' in object.data ? object.data.a : ''"}],
    )
    answer = await _in_force(lambda: kube.post(kube.path(CONFIGS), _config("one", "no"), dryRun="All"))
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert policies.words("written", f"value no in {kube.namespace}") in answer.message
    await kube.made(kube.path(CONFIGS), _config("one", "yes"))


async def test_an_error_is_a_refusal_unless_it_is_to_be_ignored(kube: Kube, policies: Policies) -> None:
    expression = "object.data.a != 'no' || object.data.other == 'x'"
    await policies.make("fails", "configmaps", {"expression": expression})
    lax = "object.data.a != 'lax' || object.data.other == 'x'"
    await policies.make("ignores", "configmaps", {"expression": lax}, failurePolicy="Ignore")
    answer = await _in_force(lambda: kube.post(kube.path(CONFIGS), _config("one", "no"), dryRun="All"))
    words = f"expression '{expression}' resulted in error: no such key: other"
    assert policies.words("fails", words) in answer.message
    assert (await kube.post(kube.path(CONFIGS), _config("one", "lax"))).code == 201


async def test_a_policy_sees_what_was_there_and_what_is_done(kube: Kube, policies: Policies) -> None:
    for called in ("kept", "fixed", "free"):
        await kube.made(kube.path(CONFIGS), _config(called, called))
    await policies.make(
        "old",
        "configmaps",
        {
            "expression": "request.operation != 'DELETE' || oldObject.data.a != 'kept'",
            "message": "keep it",
        },
        {
            "expression": "request.operation != 'UPDATE' || oldObject.data.a != 'fixed' || object == oldObject",
            "message": "it is fixed",
        },
        operations=CHANGES,
        matchConditions=[{"name": "not-new", "expression": "request.operation != 'CREATE'"}],
    )
    answer = await _in_force(lambda: kube.delete(kube.path(CONFIGS, "kept"), dryRun="All"))
    assert policies.words("old", "keep it") in answer.message
    assert (await kube.get(kube.path(CONFIGS, "kept"))).code == 200
    answer = await kube.patch(kube.path(CONFIGS, "fixed"), {"data": {"a": "other"}})
    assert policies.words("old", "it is fixed") in answer.message
    assert (await kube.patch(kube.path(CONFIGS, "free"), {"data": {"a": "other"}})).code == 200
    assert (await kube.delete(kube.path(CONFIGS, "free"))).code == 200


async def test_a_warning_lets_it_pass(kube: Kube, policies: Policies) -> None:
    careful = {"expression": "object.data.a != 'risky'", "message": "careful"}
    await policies.make("warns", "configmaps", careful, actions=("Warn",))
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await kube.post(kube.path(CONFIGS), _config("one", "risky"), dryRun="All")
            assert answer.code == 201
            if warning := answer.headers.get("Warning"):
                break
            await asyncio.sleep(0.05)
    name = policies.name("warns")
    assert warning == (
        f"299 - \"Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{name}': careful\""
    )


async def test_a_subresource_is_a_resource_of_its_own(kube: Kube, policies: Policies) -> None:
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 1))
    path = kube.path(CLONESETS, "web")
    few = {"expression": "object.spec.replicas < 9", "message": "too many"}
    await policies.make("scale", "clonesets.apps.kruise.io/scale", few)
    patch = {"spec": {"replicas": 9}}
    answer = await _in_force(lambda: kube.patch(f"{path}/scale", patch, dryRun="All"))
    words = policies.words("scale", "too many")
    assert answer.message == f'clonesets.apps.kruise.io "web" is forbidden: {words}'
    assert (await kube.patch(path, patch, dryRun="All")).code == 200


async def test_a_cloneset_whose_pods_are_refused_says_so_and_goes_on_later(
    kube: Kube, policies: Policies
) -> None:
    await policies.make("images", "pods", {"expression": BAD_IMAGE, "message": "no bad images"})
    bad = a_pod("one", image="demo:bad")
    await _in_force(lambda: kube.post(kube.path(PODS), bad, dryRun="All"))
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 2, "demo:bad"))
    path = kube.path(CLONESETS, "web")
    words = policies.words("images", "no bad images")
    cloneset = await kube.until(path, lambda found: found["status"]["conditions"])
    [failed] = cloneset["status"]["conditions"]
    assert (failed["type"], failed["status"]) == ("FailedScale", "True")
    assert failed["message"].endswith(f" is forbidden: {words}")
    assert cloneset["status"]["replicas"] == 0
    events = await kube.until(
        kube.path(EVENTS),
        lambda found: [event for event in found["items"] if event["reason"] == "FailedCreate"],
        fieldSelector="involvedObject.name=web",
    )
    event = next(event for event in events["items"] if event["reason"] == "FailedCreate")
    assert event["type"] == "Warning"
    assert event["message"].startswith('failed to create pod: pods "web-')
    assert f'" is forbidden: {words}, pod: {{"metadata":' in event["message"]
    await policies.remove()
    await kube.pods_until(
        lambda pods: len(pods) == 2 and all(condition(pod, "Ready") == "True" for pod in pods), "app=web"
    )


async def test_a_policy_is_checked_when_it_is_made(policies: Policies) -> None:
    answer = await policies.post("wrong", "configmaps", {"expression": "object.data.a =="})
    assert (answer.code, answer.reason) == (422, "Invalid")
    [(field, message)] = answer.causes().items()
    assert field == "spec.validations[0].expression"
    assert message.startswith('Invalid value: "object.data.a ==": compilation failed: ERROR: ')
    answer = await policies.post("empty", "configmaps")
    text = "Required value: validations or auditAnnotations must contain at least one item"
    assert answer.causes() == {"spec.validations": text, "spec.auditAnnotations": text}
