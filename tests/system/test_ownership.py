"""CloneSets that Triton did not make, and CloneSets of Triton that somebody takes the label off."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.history import recorded
from tests.system.plain import ACTIONS, lay_out, pods_of, release
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


def _written_by_people(cloneset: Json) -> Json:
    metadata = cloneset["metadata"]
    return {
        "spec": cloneset["spec"],
        **{key: metadata.get(key) for key in ("uid", "generation", "labels", "annotations", "finalizers")},
    }


async def test_no_action_touches_a_cloneset_that_triton_did_not_make(releases: Releases) -> None:
    await lay_out(releases, "foreign", 2)
    before = _written_by_people(await releases.cloneset("foreign"))
    pods = {pod["metadata"]["uid"] for pod in await pods_of(releases, "foreign")}
    for action in ACTIONS:
        name = f"foreign-{action.replace('_', '-')}"
        await releases.apply(release(name, "foreign", action, {"scale_in": 1, "scale_out": 3}.get(action, 2)))
        status = await releases.finished(name, "Failed")
        assert status["reason"] == "NotOurs", action
        assert "CloneSet default/foreign was not made by Triton" in status["message"]
    assert _written_by_people(await releases.cloneset("foreign")) == before
    assert {pod["metadata"]["uid"] for pod in await pods_of(releases, "foreign")} == pods
    await releases.serves("foreign", 2)


async def _label(releases: Releases, instance: str, value: str | None) -> None:
    body: Any = {"metadata": {"labels": {"managed-by": value}}}
    await releases.client.patch(k8s.CLONESETS, releases.namespace, instance, body)


async def test_a_label_taken_off_in_the_middle_is_named_and_healed_when_it_is_back(
    releases: Releases,
) -> None:
    await releases.create("unlabeled", 2)
    await releases.apply(deployflow("unlabeled-2", "unlabeled", image="nginx:2", replicas=2, canary=1))
    await releases.batch_is("unlabeled-2", 1, "Smoked")
    await _label(releases, "unlabeled", None)
    status = await releases.until_status(
        "unlabeled-2", "named", lambda status: status["reason"] == "LabelsMissing"
    )
    assert status["message"].endswith("kubectl -n default label cloneset unlabeled managed-by=triton-io")
    generation = (await releases.cloneset("unlabeled"))["metadata"]["generation"]
    await releases.strategy("unlabeled-2", batches=2, stage="Baked")
    await _label(releases, "unlabeled", "triton-io")
    await releases.finished("unlabeled-2", "Success")
    assert (await releases.cloneset("unlabeled"))["metadata"]["generation"] > generation
    await releases.serves("unlabeled", 2)


async def test_a_cancel_while_the_label_is_off_is_written_when_it_is_back(releases: Releases) -> None:
    await releases.create("let-be", 2)
    await releases.apply(deployflow("let-be-2", "let-be", image="nginx:2", replicas=2, canary=1))
    await releases.batch_is("let-be-2", 1, "Smoked")
    await _label(releases, "let-be", None)
    named = await releases.until_status("let-be-2", "named", lambda s: s["reason"] == "LabelsMissing")
    await releases.strategy("let-be-2", canceled=True)
    await releases.until_status(
        "let-be-2", "the cancel is tried", lambda s: s["sequence"] > named["sequence"]
    )
    generation = (await releases.cloneset("let-be"))["metadata"]["generation"]
    await _label(releases, "let-be", "triton-io")
    await releases.finished("let-be-2", "Canceled", 20)
    assert (await releases.cloneset("let-be"))["metadata"]["generation"] > generation
    await releases.serves("let-be", 2)
    async with recorded(releases, "let-be") as history:
        await releases.apply(deployflow("let-be-3", "let-be", image="nginx:3", replicas=2))
        await releases.finished("let-be-3", "Success")
    history.check(2)
