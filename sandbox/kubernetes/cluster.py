"""The embedded cluster: an API server with a kubelet, a CloneSet controller and their like, in one event
loop.

For trying and testing: objects live in memory, nobody is authenticated, and pods are simulated. It exists so
that Triton and its tests run anywhere with Python alone, and it is held to reality by the contract tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from aiohttp import web

from shared.domain.json_types import Json

from .api import Api
from .budgets import BudgetController, BudgetStrategy
from .builtins import (
    BUDGETS,
    BUILT_IN,
    CONFIG_MAPS,
    DEFINITIONS,
    NAMESPACES,
    NODES,
    PODS,
    POLICIES,
    POLICY_BINDINGS,
    QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from .cloneset_admission import CloneSetStrategy
from .cloneset_controller import CloneSetController
from .definitions import Definitions
from .endpoints import EndpointsController
from .garbage import GarbageCollector
from .kubelet import Kubelet, Timing
from .namespaces import NamespaceController
from .objects import timestamp
from .policies import PolicyBindingStrategy, PolicyStrategy
from .quotas import QuotaController, QuotaStrategy
from .recorder import KEPT, Recorder
from .resources import Registry
from .server import Server, Settings
from .store import HISTORY_EVENTS, Event, Store
from .strategies import (
    ConfigMapStrategy,
    DefinitionStrategy,
    NamespaceStrategy,
    PodStrategy,
    SecretStrategy,
    ServiceStrategy,
    Strategy,
)

CLONESET = "clonesets.apps.kruise.io"
CLONESET_CRD = Path(__file__).with_name("cloneset_crd.yaml")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a cluster. Port 0 takes any free one; times are in seconds."""

    port: int = 0
    crds: tuple[Path, ...] = ()
    timing: Timing = field(default_factory=Timing)
    bookmark_seconds: float = 3.0
    history_events: int = HISTORY_EVENTS
    kept_events: int = KEPT
    nodes: int = 5


class Cluster:
    """`async with Cluster(crds=[path]) as cluster: cluster.url`; everything stops with the block."""

    def __init__(self, *, crds: Iterable[Path | str] = (), options: Options | None = None) -> None:
        self._options = options or Options()
        self._crds = (*self._options.crds, *(Path(path) for path in crds))
        self.store = Store(self._options.history_events)
        self.url = ""

    async def __aenter__(self) -> Self:
        self._build()
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._options.port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.end_watches()
        for part in self._controllers:
            part.close()
        await self._runner.cleanup()

    def _build(self) -> None:
        options = self._options
        registry = Registry()
        for resource in BUILT_IN:
            registry.add(resource)
        strategies: dict[str, Strategy] = {
            PODS.key: PodStrategy(),
            SERVICES.key: ServiceStrategy(),
            NAMESPACES.key: NamespaceStrategy(),
            CONFIG_MAPS.key: ConfigMapStrategy(),
            SECRETS.key: SecretStrategy(),
            DEFINITIONS.key: DefinitionStrategy(),
            QUOTAS.key: QuotaStrategy(),
            BUDGETS.key: BudgetStrategy(),
            POLICIES.key: PolicyStrategy(),
            POLICY_BINDINGS.key: PolicyBindingStrategy(),
            CLONESET: CloneSetStrategy(self.store),
        }
        api = Api(self.store, registry, strategies)
        definitions = Definitions(api)
        for path in (CLONESET_CRD, *self._crds):
            definitions.load(path)
        garbage = GarbageCollector(api)
        recorder = Recorder(self.store, options.kept_events)
        nodes = [f"node-{n}" for n in range(options.nodes)]
        kubelet = Kubelet(api, recorder, options.timing, nodes)
        cloneset = registry.of_key(CLONESET)
        assert cloneset is not None
        self._controllers = (
            garbage,
            kubelet,
            NamespaceController(api),
            CloneSetController(api, cloneset, recorder),
            EndpointsController(api),
            QuotaController(self.store, registry),
            BudgetController(self.store),
        )
        _furnish(api, nodes)
        self.server = Server(api, Settings(options.bookmark_seconds))
        # Cancelled handlers are how an idle watch learns that its client has gone.
        self._runner = web.ServerRunner(
            web.Server(self.server.handle, handler_cancellation=True), shutdown_timeout=0.1
        )

    @property
    def kubeconfig(self) -> str:
        """A kubeconfig for kubectl and clients, as YAML."""
        name = "triton-sandbox"
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "clusters": [{"name": name, "cluster": {"server": self.url}}],
                "users": [{"name": name, "user": {}}],
                "contexts": [
                    {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
                ],
            },
            sort_keys=False,
        )


def _furnish(api: Api, nodes: list[str]) -> None:
    """Create namespaces, ready nodes, and a service account for each namespace, later ones included."""

    def account(event: Event) -> None:
        if event.kind == "ADDED":
            api.create(
                SERVICE_ACCOUNTS, event.record.obj["metadata"]["name"], {"metadata": {"name": "default"}}
            )

    api.store.listen(NAMESPACES.key, account)
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        api.create(NAMESPACES, "", {"metadata": {"name": name}})
    for number, name in enumerate(nodes):
        node = api.create(
            NODES,
            "",
            {
                "metadata": {
                    "name": name,
                    "labels": {
                        "kubernetes.io/hostname": name,
                        "kubernetes.io/os": "linux",
                        "kubernetes.io/arch": "amd64",
                    },
                },
                "spec": {},
            },
        )
        api.store.put(NODES.key, {**node.obj, "status": _node_status(name, number)})


def _node_status(name: str, number: int) -> Json:
    now = timestamp()
    room = {"cpu": "1000", "memory": "4000Gi", "pods": "5000"}
    return {
        "capacity": room,
        "allocatable": room,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is simulated by the sandbox",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
        ],
        "addresses": [
            {"type": "InternalIP", "address": f"10.0.0.{number + 1}"},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": {
            "kubeletVersion": "v1.34.0+triton-sandbox",
            "osImage": "simulated",
            "kernelVersion": "none",
            "containerRuntimeVersion": "sandbox://0",
            "operatingSystem": "linux",
            "architecture": "amd64",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kubeProxyVersion": "",
        },
    }
