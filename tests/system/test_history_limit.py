"""The history of an instance does not grow for ever, and all that starts from it still does."""

from __future__ import annotations

import pytest

from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.kube import client as k8s
from tests.system.other_system import OtherSystem, deploy, press
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

INSTANCE = "pruned"


def applied(name: str, image: str) -> Json:
    spec = deploy("", INSTANCE, image=image)["spec"]
    return {"apiVersion": df.API_VERSION, "kind": df.KIND, "metadata": {"name": name}, "spec": spec}


async def test_releases_beyond_the_limit_go_but_what_was_applied_and_what_a_rollback_needs_stay(
    releases: Releases, paas: OtherSystem
) -> None:
    async def released(id: str, image: str) -> str:
        await paas.ask(INSTANCE, deploy(id, INSTANCE, image=image))
        end = await paas.end(id)
        assert end["phase"] == "Success"
        return str(end["deployFlow"])

    await releases.service(INSTANCE)
    first = await released("history-1", "web:1.0")
    limit = {"metadata": {"annotations": {df.REVISION_HISTORY_LIMIT: "1"}}}
    await releases.client.patch(k8s.DEPLOYFLOWS, releases.namespace, first, limit)
    second = await released("history-2", "web:2.0")
    await releases.apply(applied("applied", "web:3.0"))
    await releases.finished("applied", "Success")
    assert second in await releases.names(INSTANCE)
    third = await released("history-3", "web:4.0")

    # the first one says the limit, and nobody but Git deletes what it applied
    async def only_these() -> bool:
        return set(await releases.names(INSTANCE)) == {first, "applied", third}

    await until("the second release is deleted", only_these)

    await paas.ask(INSTANCE, press("history-4", "rollback", INSTANCE))
    back = await paas.end("history-4")
    assert back["phase"] == "Success"
    (pod,) = await releases.pods(INSTANCE)
    assert pod["spec"]["containers"][0]["image"] == "web:3.0"
    await releases.serves(INSTANCE, 1)
