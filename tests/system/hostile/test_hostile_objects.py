"""No object that a hostile account makes ends a service, or keeps releases of others from ending in time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from shared.domain.object_bounds import TOO_DEEP
from shared.errors import Unavailable
from shared.kube.client import DEPLOYFLOWS, NAMESPACES, ApiError
from tests.system.hostile.innocent import innocent_releases, report
from tests.system.hostile.objects import Hostile, hostile_objects
from tests.system.releases import Releases, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240, func_only=True)]

SEED: Final = 14
ENOUGH: Final = 300
AT_ONCE: Final = 4
MOST: Final = 700
"""Objects that are tried, with those that the API server refuses."""


class Attack:
    """Makes hostile objects until there are enough that the API server takes."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.made: list[Hostile] = []
        self.tried = 0

    async def run(self, objects: Iterator[Hostile]) -> None:
        left = itertools.islice(objects, MOST)
        await asyncio.gather(*(self._make_from(left) for _ in range(AT_ONCE)))

    async def _make_from(self, left: Iterator[Hostile]) -> None:
        for hostile in left:
            if len(self.made) >= ENOUGH:
                return
            self.tried += 1
            if await self._make(hostile):
                self.made.append(hostile)

    async def _make(self, hostile: Hostile) -> bool:
        """Return whether the API server takes it."""
        client = self._releases.client
        namespace = None if hostile.resource == NAMESPACES else self._releases.namespace
        body = hostile.body
        if "involvedObject" in body:
            body = {**body, "involvedObject": {**body["involvedObject"], "namespace": namespace}}
        try:
            made = await client.create(hostile.resource, namespace, body)
        except (ApiError, Unavailable):
            return False
        if hostile.status is not None and namespace is not None:
            # without that status it is hostile enough
            with suppress(ApiError, Unavailable):
                name = made["metadata"]["name"]
                status = {"status": hostile.status}
                await client.patch(hostile.resource, namespace, name, status, subresource="status")
        return True


async def test_hostile_objects_harm_nobody_else(sandbox: Sandbox) -> None:
    async with (
        innocent_releases(sandbox, "beside-objects") as innocents,
        Releases(sandbox, "hostile-objects") as releases,
    ):
        await releases.make_namespace()
        attack = Attack(releases)
        try:
            await attack.run(hostile_objects(random.Random(SEED)))
            statuses = await _all_known(releases)
        finally:
            await _clean(releases, attack)
    kinds = Counter(hostile.resource.plural for hostile in attack.made)
    report(f"hostile objects: {len(attack.made)} of {attack.tried} taken by the API server, {dict(kinds)}")
    report(f"innocent releases beside them: {innocents.finished}")
    assert len(attack.made) >= ENOUGH
    too_deep = [hostile.body["metadata"]["name"] for hostile in attack.made if hostile.too_deep]
    assert too_deep
    for name in too_deep:
        status = statuses[name]
        assert (status["phase"], status["reason"]) == ("Failed", "InvalidSpec")
        assert status["message"] == f"spec.application.template: {TOO_DEEP}"


async def _all_known(releases: Releases) -> dict[str, Json]:
    """Wait until each DeployFlow has a status; return them by name."""
    found: dict[str, Json] = {}

    async def all_have_one() -> bool:
        flows = await releases.client.list(DEPLOYFLOWS, releases.namespace)
        found.update({flow["metadata"]["name"]: flow.get("status") or {} for flow in flows})
        return all(status.get("phase") for status in found.values())

    try:
        await until("each DeployFlow has a status", all_have_one, 30)
    except AssertionError as error:
        without = [name for name, status in found.items() if not status.get("phase")]
        raise AssertionError(f"{error}; without one: {without}") from None
    return found


async def _clean(releases: Releases, attack: Attack) -> None:
    """Delete all of it; the end of the namespaces is not awaited. What cannot be deleted harms the next test no more."""
    client = releases.client
    for hostile in attack.made:
        meta = hostile.body["metadata"]
        if meta.get("finalizers"):
            body: Json = {"metadata": {"finalizers": None}}
            with suppress(ApiError, Unavailable):
                await client.patch(hostile.resource, releases.namespace, meta["name"], body)
    names = [h.body["metadata"]["name"] for h in attack.made if h.resource == NAMESPACES]
    for name in (*names, releases.namespace):
        with suppress(ApiError, Unavailable):
            await client.delete(NAMESPACES, "", name)
