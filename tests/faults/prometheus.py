"""A Prometheus server on 127.0.0.1 (Debian's `prometheus`), which asks and evaluates often."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import yaml

from sandbox.process import free_port
from shared.domain.json_types import Json
from tests.system.releases import until

INTERVAL: Final = "500ms"
"""Between two scrapes, and between two evaluations of the rules."""
STOP_SECONDS: Final = 10.0


class Sample(NamedTuple):
    labels: dict[str, str]
    value: float


class Prometheus:
    """What a person asks the server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def query(self, expression: str) -> list[Sample]:
        """The instant vector that an expression comes to now; the assertion has the server's words on a bad one."""
        answer = await self._ask("/api/v1/query", query=expression)
        return [Sample(one["metric"], float(one["value"][1])) for one in answer["result"]]

    async def over(self, expression: str, begin: float) -> list[Sample]:
        """Every value of an expression, a second apart, from then (seconds since 1970) to now."""
        answer = await self._ask(
            "/api/v1/query_range", query=expression, start=str(begin), end=str(time.time()), step="1"
        )
        return [Sample(one["metric"], float(value)) for one in answer["result"] for _, value in one["values"]]

    async def families(self) -> set[str]:
        """The names of all metrics that the services export, also of those without a value; of counters without
        their `_total`.
        """
        return {name.removesuffix("_total") for name in await self._ask("/api/v1/metadata")}

    async def alerts(self) -> list[Json]:
        """The active alerts, with their annotations."""
        found: list[Json] = (await self._ask("/api/v1/alerts"))["alerts"]
        return found

    async def targets_up(self) -> int:
        return sum(int(sample.value) for sample in await self.query("up"))

    async def ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        return False

    async def _ask(self, path: str, **query: str) -> Json:
        async with self._session.get(self.url + path, params=query) as answer:
            body: Json = await answer.json()
            assert body["status"] == "success", body
            data: Json = body["data"]
            return data


@asynccontextmanager
async def prometheus(
    folder: Path, health_urls: Mapping[str, str], rules: Sequence[Path] = ()
) -> AsyncIterator[Prometheus]:
    """A server that scrapes these services (as `Sandbox.health_urls`) with these rule files, once all are up.

    It keeps its data and its log (`prometheus.log`) in `folder`.
    """
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
                "rule_files": [str(rule) for rule in rules],
                "scrape_configs": [
                    {
                        "job_name": "triton",
                        "honor_labels": True,
                        "static_configs": [
                            {"targets": [urlsplit(url).netloc for url in health_urls.values()]}
                        ],
                    }
                ],
            }
        )
    )
    port = free_port()
    log = folder / "prometheus.log"
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(f"http://127.0.0.1:{port}", session)

            async def listens() -> bool:
                assert process.returncode is None, log.read_text()
                return await server.ready()

            async def scrapes() -> bool:
                return await server.targets_up() == len(health_urls)

            await until("Prometheus is ready", listens)
            await until("Prometheus has scraped every service", scrapes)
            yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
