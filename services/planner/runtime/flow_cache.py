"""The planner's cache of the DeployFlows, which publishes their changes to the replica that owns the instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from services.planner.rules.predecessors import Predecessor
from shared.domain import deployflow as df
from shared.domain.deploy_commands import LONGEST_REQUESTER, last_command_of, strategy_in
from shared.domain.managed_namespaces import manages
from shared.domain.messages import Due, FlowRef, Message, SpecGone, SpecObserved
from shared.domain.object_bounds import DEEPEST_READ, TooDeep, is_deeper
from shared.domain.requesters import Via
from shared.domain.topics import Key
from shared.errors import Fault, Unavailable
from shared.kube.client import DEPLOYFLOWS, ApiError, Client
from shared.kube.reflector import Meta, Reflector, milliseconds
from shared.messaging.background_publisher import BackgroundPublisher
from shared.messaging.consumer import Consumer
from shared.messaging.kafka import LARGEST_MESSAGE, Kafka
from shared.settings import Settings

LONGEST_REQUEST: Final = 1_000
"""Characters of the id of a request."""
LARGEST_SPEC: Final = LARGEST_MESSAGE
"""Bytes of a DeployFlow without its status, as JSON. It is in messages, in the CloneSet, and in a revision of it."""


class DeployFlow(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: dict[str, Any]
    status: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Raise `ValueError` for what is too deep: its reader cuts it, and the rest says that it cannot be used."""
        if is_deeper([self.spec, self.status], DEEPEST_READ):
            raise TooDeep

    @property
    def key(self) -> Key:
        application = self.spec.get("application")
        name = application.get("instanceName") if isinstance(application, dict) else None
        return Key(self.metadata.namespace, str(name or ""))

    @property
    def finished(self) -> bool:
        return bool(self.status.get("finished"))

    @property
    def held(self) -> bool:
        """Return whether Triton's finalizer keeps it from being deleted."""
        return df.FINALIZER in self.metadata.finalizers

    @property
    def size_without_status(self) -> int:
        """Return the bytes of its spec, labels and annotations as JSON."""
        return len(msgspec.json.encode((self.spec, self.metadata.labels, self.metadata.annotations)))

    @property
    def version(self) -> int:
        version = self.status.get("version")
        return version if isinstance(version, int) else 0


