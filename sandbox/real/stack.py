"""Everything real that the services need, as processes of the sandbox."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from sandbox.process import Parts, Reached, SandboxError, free_port, listens
from sandbox.real import prerequisites, versions
from sandbox.real.accounts import give_accounts
from sandbox.real.cache import Say, run, tool
from sandbox.real.cluster import Cluster
from sandbox.real.cluster_build import KRUISE, KWOK
from sandbox.real.java import ELASTICSEARCH_JAVA, KAFKA_JAVA, LEAN, elasticsearch, java, kafka
from sandbox.real.probes import answers

_KAFKA_MEMORY: Final = ["-Xms128m", "-Xmx384m"]
_ELASTICSEARCH_MEMORY: Final = ["-Xms256m", "-Xmx512m"]


EXTERNAL_PARTS: Final = {
    "TRITON_KUBECONFIG": ("TRITON_KUBECONFIG", "KUBECONFIG"),
    "TRITON_KAFKA_BOOTSTRAP": ("TRITON_KAFKA_",),
    "TRITON_REDIS_URL": ("TRITON_REDIS_URL",),
    "TRITON_EVENT_STORE": ("TRITON_EVENT_STORE", "TRITON_ELASTICSEARCH_"),
}
"""The setting that names an external part, and the prefixes of the settings that belong to it."""


class RealStack:
    """Kafka, Redis, Elasticsearch and a cluster; only the kubelets are played.

    A part that `settings` (default: the environment) name is used as it is instead of started.
    Raises `SandboxError` that names every program that is missing.
    """

    def __init__(self, say: Say, *, audit: bool = False, settings: Mapping[str, str] = os.environ) -> None:
        prerequisites.require(settings)
        self._say = say
        self._audit = audit
        self._external = {
            name: {key: value for key, value in settings.items() if key.startswith(prefixes)}
            for name, prefixes in EXTERNAL_PARTS.items()
            if settings.get(name)
        }
        self._cluster: Cluster | None = None
        self._reached: dict[str, str] = {}
        self._kubeconfig = Path()

    @property
    def played(self) -> str:
        """The parts that are not real, in words for people."""
        external = ", ".join(self._external)
        kubelets = "its pods run no containers: KWOK plays the kubelets"
        if "TRITON_KUBECONFIG" in self._external:
            kubelets = "the cluster is an external one"
        return f"{kubelets}; named by settings: {external}" if external else kubelets

    async def start(self, parts: Parts, state: Path, kubeconfig: Path) -> Reached:
        """Start them and wait until they can be used. Raises `SandboxError`."""
        folder = state / "real"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        # building comes first, and alone: it takes all cores
        await self._start_cluster(parts, folder / "cluster", kubeconfig)
        starts: dict[str, Callable[[], Awaitable[str]]] = {
            "TRITON_KAFKA_BOOTSTRAP": lambda: start_kafka(parts, folder / "kafka", self._say),
            "TRITON_REDIS_URL": lambda: _redis(parts, folder / "redis"),
            "TRITON_EVENT_STORE": lambda: start_elasticsearch(parts, folder / "elasticsearch", self._say),
        }
        started = {name: start() for name, start in starts.items() if name not in self._external}
        addresses = dict(zip(started, await asyncio.gather(*started.values()), strict=True))
        for name in starts:
            addresses |= self._external.get(name, {})
        self._reached, self._kubeconfig = addresses, kubeconfig
        if self._cluster is None:
            return Reached(addresses)
        return Reached(addresses, await give_accounts(kubeconfig, folder, self._say))

    async def _start_cluster(self, parts: Parts, folder: Path, kubeconfig: Path) -> None:
        from shared.kube.crd import crd

        external = self._external.get("TRITON_KUBECONFIG")
        if external is None:
            self._cluster = Cluster(parts, folder, kubeconfig, [crd()], self._say, audit=self._audit)
            await self._cluster.start()
            return
        try:
            shutil.copyfile(external["TRITON_KUBECONFIG"], kubeconfig)
        except OSError as error:
            msg = f"TRITON_KUBECONFIG names no file that can be read: {error}"
            raise SandboxError(msg) from error

    async def versions(self) -> dict[str, str]:
        """Return the version that each server reports; raise `SandboxError`."""
        requests = {
            "Kubernetes": versions.kubernetes(self._kubeconfig, self._say),
            "Kafka": versions.kafka(self._reached["TRITON_KAFKA_BOOTSTRAP"]),
            "Redis": versions.redis(self._reached["TRITON_REDIS_URL"]),
            "Elasticsearch": versions.elasticsearch(self._reached["TRITON_EVENT_STORE"]),
        }
        if self._cluster is not None:
            requests["etcd"] = versions.etcd(self._cluster.etcd_url)
        answers = await asyncio.gather(*requests.values(), return_exceptions=True)
        reported = {
            name: f"not known ({answer})" if isinstance(answer, BaseException) else answer
            for name, answer in zip(requests, answers, strict=True)
        }
        if self._cluster is not None:
            # these two do not report a version
            reported |= {"OpenKruise": f"{KRUISE} (as built)", "KWOK": f"{KWOK} (as built)"}
        return reported


async def start_kafka(parts: Parts, folder: Path, say: Say) -> str:
    """Start a broker with its files in that folder and return its address; raise `SandboxError`."""
    jars, program = await kafka(say), await java(KAFKA_JAVA, say)
    (folder / "data").mkdir(parents=True)
    port, controller = free_port(), free_port()
    properties = folder / "server.properties"
    properties.write_text(
        "".join(f"{key}={value}\n" for key, value in _kafka_properties(port, controller, folder).items())
    )
    command: list[str | Path] = [
        program,
        *_KAFKA_MEMORY,
        *LEAN,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    command += ["-cp", f"{jars}/*"]
    identity = await run(
        "naming the Kafka cluster", [*command, "kafka.tools.StorageTool", "random-uuid"], say, cwd=folder
    )
    formatting = [*command, "kafka.tools.StorageTool", "format", "-t", identity.split()[-1], "-c", properties]
    await run("formatting Kafka's storage", formatting, say, cwd=folder)
    await parts.run("kafka", [*map(str, command), "kafka.Kafka", str(properties)], listens(port))
    return f"127.0.0.1:{port}"


def _kafka_properties(port: int, controller: int, folder: Path) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(folder / "data"),
        # one node: with the defaults of three replicas the internal topics would never come up
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "5",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # nobody has to be waited for before the first member of a group begins
        "group.initial.rebalance.delay.ms": "0",
        # a broker killed with -9 is back in 3 s instead of 12
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "auto.create.topics.enable": "false",
        "log.segment.bytes": str(16 << 20),
    }


async def _redis(parts: Parts, folder: Path) -> str:
    program = tool("redis-server", "apt-get install redis-server")
    folder.mkdir(parents=True)
    port = free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
    await parts.run("redis", [*command, "--dir", str(folder)], listens(port))
    return f"redis://127.0.0.1:{port}/0"


async def start_elasticsearch(parts: Parts, folder: Path, say: Say) -> str:
    """Start a node with its files in that folder and return its URL; raise `SandboxError`."""
    home, program = await elasticsearch(say), await java(ELASTICSEARCH_JAVA, say)
    port = free_port()
    for name in ("config", "data", "logs", "tmp"):
        (folder / name).mkdir(parents=True)
    settings = {
        "cluster.name": "triton",
        "node.name": "triton-1",
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": port,
        "transport.port": free_port(),
        "path.data": folder / "data",
        "path.logs": folder / "logs",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    (folder / "config" / "elasticsearch.yml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
    logging = {
        "status": "error",
        "appender.console.type": "Console",
        "appender.console.name": "console",
        "appender.console.layout.type": "PatternLayout",
        "appender.console.layout.pattern": "[%d{ISO8601}][%-5p][%c{1.}] %m%n",
        "rootLogger.level": "info",
        "rootLogger.appenderRef.console.ref": "console",
    }
    (folder / "config" / "log4j2.properties").write_text("".join(f"{k} = {v}\n" for k, v in logging.items()))
    command = [str(program), *_ELASTICSEARCH_MEMORY, *LEAN, "--enable-native-access=ALL-UNNAMED"]
    command += [f"-Djava.io.tmpdir={folder / 'tmp'}", f"-Des.path.home={home}", "-Dlog4j2.disable.jmx=true"]
    command += [
        "-cp",
        f"{home}/lib/*:{home}/launcher",
        "ElasticsearchNode",
        str(home),
        str(folder / "config"),
    ]
    url = f"http://127.0.0.1:{port}"
    await parts.run(
        "elasticsearch", command, answers(f"{url}/_cluster/health?wait_for_status=yellow&timeout=5s")
    )
    return url
