"""A real control plane with OpenKruise; KWOK plays the kubelets. The order of start-up is the order they need."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import yaml

from sandbox.process import Parts, Probe, free_port, listens
from sandbox.real import cache
from sandbox.real.cache import Say, run, tool
from sandbox.real.cluster_build import Binaries, provide
from sandbox.real.probes import answers
from shared.domain.json_types import Json

CLUSTER: Final = ("etcd", "apiserver", "controller-manager", "scheduler", "kruise", "kwok")
AUDIT: Final = Path("real", "cluster", "audit.log")
"""The audit log of the API server below the sandbox's state, if it is enabled."""
NODES: Final = 5
ADMIN_TOKEN: Final = "admin"  # noqa: S105 - of a server that listens on loopback, and is gone with the sandbox
_STAGES: Final = Path(__file__).with_name("stages.yaml")
_RATES: Final = ["--kube-api-qps=500", "--kube-api-burst=1000"]
"""The clients' own limits are for clusters of many nodes; here they would be all that is measured."""
_CONTROLLERS: Final = (
    "garbage-collector-controller,namespace-controller,endpoints-controller,endpointslice-controller,"
    "serviceaccount-controller,serviceaccount-token-controller,replicaset-controller,deployment-controller,"
    "disruption-controller,resourcequota-controller,horizontal-pod-autoscaler-controller"
)
AUTOSCALER_SECONDS: Final = 4
"""Between two counts of a HorizontalPodAutoscaler; 15 by default, which would make tests slow."""


