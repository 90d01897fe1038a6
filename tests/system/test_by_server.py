"""The same commands straight to the cluster and by way of the REST API print the same and end the same."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.programs import Ended, by_cluster, by_server, run
from tests.system.releases import Releases, deployflow

NAMESPACE = "by-server"
STRAIGHT, SERVED = "straight", "served"
"""The two instances, and the two ways to them."""
pytestmark = pytest.mark.asyncio(loop_scope="session")


class Ways:
    """Runs each command in both ways, each on an instance of its own."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._environments = {STRAIGHT: by_cluster(sandbox), SERVED: by_server(sandbox)}
        self._folder = folder

    async def run(self, *arguments: str) -> tuple[Ended, Ended]:
        """`web` stands for the instance, and `web.yaml` for a file about it, also in what is printed."""
        return await asyncio.gather(self._one(STRAIGHT, arguments), self._one(SERVED, arguments))

    async def same(self, *arguments: str) -> Ended:
        """What both print, which is the same."""
        straight, served = await self.run(*arguments)
        assert straight.out.splitlines() == served.out.splitlines(), (arguments, served.err)
        assert straight == served, arguments
        return straight

    def write(self, name: str, *bodies: Json) -> None:
        for way in (STRAIGHT, SERVED):
            text = "\n---\n".join(json.dumps(body) for body in bodies)
            self._file(way, name).write_text(text.replace("web", way))

    def _file(self, way: str, name: str) -> Path:
        return self._folder / f"{way}-{name}"

    async def _one(self, way: str, arguments: tuple[str, ...]) -> Ended:
        files = [str(self._file(way, text)) if text.endswith(".yaml") else text for text in arguments]
        command = [text if "/" in text else text.replace("web", way) for text in files]
        ended = await run(*command, "--namespace", NAMESPACE, environment=self._environments[way])
        return ended._replace(out=_alike(way, ended.out), err=_alike(way, ended.err))


def _alike(way: str, text: str) -> str:
    """Without what differs from one release to the next: names that are made up, times, addresses.

    A server without a login has checked no name, the API server has.
    """
    text = text.replace(" (claimed)", "")
    text = re.sub(rf"/\S*/{way}-", "", text)
    text = re.sub(rf"\b({STRAIGHT}|{SERVED})\b", "web", text)
    text = re.sub(r"\bweb-[a-z0-9]{5,10}\b", "web-NAME", text)
    text = re.sub(r"\b(\d+\.){3}\d+\b|\b[0-9a-f]{10}\b", "ADDRESS", text)
    text = re.sub(r"\d\d:\d\d:\d\d\.\d+|\b\d+s\b|\+?\b\d+\.\d( s)?\b|\d{4}-\d\d-\d\dT[\d:.Z]+", "TIME", text)
    return re.sub(r" {2,}", "  ", text)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(sandbox: Sandbox) -> AsyncIterator[Releases]:
    async with Releases(sandbox, NAMESPACE) as releases:
        yield releases


async def test_both_ways_say_and_do_the_same(sandbox: Sandbox, shop: Releases, tmp_path: Path) -> None:
    await shop.make_namespace()
    ways = Ways(sandbox, tmp_path)

    async def at_gate(phase: str) -> None:
        """Both releases wait for a person there."""
        for instance in (STRAIGHT, SERVED):
            (name,) = [
                name for name in await shop.names(instance) if not (await shop.status(name)).get("finished")
            ]
            await shop.batch_is(name, 1, phase)
            await shop.until_status(name, "waits", lambda status: status["reason"] == "WaitingForNext")

    # a file
    first = deployflow("web-first", "web", action="create", replicas=2)
    ways.write("first.yaml", first)
    assert "1 batch, mode auto" in (await ways.same("plan", "-f", "first.yaml")).out
    assert (
        "web-NAME created" in (await ways.same("apply", "-f", "first.yaml", "--requested-by", "deployer")).out
    )
    assert (await ways.same("apply", "-f", "first.yaml")).out.endswith("unchanged\n")
    changed, served = await ways.run("watch", "web")
    assert (changed.code, served.code) == (0, 0)
    assert changed.out.splitlines()[-1].split()[1:] == served.out.splitlines()[-1].split()[1:]

    # an update with a canary, let go by hand
    update = ("update", "web", "--image", "nginx:2", "--canary", "1", "--batch-size", "1", "--mode", "manual")
    assert (await ways.same(*update, "--requested-by", "deployer")).out == "web-NAME\n"
    await at_gate("Smoked")
    assert "triton next" in (await ways.same("describe", "web")).out
    assert "batch 1 takes traffic" in (await ways.same("next", "web")).out
    await at_gate("Baking")
    past = await ways.same("next", "web", "--batch", "1", "--stage", "Smoked")
    assert "no effect, the release is past" in past.out
    assert "is paused" in (await ways.same("pause", "web")).out
    assert "is resumed" in (await ways.same("resume", "web", "--requested-by", "operator")).out
    refused = await ways.same("retry", "web")
    assert (refused.code, "nothing to retry" in refused.err) == (1, True)
    assert (
        "approved up to Baked of batch 1"
        in (await ways.same("continue", "web", "--batches", "1", "--stage", "Baked")).out
    )
    assert "to its end" in (await ways.same("promote", "web")).out
    ended = await ways.run("watch", "web")
    assert [way.code for way in ended] == [0, 0]

    # all that has been
    assert "update  web  Success  2/2" in (await ways.same("get")).out
    flows = [json.loads(way.out)["items"] for way in await ways.run("get", "-o", "json")]
    assert [len(found) for found in flows] == [4, 4]
    for straight, served in zip(*flows, strict=True):
        assert (straight["spec"], straight["status"]["phase"]) == (served["spec"], served["status"]["phase"])
    stories = [way.out.splitlines() for way in await ways.run("log", "web-first", "--no-pods")]
    assert "create of by-server/web" in stories[0][0]
    # kubectl is who applies a file straight
    assert stories[0][1:-1] == stories[1][1:-1]
    # the next release's first pod may have started within the first one's last second
    ends = [re.sub(r"\d+ pods? started", "pods started", story[-1]) for story in stories]
    assert ends[0] == ends[1]

    # what does not fit
    for arguments, code in (
        (("get", "nobody"), 1),
        (("restart", "web", "--pod", "nobody"), 2),
        (("rollback", "web", "--to", "nobody"), 2),
        (("delete", "nobody", "--yes"), 1),
        (("scale", "web", "--replicas", "2"), 0),
    ):
        assert (await ways.same(*arguments)).code == code

    # an update that is taken back, and the end
    assert (await ways.same("rollback", "web", "--mode", "manual", "--batch-size", "1")).code == 0
    assert "is being canceled" in (await ways.same("cancel", "web")).out
    ended = await ways.run("watch", "web")
    assert [way.code for way in ended] == [1, 1]
    for verb in (("restart", "--batch-size", "2"), ("scale", "--replicas", "3"), ("stop",), ("start",)):
        assert (await ways.same(verb[0], "web", *verb[1:])).out == "web-NAME\n"
    assert (await ways.same("delete", "web", "--yes", "--batch-size", "2")).out == "web-NAME\n"
