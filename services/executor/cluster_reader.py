"""Reads from the API server what a command's decision needs, past the watch: it may lag behind our own writes."""

from __future__ import annotations

from typing import Final

import msgspec

from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.kube.client import CLONESETS, DEPLOYFLOWS, PAGE, PODS, ApiError, Client
from shared.kube.clonesets import CloneSet
from shared.kube.pods import Pod
from shared.kube.reflector import ListMeta, milliseconds

ENDED_PHASES: Final = frozenset({"Failed", "Succeeded"})
_cloneset = msgspec.json.Decoder(CloneSet)


class _PodList(msgspec.Struct):
    metadata: ListMeta
    items: list[Pod]


_pod_list = msgspec.json.Decoder(_PodList)


def cloneset_from(body: Json) -> CloneSet:
    return _cloneset.decode(msgspec.json.encode(body))


class ClusterReader:
    """Reads the CloneSet, the pods and the DeployFlow of a command."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def cloneset(self, command: m.Command) -> CloneSet | None:
        """Return the command's CloneSet, None when it does not exist."""
        try:
            return cloneset_from(await self._client.get(CLONESETS, command.namespace, command.instance))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def is_flow_unfinished(self, command: m.Command) -> bool:
        """Decide whether the command's DeployFlow, by its uid, exists and has not finished."""
        try:
            flow = await self._client.get(DEPLOYFLOWS, command.namespace, command.flow.name)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return flow["metadata"]["uid"] == command.flow.uid and not (flow.get("status") or {}).get("finished")

    async def counted_pods(self, command: m.Command, live: CloneSet | None) -> list[m.PodRef]:
        """Return the pods that the CloneSet's controller counts: none that is being deleted or has ended."""
        if live is None:
            return []
        query = {"labelSelector": f"app.kubernetes.io/instance={command.instance}", "limit": str(PAGE)}
        pods: list[m.PodRef] = []
        while True:
            page = _pod_list.decode(await self._client.list_page(PODS, command.namespace, query))
            pods += [_pod_ref(pod) for pod in page.items if _is_owned(pod, live) and _is_counted(pod)]
            if not page.metadata.next_page:
                return pods
            query["continue"] = page.metadata.next_page


def _pod_ref(pod: Pod) -> m.PodRef:
    return m.PodRef(
        uid=pod.metadata.uid,
        name=pod.metadata.name,
        revision=pod.revision,
        gate=pod.gate,
        ready=pod.ready,
        containers_ready=pod.containers_ready,
        created_at=milliseconds(pod.metadata.creation_timestamp),
        drained=pod.drained,
    )


def _is_counted(pod: Pod) -> bool:
    return not pod.deleting and pod.status.phase not in ENDED_PHASES


def _is_owned(pod: Pod, cloneset: CloneSet) -> bool:
    return any(
        owner.uid == cloneset.metadata.uid and owner.controller for owner in pod.metadata.owner_references
    )
