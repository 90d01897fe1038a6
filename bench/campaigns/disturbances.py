"""Carries disturbances out: one function for each kind, by its name in `kinds`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from bench.campaigns.api_faults import Storm
from bench.campaigns.kinds import KINDS, Group
from bench.campaigns.observed import INSTANCE, image_of
from bench.campaigns.story import GOOD, Disturbance, Release
from shared.domain.deploy_commands import CommandType
from shared.domain.deployflow import INSTANCE_LABEL, Action
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube.client import CLONESETS, NAMESPACES, PODS, ApiError, Resource
from shared.kube.clonesets import REPLICAS, CloneSet
from shared.kube.pods import Pod

if TYPE_CHECKING:
    from bench.campaigns.player import Player

NODES: Final = Resource("/api/v1", "nodes")
QUOTAS: Final = Resource("/api/v1", "resourcequotas")
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
POLICIES: Final = Resource(_ADMISSION, "validatingadmissionpolicies")
BINDINGS: Final = Resource(_ADMISSION, "validatingadmissionpolicybindings")
WEBHOOKS: Final = Resource(_ADMISSION, "validatingwebhookconfigurations")
_ATTEMPTS: Final = 20
_WEBHOOK_AWAY: Final = "failed calling webhook"
_AGAIN_SECONDS: Final = 0.3
_LEARNS_SECONDS: Final = 2
T = TypeVar("T")
Act = Callable[["Player", Json], Awaitable[bool]]
"""Returns whether anything was done."""


async def carry_out(player: Player, disturbance: Disturbance) -> bool:
    """Do it; return False where there was nothing to do it to, or the cluster does not know such a thing."""
    kind = KINDS[disturbance.kind]
    flow = player.flow()
    if kind.group == Group.PEOPLE and (flow is None or flow.finished):
        return False
    try:
        return await _ACTS[kind.name](player, disturbance.args)
    except ApiError as error:
        # gone meanwhile, or refused: by a quota, or since the namespace goes
        if error.code in {403, 404, 409, 422}:
            return False
        raise
    except Unavailable as error:
        if _WEBHOOK_AWAY in str(error):
            return False
        raise


# --- people ---


async def _pause(player: Player, args: Json) -> bool:
    paused = await player.person.press(player.main, CommandType.PAUSE)
    await asyncio.sleep(args["seconds"])
    await player.person.press(player.main, CommandType.RESUME)
    return paused


async def _cancel(player: Player, _args: Json) -> bool:
    return await player.person.press(player.main, CommandType.CANCEL)


async def _retry(player: Player, _args: Json) -> bool:
    return await player.person.press(player.main, CommandType.RETRY)


async def _promote(player: Player, _args: Json) -> bool:
    player.approve(player.main)
    return await player.person.press(player.main, CommandType.PROMOTE)


async def _rollback(player: Player, _args: Json) -> bool:
    return await player.person.roll_back(player.new_name())


async def _second_release(player: Player, args: Json) -> bool:
    strategy = {"mode": args["mode"], "batchSize": args["batchSize"]}
    release = Release(Action.UPDATE, args["change"], args.get("image", GOOD), strategy)
    name = await player.apply(release, max(player.base + args["change"], 1))
    # the round must not end before it is seen
    await player.until_seen(lambda: player.flow(name) is not None)
    return True


async def _create_again(player: Player, _args: Json) -> bool:
    name = await player.apply(Release(Action.CREATE, 0, GOOD, {"mode": "auto"}), max(player.base, 1))
    await player.until_seen(lambda: player.flow(name) is not None)
    return True


async def _edit(player: Player, args: Json) -> bool:
    return await player.person.edit(player.main, args)


async def _spec_back(player: Player, _args: Json) -> bool:
    spec = player.manifest_of(player.main)
    return spec is not None and await player.person.put_back(player.main, spec)


async def _delete_release(player: Player, _args: Json) -> bool:
    player.deleted.append(player.base)
    await player.person.delete(player.main)
    return True


# --- neighbours ---


async def _scale(player: Player, args: Json) -> bool:
    return await _scale_to(player, max(player.base + args["change"], 1))


async def _hpa(player: Player, args: Json) -> bool:
    written = False
    for _ in range(args["times"]):
        written = await _scale_to(player, max(player.base + args["change"], 1)) or written
        await asyncio.sleep(args["seconds"])
    return written


async def _scale_zero(player: Player, args: Json) -> bool:
    written = await _scale_to(player, 0)
    await asyncio.sleep(args["seconds"])
    return await _until_accepted(lambda: _scale_to(player, max(player.base, 1))) or written


async def _scale_to(player: Player, count: int) -> bool:
    """Write the count, as it was decided on what the CloneSet has; return False where it has that already."""
    player.sight.floor.scale(len(player.sight.now.live), count)
    player.approve_all()
    for _ in range(_ATTEMPTS):
        cloneset = await player.person.cloneset()
        if cloneset is None or cloneset["spec"]["replicas"] == count:
            return False
        version = cloneset["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": count}}
        try:
            await player.place.client.patch(CLONESETS, player.namespace, INSTANCE, body)
        except ApiError as error:
            if error.code != 409:
                raise
        else:
            player.scaled(count, own=cloneset["metadata"].get("annotations", {}).get(REPLICAS) == str(count))
            return True
    return False


def _pods(player: Player, args: Json) -> list[Pod]:
    """Return the pods that are meant, oldest first."""
    flow = player.flow()
    target = flow.image if flow else ""
    pods = sorted(player.sight.now.live, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))
    match args["which"]:
        case "new":
            return [pod for pod in pods if image_of(pod) == target]
        case "old":
            return [pod for pod in pods if image_of(pod) != target]
    return pods


def _taken(player: Player, args: Json) -> Pod | None:
    """Choose the pod that somebody takes."""
    if not (pods := _pods(player, args)):
        return None
    index: int = args["index"]
    pod = pods[index % len(pods)]
    player.sight.floor.take(pod.metadata.uid)
    return pod


async def _delete_pod(player: Player, args: Json) -> bool:
    if (pod := _taken(player, args)) is None:
        return False
    await player.place.client.delete(PODS, player.namespace, pod.metadata.name)
    return True


async def _evict_pod(player: Player, args: Json) -> bool:
    if (pod := _taken(player, args)) is None:
        return False
    await _evict(player, pod)
    return True


async def _evict(player: Player, pod: Pod) -> None:
    name = pod.metadata.name
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    eviction = Resource("/api/v1", f"pods/{name}/eviction")
    with contextlib.suppress(ApiError):
        await player.place.client.create(eviction, player.namespace, body)


async def _drain(player: Player, args: Json) -> bool:
    nodes = sorted({pod.spec.node_name for pod in player.sight.now.live} - {""})
    if not nodes:
        return False
    index: int = args["index"]
    node = nodes[index % len(nodes)]
    await player.place.client.patch(NODES, "", node, {"spec": {"unschedulable": True}})
    try:
        there = [pod for pod in player.sight.now.live if pod.spec.node_name == node]
        for pod in there:
            player.sight.floor.take(pod.metadata.uid)
            await _evict(player, pod)
        await asyncio.sleep(args["seconds"])
    finally:
        await player.place.client.patch(NODES, "", node, {"spec": {"unschedulable": None}})
    return True


async def _take_label_off(player: Player, args: Json) -> bool:
    if (pod := _taken(player, args)) is None:
        return False
    body: Json = {"metadata": {"labels": {INSTANCE_LABEL: None}}}
    await player.place.client.patch(PODS, player.namespace, pod.metadata.name, body)
    return True


async def _label_pods(player: Player, _args: Json) -> bool:
    pods = player.sight.now.live
    for pod in pods:
        body = {"metadata": {"labels": {"example.org/seen": "true"}}}
        with contextlib.suppress(ApiError):
            await player.place.client.patch(PODS, player.namespace, pod.metadata.name, body)
    return bool(pods)


async def _patch_cloneset(player: Player, body: Json) -> None:
    await player.place.client.patch(CLONESETS, player.namespace, INSTANCE, body)


async def _take_cloneset_labels(player: Player, args: Json) -> bool:
    cloneset = await player.person.cloneset()
    labels = (cloneset or {}).get("metadata", {}).get("labels")
    if not labels:
        return False
    await _patch_cloneset(player, {"metadata": {"labels": dict.fromkeys(labels)}})
    await asyncio.sleep(args["seconds"])
    await _until_accepted(lambda: _patch_cloneset(player, {"metadata": {"labels": labels}}))
    return True


async def _until_accepted(write: Callable[[], Awaitable[T]]) -> T:
    """Write again what is refused: a policy or webhook of the same story goes, and what was taken has to come back."""
    while True:
        try:
            return await write()
        except ApiError as error:
            if error.code == 404:
                raise
        except Unavailable as error:
            if _WEBHOOK_AWAY not in str(error):
                raise
        await asyncio.sleep(_AGAIN_SECONDS)


async def _edit_cloneset(player: Player, _args: Json) -> bool:
    body = {
        "metadata": {"annotations": {"example.org/owner": "campaign"}},
        "spec": {"revisionHistoryLimit": 7},
    }
    await _patch_cloneset(player, body)
    return True


async def _delete_cloneset(player: Player, args: Json) -> bool:
    player.unknown = True
    player.sight.floor.lower(0)
    player.approve_all()
    options = {"propagationPolicy": args["propagation"]}
    uid = cloneset.metadata.uid if (cloneset := player.sight.now.cloneset) else ""
    await player.place.client.delete(CLONESETS, player.namespace, INSTANCE, options)
    # what comes next must not begin on one that only seems to be there
    await player.until_seen(lambda: _is_going(player.sight.now.cloneset, uid))
    return True


def _is_going(cloneset: CloneSet | None, uid: str) -> bool:
    return cloneset is None or cloneset.deleting or cloneset.metadata.uid != uid


@contextlib.asynccontextmanager
async def _existing(
    player: Player, resource: Resource, body: Json, *, namespaced: bool = False
) -> AsyncIterator[None]:
    """Make an object, and delete it after the block."""
    namespace = player.namespace if namespaced else None
    await player.place.client.create(resource, namespace, body)
    try:
        yield
    finally:
        with contextlib.suppress(ApiError):
            await player.place.client.delete(resource, namespace or "", body["metadata"]["name"])


async def _quota(player: Player, args: Json) -> bool:
    body = {
        "metadata": {"name": "no-more-pods"},
        "spec": {"hard": {"pods": str(len(player.sight.now.pods))}},
    }
    async with _existing(player, QUOTAS, body, namespaced=True):
        await asyncio.sleep(args["seconds"])
    return True


def _rules(*operations: str) -> list[Json]:
    return [
        {
            "apiGroups": ["apps.kruise.io"],
            "apiVersions": ["*"],
            "operations": list(operations),
            "resources": ["clonesets"],
        }
    ]


async def _policy(player: Player, args: Json) -> bool:
    name = player.namespace
    policy = {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": _rules("CREATE", "UPDATE")},
            "validations": [
                {"expression": "false", "message": "no CloneSet may change now (by the campaign)"}
            ],
        },
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": player.namespace}}}
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": here},
    }
    async with _existing(player, POLICIES, policy), _existing(player, BINDINGS, binding):
        await asyncio.sleep(args["seconds"])
    await _admitted(player)
    return True


async def _webhook(player: Player, args: Json) -> bool:
    webhook = {
        "name": "campaign.example.org",
        "clientConfig": {"url": "https://127.0.0.1:1/never"},
        "rules": _rules("CREATE", "UPDATE"),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": player.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 1,
        "admissionReviewVersions": ["v1"],
    }
    body = {"metadata": {"name": player.namespace}, "webhooks": [webhook]}
    async with _existing(player, WEBHOOKS, body):
        await asyncio.sleep(args["seconds"])
    await _admitted(player)
    return True


async def _admitted(player: Player) -> None:
    """Wait until the CloneSet may change again: an API server learns later that what refuses has gone."""
    body: Json = {"metadata": {"annotations": {"example.org/tried": "once"}}}

    async def attempt() -> None:
        await player.place.client.patch(CLONESETS, player.namespace, INSTANCE, body, dry_run=True)

    try:
        await _until_accepted(attempt)
    except ApiError:
        # there is none to try it with
        await asyncio.sleep(_LEARNS_SECONDS)


async def _delete_namespace(player: Player, _args: Json) -> bool:
    player.is_going = player.unknown = True
    player.sight.floor.lower(0)
    await player.place.client.delete(NAMESPACES, "", player.namespace)
    return True


# --- faults ---


async def _kill(player: Player, args: Json) -> bool:
    await player.place.kill(args["service"])
    return True


async def _stop(player: Player, args: Json) -> bool:
    await player.place.stop(args["service"], args["seconds"])
    return True


async def _empty_redis(player: Player, _args: Json) -> bool:
    await player.place.empty_redis()
    return True


async def _restart_kafka(player: Player, _args: Json) -> bool:
    await player.place.restart_kafka()
    return True


async def _close_watches(player: Player, _args: Json) -> bool:
    player.place.faults.close_watches()
    return True


def _storm(kind: Storm) -> Act:
    async def storm(player: Player, args: Json) -> bool:
        await player.place.trouble(lambda faults: faults.storm(kind, args["seconds"]))
        return True

    return storm


_ACTS: Final[dict[str, Act]] = {
    "pause": _pause,
    "cancel": _cancel,
    "retry": _retry,
    "rollback": _rollback,
    "second-release": _second_release,
    "promote": _promote,
    "batch-size": _edit,
    "strategy-edit": _edit,
    "spec-back": _spec_back,
    "delete-release": _delete_release,
    "create-again": _create_again,
    "scale": _scale,
    "hpa": _hpa,
    "scale-zero": _scale_zero,
    "pod-deletion": _delete_pod,
    "eviction": _evict_pod,
    "drain": _drain,
    "label-off": _take_label_off,
    "pod-label": _label_pods,
    "cloneset-labels": _take_cloneset_labels,
    "cloneset-edit": _edit_cloneset,
    "cloneset-deletion": _delete_cloneset,
    "quota": _quota,
    "policy": _policy,
    "webhook": _webhook,
    "namespace": _delete_namespace,
    "kill": _kill,
    "stop": _stop,
    "redis-emptied": _empty_redis,
    "watch-closed": _close_watches,
    "gone-storm": _storm(Storm.GONE),
    "conflict-storm": _storm(Storm.CONFLICT),
    "busy-storm": _storm(Storm.BUSY),
    "kafka-restarted": _restart_kafka,
}
assert _ACTS.keys() == KINDS.keys()