def resource(flow: DeployFlow, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return it as the cluster has it, without fields that nobody reads. `status`: replaces its own."""
    meta = flow.metadata
    return {
        "apiVersion": df.API_VERSION,
        "kind": df.KIND,
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "generation": meta.generation,
            "creationTimestamp": meta.creation_timestamp,
            **({"deletionTimestamp": meta.deletion_timestamp} if meta.deletion_timestamp else {}),
            "labels": meta.labels,
            "annotations": meta.annotations,
        },
        "spec": flow.spec,
        "status": {
            "phase": str(df.FlowPhase.PENDING),
            "finished": False,
            **(status or flow.status),
            **{name: flow.status[name] for name in ("replyTo", "replyId") if name in flow.status},
        },
    }


def observed(flow: DeployFlow) -> SpecObserved:
    """Return a DeployFlow as a message; without its spec where it is too large to begin."""
    key = flow.key
    meta = flow.metadata
    message = SpecObserved(
        namespace=key.namespace,
        instance=key.instance,
        flow=FlowRef(name=meta.name, uid=meta.uid),
        generation=meta.generation,
        created_at=milliseconds(meta.creation_timestamp),
        deleting=meta.deletion_timestamp is not None,
        request=meta.annotations.get(df.LAST_REQUEST, "")[:LONGEST_REQUEST],
        requested_by=meta.annotations.get(df.REQUESTED_BY, "")[:LONGEST_REQUESTER],
        requested_by_claimed=meta.annotations.get(df.REQUESTED_BY_CLAIMED) == "true",
        requested_via=_via(meta),
        last_command=last_command_of(meta.annotations),
        freeze_override=_override(meta),
        keeps_replicas=meta.annotations.get(df.KEEPS_REPLICAS) == "true",
        either_direction=meta.annotations.get(df.EITHER_DIRECTION) == "true",
        requested_strategy=strategy_in(meta.annotations) if meta.generation > 1 else None,
        spec=flow.spec,
        status={"finished": True} if flow.finished else flow.status,
    )
    if not flow.status.get("startedAt") and (size := flow.size_without_status) > LARGEST_SPEC:
        text = (
            f"spec: the DeployFlow has {size} bytes as JSON; at most {LARGEST_SPEC} are carried out: put large texts into "
            "a ConfigMap or the image"
        )
        return without_spec(message, text)
    return message


def without_spec(message: SpecObserved, fault: str) -> SpecObserved:
    """Return a small message that says why the DeployFlow can't be passed on."""
    status = {name: value for name, value in message.status.items() if not isinstance(value, dict | list)}
    return message.model_copy(update={"spec": {}, "status": status, "fault": fault})


def _via(meta: Meta) -> str:
    """Return how the request of the release came: a name without a request is in a manifest that somebody applied."""
    by_hand = df.LAST_REQUEST not in meta.annotations
    return Via.KUBECTL if by_hand else meta.annotations.get(df.REQUESTED_VIA, "")[:20]


def _override(meta: Meta) -> str:
    """Return the reason in one line, no longer than a status may be."""
    return " ".join(meta.annotations.get(df.FREEZE_OVERRIDE, "").split())[:500]


def replace_refused(message: Message, fault: Fault) -> list[Message]:
    """Return what is published instead of a message that Kafka refuses: that its DeployFlow can't be carried out."""
    if isinstance(message, SpecObserved) and not message.fault:
        return [without_spec(message, f"the DeployFlow can't be passed on: {fault.message}")]
    return []


class FlowCache:
    """Watches the DeployFlows. Publishes what changed of those whose partition this replica has."""

    def __init__(self, client: Client, kafka: Kafka, settings: Settings) -> None:
        self._client = client
        self._namespaces = settings.namespaces
        self._consumer: Consumer | None = None
        self._by_key: dict[Key, dict[str, DeployFlow]] = {}
        """Keyed by instance, then by uid."""
        self.changed: Callable[[Key, str], None] = lambda *_: None
        """Called for every change of a DeployFlow, whoever made it; with its uid where it is deleted."""
        self.outgoing = BackgroundPublisher(kafka, instead=replace_refused)
        self.reflector = Reflector(
            client,
            DEPLOYFLOWS,
            DeployFlow,
            self._changed,
            namespaces=settings.namespaces,
            silence_seconds=settings.watch_silence_seconds,
        )

    def attach(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def get(self, namespace: str, name: str) -> DeployFlow | None:
        return self.reflector.get(namespace, name)

    def of_instance(self, key: Key) -> list[SpecObserved]:
        return [observed(flow) for flow in self.releases(key)]

    def releases(self, key: Key) -> list[DeployFlow]:
        """Return all DeployFlows of an instance, in no order."""
        return list(self._by_key.get(key, {}).values())

    def owned_histories(self) -> list[list[DeployFlow]]:
        """Return all DeployFlows of each instance of this replica's partitions that has several."""
        return [
            list(flows.values()) for key, flows in self._by_key.items() if len(flows) > 1 and self.owns(key)
        ]

    def predecessors(self, key: Key) -> list[Predecessor]:
        """Return the releases of an instance that have begun."""
        return [
            Predecessor(
                flow.metadata.uid, str(flow.spec.get("action", "")), str(flow.status.get("phase", ""))
            )
            for flow in self.releases(key)
            if flow.status.get("startedAt")
        ]

    def unfinished(self) -> list[DeployFlow]:
        """Return the unfinished flows of this replica's partitions."""
        return [flow for flow in self.reflector.items.values() if not flow.finished and self._owns_flow(flow)]

    def unfinished_anywhere(self) -> list[DeployFlow]:
        """Return the unfinished flows of all replicas."""
        return [flow for flow in self.reflector.items.values() if not flow.finished]

    def finished_with_finalizer(self) -> list[DeployFlow]:
        """Return the finished flows of this replica's partitions that still have the finalizer."""
        return [
            flow
            for flow in self.reflector.items.values()
            if flow.finished and flow.held and self._owns_flow(flow)
        ]

    def finished_after(self, time: str) -> list[DeployFlow]:
        """Return the flows of all replicas that finished after a time, written as in `.status`."""
        return [
            flow
            for flow in self.reflector.items.values()
            if flow.finished and str(flow.status.get("finishedAt") or "") > time
        ]

    async def application(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the application of a DeployFlow; None when it is deleted. Raises `Unavailable`."""
        flow = self.get(namespace, name)
        if flow is not None:
            found: dict[str, Any] = flow.spec["application"]
            return found
        try:
            live = await self._client.get(DEPLOYFLOWS, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise Unavailable(str(error)) from error
        application: dict[str, Any] = live["spec"]["application"]
        return application

    def recheck_namespace(self, namespace: str) -> None:
        """Have the instances of a namespace decided again that have an unfinished release."""
        for key in {flow.key for flow in self.unfinished() if flow.metadata.namespace == namespace}:
            self.recheck(key)

    def recheck_waiting(self, namespace: str) -> None:
        """Have the instances of a namespace decided again that have a release that has not begun."""
        for flow in self.unfinished():
            if flow.metadata.namespace == namespace and not flow.status.get("startedAt"):
                self.recheck(flow.key)

    async def assigned(self, owned: frozenset[int]) -> None:  # noqa: ARG002 - the consumer knows it
        """Publish every unfinished flow of the partitions that this replica owns now."""
        for flow in self.unfinished():
            self.outgoing.put(observed(flow))

    def recheck(self, key: Key) -> None:
        self.outgoing.put(Due(namespace=key.namespace, instance=key.instance))

    def owns(self, key: Key) -> bool:
        """Return True for an instance in this replica's partitions, in a namespace that this Triton manages."""
        return self.manages(key.namespace) and self._consumer is not None and self._consumer.owns(str(key))

    def manages(self, namespace: str) -> bool:
        """Return whether this Triton acts in the namespace."""
        return manages(self._namespaces, namespace)

    def _owns_flow(self, flow: DeployFlow) -> bool:
        return self.owns(flow.key)

    def _changed(self, old: DeployFlow | None, new: DeployFlow | None) -> None:
        flow = new or old
        if flow is None or not flow.key.instance:
            return
        if new is not None:
            self._by_key.setdefault(flow.key, {})[flow.metadata.uid] = new
        elif (known := self._by_key.get(flow.key)) is not None:
            known.pop(flow.metadata.uid, None)
            if not known:
                del self._by_key[flow.key]
        self.changed(flow.key, "" if new else flow.metadata.uid)
        if not self._owns_flow(flow):
            return
        if new is None:
            ref = FlowRef(name=flow.metadata.name, uid=flow.metadata.uid)
            self.outgoing.put(SpecGone(namespace=flow.key.namespace, instance=flow.key.instance, flow=ref))
        elif old is None or _is_changed_by_others(old, new):
            self.outgoing.put(observed(new))


def _is_changed_by_others(old: DeployFlow, new: DeployFlow) -> bool:
    """Decide whether somebody else changed the flow: most changes are our own writes of its status."""
    return (
        old.metadata.generation != new.metadata.generation
        or old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        or old.finished != new.finished
        or _override(old.metadata) != _override(new.metadata)
    )
