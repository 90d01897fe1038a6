"""Adopts CloneSets that Triton did not make, once somebody has requested it by an annotation.

The CloneSet gets the label of Triton's CloneSets, and its pods the labels by which the services find them: only
labels, so no pod is replaced. Template and readiness gate come with the first update. Until all pods are made from a
template of Triton's, OpenKruise may make more without these labels: each change of the CloneSet has them labeled too.
"""

from __future__ import annotations

import logging

from services.executor.cluster_reader import ClusterReader, cloneset_from
from shared.domain.topics import Key
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, PODS, ApiError, Client
from shared.kube.clonesets import CloneSet
from shared.kube.ownership import (
    Ownership,
    adoption_patch,
    explain_obstacles,
    has_labeled_template,
    is_adopted,
    missing_pod_labels,
    ownership_of,
)
from shared.kube.reflector import Reflector
from shared.messaging.coalescing_queue import CoalescingQueue

_log = logging.getLogger(__name__)


class Adoption:
    """The only writer of the labels of adopted CloneSets and of their pods."""

    def __init__(self, client: Client, clonesets: Reflector[CloneSet]) -> None:
        self._client = client
        self._reader = ClusterReader(client)
        self._clonesets = clonesets
        self._changed = CoalescingQueue(self._label_again)

    async def adopt(self, live: CloneSet) -> CloneSet:
        """Return the CloneSet as Triton's, if its adoption is requested and possible; raise `ApiError`."""
        if ownership_of(live) != Ownership.REQUESTED or explain_obstacles(live):
            return live
        meta = live.metadata
        patch = adoption_patch(live)
        assert patch is not None, "a CloneSet without the label is to be patched"
        written = await self._client.patch(CLONESETS, meta.namespace, meta.name, patch)
        self._clonesets.put(written)
        _log.info("adopted CloneSet %s/%s", meta.namespace, meta.name)
        return cloneset_from(written)

    async def label_pods(self, live: CloneSet | None) -> None:
        """Label the pods of an adopted CloneSet that still lack the labels; raise `ApiError`."""
        if live is None or not needs_labeled_pods(live):
            return
        for pod in await self._reader.selected_pods(live):
            if labels := missing_pod_labels(live, pod.metadata.labels):
                meta = pod.metadata
                body = {"metadata": {"uid": meta.uid, "labels": labels}}
                try:
                    await self._client.patch(PODS, meta.namespace, meta.name, body)
                except ApiError as error:
                    if error.code not in {404, 409}:
                        raise
                    # it is gone, and another of its name may have taken its place

    def cloneset_changed(self, live: CloneSet) -> None:
        """Have the pods labeled soon that OpenKruise may have made."""
        if needs_labeled_pods(live):
            self._changed.mark(Key(live.metadata.namespace, live.metadata.name))

    async def _label_again(self, key: Key) -> None:
        try:
            await self.label_pods(self._clonesets.get(*key))
        except (ApiError, Unavailable) as error:
            # the next change, and at the latest the next command, labels them
            _log.warning("could not label the pods of adopted CloneSet %s: %s", key, error)


def needs_labeled_pods(live: CloneSet) -> bool:
    """Decide whether pods of this CloneSet may lack the labels: some are made of a template without them."""
    status = live.status
    whole = live.settled and status.updated_replicas >= status.replicas
    return (
        is_adopted(live)
        and ownership_of(live) == Ownership.OURS
        and not (whole and has_labeled_template(live))
    )
