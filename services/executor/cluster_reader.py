"""Reads from the API server what a command's decision needs, past the watch: it may lag behind our own writes."""

from __future__ import annotations

import logging

import msgspec

from services.executor.stable_template import template_in
from shared.domain import messages as m
from shared.domain.deployflow import INSTANCE_LABEL
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.client import (
    CLONESETS,
    CONTROLLER_REVISIONS,
    DEPLOYFLOWS,
    PAGE,
    PODS,
    ApiError,
    Client,
    label_selector,
)
from shared.kube.clonesets import CloneSet
from shared.kube.objects import ObjectDecoder
from shared.kube.pods import Pod
from shared.kube.reflector import milliseconds

_log = logging.getLogger(__name__)
_cloneset = msgspec.json.Decoder(CloneSet)


def cloneset_from(body: Json) -> CloneSet:
    return _cloneset.decode(msgspec.json.encode(body))


class ClusterReader:
    """Reads the CloneSet, the pods and the DeployFlow of a command."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pods = ObjectDecoder(PODS, Pod)

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

    async def revised_template(self, command: m.Command, live: CloneSet | None) -> Json | None:
        """Return the template of the ControllerRevision that the CloneSet names; None where a cancel needs none."""
        name = live.metadata.annotations.get(cs.STABLE_REVISION) if live is not None else None
        if name is None or not isinstance(command, m.Cancel) or not command.restore_template:
            return None
        try:
            return template_in(await self._client.get(CONTROLLER_REVISIONS, command.namespace, name))
        except ApiError as error:
            if error.code != 404:
                raise
            # the cancel is carried out nevertheless: the old pods stay, by the partition
            _log.error(
                "ControllerRevision %s/%s is gone: its template stays replaced", command.namespace, name
            )
            return None

    async def counted_pods(self, command: m.Command, live: CloneSet | None) -> list[m.PodRef]:
        """Return the pods that the CloneSet's controller counts: none that is being deleted or has ended."""
        if live is None:
            return []
        pods = await self._owned_pods(live, label_selector({INSTANCE_LABEL: command.instance}))
        return [_pod_ref(pod) for pod in pods if _is_counted(pod)]

    async def selected_pods(self, live: CloneSet) -> list[Pod]:
        """Return the pods of a CloneSet that are not being deleted, found by its own selector."""
        pods = await self._owned_pods(live, selector_text(live.spec.selector))
        return [pod for pod in pods if not pod.deleting]

    async def _owned_pods(self, live: CloneSet, selector: str) -> list[Pod]:
        query = {"labelSelector": selector, "limit": str(PAGE)}
        pods: list[Pod] = []
        while True:
            page = self._pods.page(await self._client.list_page(PODS, live.metadata.namespace, query))
            pods += [pod for pod in page.items if _is_owned(pod, live)]
            if not page.metadata.next_page:
                return pods
            query["continue"] = page.metadata.next_page


def selector_text(selector: Json) -> str:
    """Return a label selector of a spec in the form of a query."""
    terms = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(expression.get("values") or [])
        match expression["operator"]:
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
            case operator:
                terms.append(f"{key} {operator.lower()} ({values})")
    return ",".join(terms)


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
    return not pod.deleting and not pod.ended


def _is_owned(pod: Pod, cloneset: CloneSet) -> bool:
    owner = pod.controller
    return owner is not None and owner.uid == cloneset.metadata.uid
