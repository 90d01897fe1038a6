"""Which release a name on the command line stands for."""

from __future__ import annotations

import pytest

from cli.exits import BadInput, Failure
from cli.naming import current_release, resolve
from shared.domain.json_types import Json


def _release(name: str, instance: str = "web", **status: object) -> Json:
    return {"metadata": {"name": name}, "spec": {"application": {"instanceName": instance}}, "status": status}


class _Names:
    namespace = "shop"

    def __init__(self, *flows: Json) -> None:
        self._flows = flows

    async def deployflow(self, name: str) -> Json | None:
        return next((flow for flow in self._flows if flow["metadata"]["name"] == name), None)

    async def has_instance(self, name: str) -> bool:
        return bool(await self.releases(name))

    async def releases(self, instance: str) -> list[Json]:
        return [flow for flow in self._flows if flow["spec"]["application"]["instanceName"] == instance]


async def _resolved(name: str, *flows: Json) -> str:
    found: str = (await resolve(name, _Names(*flows)))["metadata"]["name"]
    return found


DONE, RUNNING, OTHER = (
    _release("web-bbbbb", finished=True),
    _release("web-ccccc", startedAt="x"),
    _release("web-2-ddddd", "web-2", startedAt="x"),
)


def test_the_current_release_of_an_instance_is_the_one_that_runs() -> None:
    waiting = _release("waiting")
    assert current_release([DONE, waiting, RUNNING]) == RUNNING
    assert current_release([DONE, waiting]) == waiting
    assert current_release([DONE, _release("newer", finished=True)])["metadata"]["name"] == "newer"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", "web-ccccc"),
        ("web-bbbbb", "web-bbbbb"),
        ("df/web-bbbbb", "web-bbbbb"),
        ("deployflow/web-bbbbb", "web-bbbbb"),
        ("web-2", "web-2-ddddd"),
    ],
)
async def test_a_name_is_a_deployflows_or_an_instances_and_never_the_beginning_of_one(
    name: str, found: str
) -> None:
    assert await _resolved(name, DONE, RUNNING, OTHER) == found


@pytest.mark.parametrize("name", ["we", "web-", "web-b", "WEB"])
async def test_the_beginning_of_a_name_names_nothing(name: str) -> None:
    with pytest.raises(
        Failure, match=f"no DeployFlow and no instance with releases is named {name} in namespace shop"
    ):
        await _resolved(name, DONE, RUNNING, OTHER)


async def test_a_first_deployflow_with_the_name_of_its_instance_is_it_only_until_it_has_finished() -> None:
    assert await _resolved("web", _release("web", startedAt="x")) == "web"
    done = _release("web", finished=True)
    assert await _resolved("web", done) == "web"
    assert await _resolved("web", done, RUNNING) == "web-ccccc"
    assert await _resolved("df/web", done, RUNNING) == "web"


async def test_a_deployflow_of_another_instance_never_stands_for_this_one() -> None:
    flows = [_release("web", "shop", startedAt="x"), RUNNING]
    with pytest.raises(BadInput, match="web is an instance, and also a DeployFlow of instance shop: df/web"):
        await _resolved("web", *flows)
    assert await _resolved("df/web", *flows) == "web"


async def test_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="only df/NAME names a DeployFlow"):
        await _resolved("pod/web", RUNNING)
    with pytest.raises(Failure, match="no DeployFlow is named nope"):
        await _resolved("df/nope", RUNNING)
