"""The connection of a command to its cluster: kubeconfig, namespace, and requests with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from cli.exits import BadInput, Failure
from shared.domain.bounded_yaml import Unreadable
from shared.domain.deployflow import FREEZE_WINDOWS, INSTANCE_LABEL
from shared.domain.json_types import Json
from shared.errors import ConfigError, Unavailable
from shared.kube.client import (
    CLONESETS,
    DEPLOYFLOWS,
    NAMESPACES,
    PODS,
    ApiError,
    Client,
    Resource,
    label_selector,
    read_kubeconfig,
)
from shared.releases.history import age

ANSWER_SECONDS: Final = 8.0
"""The time limit of a request: a person waits for it. A slower API server counts as unavailable."""

_USUAL: Final = Path("~/.kube/config").expanduser()

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """The kubeconfig and namespace that the options name, before any connection."""

    kubeconfig: Path | None
    namespace: str
    context: str | None = None

    @classmethod
    def of(cls, kubeconfig: Path | None, namespace: str | None, context: str | None = None) -> Place:
        """Return the place that options and environment name; raises `BadInput` for an unreadable kubeconfig, and for
        a context that it has not.
        """
        path = kubeconfig or _from_environment()
        if context is not None:
            path = path or _USUAL
            names = _contexts(path)
            if context not in names:
                msg = f"--context: kubeconfig {path} has no context {context}, only {', '.join(names) or 'none'}"
                raise BadInput(msg)
        return cls(
            path, namespace or (_context_namespace(path, context) if path else None) or "default", context
        )


def _from_environment() -> Path | None:
    """Return the kubeconfig of the settings, else the default one; None inside a cluster."""
    for name in ("TRITON_KUBECONFIG", "KUBECONFIG"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    return None if "KUBERNETES_SERVICE_HOST" in os.environ else _USUAL


def _read_kubeconfig(path: Path) -> Json:
    remedy = "name another by --kubeconfig or KUBECONFIG"
    try:
        config = read_kubeconfig(path)
    except FileNotFoundError:
        msg = f"kubeconfig {path} does not exist: {remedy}"
    except (OSError, Unreadable) as error:
        msg = f"kubeconfig {path} can't be read: {' '.join(str(error).split())}: {remedy}"
    else:
        if isinstance(config, dict) and config.get("clusters"):
            return config
        msg = f"kubeconfig {path} names no clusters: {remedy}"
    raise BadInput(msg)


def _contexts(kubeconfig: Path) -> list[str]:
    return [str(context.get("name")) for context in _read_kubeconfig(kubeconfig).get("contexts") or []]


def _context_namespace(kubeconfig: Path, name: str | None) -> str | None:
    """Return the namespace of the context `name`, else of the current one."""
    if kubeconfig == _USUAL and not kubeconfig.exists():
        return None  # no option names it; a command that needs a cluster reports that it is missing
    config = _read_kubeconfig(kubeconfig)
    for context in config.get("contexts") or []:
        if context.get("name") == (name or config.get("current-context")):
            namespace = (context.get("context") or {}).get("namespace")
            return str(namespace) if namespace else None
    return None


SELF_REVIEWS: Final = Resource("/apis/authentication.k8s.io/v1", "selfsubjectreviews")


class Cluster:
    """The API server for commands; every request is answered within `ANSWER_SECONDS` or fails."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def call(self, request: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(request, ANSWER_SECONDS)
        except TimeoutError:
            msg = f"Kubernetes at {self.client.server} did not answer within {ANSWER_SECONDS:g} s"
            raise Unavailable(msg) from None

    async def account(self) -> str:
        """Return the name by which the cluster knows the account of this kubeconfig; empty where it does not say."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self.call(self.client.create(SELF_REVIEWS, None, review))
        except ApiError:
            # before Kubernetes 1.28, or where nobody logs in
            return ""
        return str(answer["status"]["userInfo"].get("username", ""))

    async def deployflow(self, name: str) -> Json | None:
        return await self._get(DEPLOYFLOWS, name)

    async def has_instance(self, name: str) -> bool:
        return await self.cloneset(name) is not None

    async def releases(self, instance: str) -> list[Json]:
        """Return all DeployFlows of an instance, oldest first."""
        flows = await self.flows()
        return [flow for flow in flows if flow["spec"]["application"]["instanceName"] == instance]

    async def flows(self, *, selector: str = "", all_namespaces: bool = False) -> list[Json]:
        """Return all DeployFlows of the namespace, oldest first; raises `Failure` where it does not exist."""
        place = None if all_namespaces else self.namespace
        try:
            flows = await self.call(self.client.list(DEPLOYFLOWS, place, labels=selector))
        except ApiError as error:
            if error.code != 404:
                raise
            msg = (
                f"Kubernetes at {self.client.server} knows no DeployFlows: install the CRD with "
                "`triton crd --install`, or name another cluster by --kubeconfig"
            )
            raise Failure(msg) from error
        if not flows and not all_namespaces:
            await self._require_namespace()
        return sorted(flows, key=age)

    async def _require_namespace(self) -> None:
        try:
            await self.call(self.client.get(NAMESPACES, "", self.namespace))
        except ApiError as error:
            # who may not read it can't know
            if error.code == 404:
                msg = f"namespace {self.namespace} does not exist"
                raise Failure(msg) from error

    async def cloneset(self, instance: str) -> Json | None:
        return await self._get(CLONESETS, instance)

    async def _get(self, resource: Resource, name: str) -> Json | None:
        try:
            return await self.call(self.client.get(resource, self.namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def freeze_windows(self) -> str:
        """Return the freeze windows of the namespace's annotation; empty where it can't be read."""
        try:
            found = await self.call(self.client.get(NAMESPACES, "", self.namespace))
        except ApiError:
            return ""
        return str((found["metadata"].get("annotations") or {}).get(FREEZE_WINDOWS, ""))

    async def pods(self, instance: str) -> list[Json]:
        """Return the pods of an instance, without those that are being deleted."""
        labels = label_selector({INSTANCE_LABEL: instance})
        pods = await self.call(self.client.list(PODS, self.namespace, labels=labels))
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


@contextlib.asynccontextmanager
async def connect(place: Place) -> AsyncIterator[Cluster]:
    """Connect to the cluster; raises `BadInput` where the kubeconfig can't be used."""
    try:
        client = await Client.connect(place.kubeconfig, agent="triton-cli", context=place.context)
    except ConfigError as error:
        raise BadInput(str(error)) from error
    try:
        yield Cluster(client, place.namespace)
    finally:
        await client.close()