class Cluster:
    """The parts of a control plane, in one folder. Use `start`, then the kubeconfig."""

    def __init__(
        self, parts: Parts, folder: Path, kubeconfig: Path, crds: list[Json], say: Say, *, audit: bool = False
    ) -> None:
        self._audit = audit
        self._parts = parts
        self._folder = folder
        self._pki = folder / "pki"
        self._kubeconfig = kubeconfig
        self._crds = crds
        self._say = say
        self.url = self.etcd_url = ""

    async def start(self) -> None:
        """Start the cluster; raise `SandboxError`."""
        kubectl = cache.kubectl()
        binaries = await self.start_bare()
        await self._controllers(binaries)
        await self._kruise(binaries, kubectl)
        await self._kubelets(binaries, kubectl)
        await self._apply(kubectl, "the DeployFlow CRD", self._crds)

    async def start_bare(self) -> Binaries:
        """Start an API server without OpenKruise and nodes; raise `SandboxError`."""
        binaries = await provide(self._say)
        self._pki.mkdir(parents=True)
        await self._keys()
        await self._servers(binaries)
        self._write_kubeconfig()
        return binaries

    async def _keys(self) -> None:
        openssl = tool("openssl", "apt-get install openssl")
        key, public = self._pki / "sa.key", self._pki / "sa.pub"
        await run("making a key", [openssl, "genrsa", "-out", key, "2048"], self._say, cwd=self._pki)
        await run(
            "making a key", [openssl, "rsa", "-in", key, "-pubout", "-out", public], self._say, cwd=self._pki
        )
        (self._pki / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")

    async def _servers(self, binaries: Binaries) -> None:
        client, peer, secure = free_port(), free_port(), free_port()
        etcd = self.etcd_url = f"http://127.0.0.1:{client}"
        await self._run(
            "etcd",
            [
                binaries.etcd / "etcd",
                "--data-dir",
                str(self._folder / "etcd"),
                "--unsafe-no-fsync",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
            ],
            listens(client),
        )
        self.url = f"https://127.0.0.1:{secure}"
        await self._run(
            "apiserver",
            [
                binaries.kubernetes / "kube-apiserver",
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={secure}",
                f"--cert-dir={self._pki}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._pki / 'sa.pub'}",
                f"--service-account-signing-key-file={self._pki / 'sa.key'}",
                f"--token-auth-file={self._pki / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.0.0.0/16",
                "--allow-privileged=true",
                # without kubelets nobody takes the taint of a new node away, or mounts a token
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                *self._auditing(),
            ],
            answers(f"{self.url}/readyz", {"Authorization": f"Bearer {ADMIN_TOKEN}"}),
        )

    def _auditing(self) -> list[str]:
        if not self._audit:
            return []
        policy = self._folder / "audit.json"
        rules = [{"level": "Metadata", "omitStages": ["RequestReceived"]}]
        policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self._folder / AUDIT.name}"]

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self._pki / "apiserver.crt")}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "admin"}}],
            "current-context": "sandbox",
        }
        self._kubeconfig.write_text(yaml.safe_dump(body))

    async def _controllers(self, binaries: Binaries) -> None:
        common = [
            f"--kubeconfig={self._kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            *_RATES,
        ]
        manager, scheduler = free_port(), free_port()
        await asyncio.gather(
            self._run(
                "controller-manager",
                [
                    binaries.kubernetes / "kube-controller-manager",
                    *common,
                    f"--secure-port={manager}",
                    f"--cert-dir={self._pki / 'manager'}",
                    f"--controllers={_CONTROLLERS}",
                    f"--horizontal-pod-autoscaler-sync-period={AUTOSCALER_SECONDS}s",
                    f"--service-account-private-key-file={self._pki / 'sa.key'}",
                ],
                listens(manager),
            ),
            self._run(
                "scheduler",
                [
                    binaries.kubernetes / "kube-scheduler",
                    *common,
                    f"--secure-port={scheduler}",
                    f"--cert-dir={self._pki / 'scheduler'}",
                ],
                listens(scheduler),
            ),
        )

    async def _kruise(self, binaries: Binaries, kubectl: Path) -> None:
        command: list[str | Path] = [kubectl, "kustomize", binaries.kruise / "config" / "default"]
        # what it says to standard error about old fields of OpenKruise's own files is not YAML
        manifests = await run("reading OpenKruise's manifests", command, self._say, cwd=self._folder)
        documents = yaml.safe_load_all(manifests[manifests.index("apiVersion:") :])
        # they would run in containers; here the manager is a process beside
        kept = [one for one in documents if one["kind"] not in {"Deployment", "DaemonSet"}]
        await self._apply(kubectl, "OpenKruise's definitions", kept)
        webhook, metrics, health = free_port(), free_port(), free_port()
        # its default is /log, which only root can make
        protection_log = self._folder / "kruise-protection"
        protection_log.mkdir()
        await self._run(
            "kruise",
            [
                binaries.kruise / "kruise-manager",
                "--enable-leader-election=false",
                "--enable-pprof=false",
                f"--protection-log-path={protection_log}",
                f"--metrics-addr=127.0.0.1:{metrics}",
                f"--health-probe-addr=127.0.0.1:{health}",
                "--feature-gates=KruiseDaemon=false",
                "--rest-config-qps=500",
                "--rest-config-burst=1000",
            ],
            answers(f"http://127.0.0.1:{health}/readyz"),
            {
                "KUBECONFIG": str(self._kubeconfig),
                "POD_NAMESPACE": "kruise-system",
                "WEBHOOK_HOST": "127.0.0.1",
                "WEBHOOK_PORT": str(webhook),
                "WEBHOOK_CERT_DIR": str(self._pki / "kruise"),
            },
        )

    async def _kubelets(self, binaries: Binaries, kubectl: Path) -> None:
        server = free_port()
        await self._run(
            "kwok",
            [
                binaries.kwok / "kwok",
                f"--kubeconfig={self._kubeconfig}",
                "--manage-all-nodes=true",
                f"--config={_STAGES}",
                f"--server-address=127.0.0.1:{server}",
            ],
            listens(server),
        )
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"node-{number}",
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"kubernetes.io/hostname": f"node-{number}", "kubernetes.io/os": "linux"},
                },
            }
            for number in range(NODES)
        ]
        await self._apply(kubectl, "nodes", nodes)
        command: list[str | Path] = [
            kubectl,
            "wait",
            "--for=condition=Ready",
            "nodes",
            "--all",
            "--timeout=60s",
        ]
        await run(
            "waiting for the nodes", command, self._say, cwd=self._folder, environment=self._environment()
        )

    def _environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self._kubeconfig)}

    async def _apply(self, kubectl: Path, what: str, objects: list[Json]) -> None:
        file = self._folder / f"{what.replace(' ', '-')}.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        command: list[str | Path] = [kubectl, "apply", "--server-side", "-f", file]
        await run(f"applying {what}", command, self._say, cwd=self._folder, environment=self._environment())

    async def _run(
        self,
        name: str,
        command: list[str | Path],
        probe: Probe,
        environment: dict[str, str] | None = None,
    ) -> None:
        await self._parts.run(name, [str(word) for word in command], probe, environment)
