"""Pods: Ready follows containers and gates, deletion takes its time, traffic follows Ready."""

from __future__ import annotations

from functools import partial

from shared.domain.json_types import Json

from .kube import GATE, PODS, Kube, a_pod, condition, name

SERVICES = "/api/v1/namespaces/{}/services"
ENDPOINTS = "/api/v1/namespaces/{}/endpoints"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
GATED = [{"conditionType": GATE}]


def _has_ready(status: str, pod: Json) -> bool:
    return condition(pod, "Ready") == status


async def test_a_pod_gets_a_node_an_address_and_becomes_ready(kube: Kube) -> None:
    made = await kube.made(kube.path(PODS), a_pod("one"))
    assert made["status"]["phase"] == "Pending"
    assert made["spec"]["restartPolicy"] == "Always"
    pod = await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    assert pod["spec"]["nodeName"]
    assert pod["status"]["podIP"]
    assert [condition(pod, kind) for kind in ("PodScheduled", "Initialized", "ContainersReady")] == [
        "True"
    ] * 3
    [container] = pod["status"]["containerStatuses"]
    assert (container["ready"], container["restartCount"]) == (True, 0)
    assert container["state"]["running"]["startedAt"]


async def test_a_pod_with_a_gate_is_ready_only_while_the_gate_is_open(kube: Kube) -> None:
    pod = await kube.made(kube.path(PODS), a_pod("one", readinessGates=GATED))
    path = kube.path(PODS, "one")
    closed = await kube.until(path, lambda found: condition(found, "ContainersReady") == "True")
    assert condition(closed, "Ready") == "False"
    for status in ("True", "False", "True"):
        await kube.open_gate(pod, status=status)
        await kube.until(path, partial(_has_ready, status))


async def test_a_crashing_pod_says_so_in_its_container_status(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one", image="demo:crash"))
    pod = await kube.until(
        kube.path(PODS, "one"),
        lambda found: (
            found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        ),
    )
    assert pod["status"]["containerStatuses"][0]["restartCount"] > 0
    assert condition(pod, "ContainersReady") == "False"


async def test_a_deleted_pod_is_terminating_first_and_gone_then(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one", finalizers=["triton.io/hold"]))
    path = kube.path(PODS, "one")
    await kube.until(path, lambda found: condition(found, "Ready") == "True")
    answer = await kube.delete(path)
    assert answer.body["metadata"]["deletionTimestamp"]
    assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await kube.get(path)).code == 200
    await kube.patch(path, {"metadata": {"finalizers": None}})
    await kube.gone(path)


async def test_a_pod_deleted_without_grace_is_gone_at_once(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    await kube.delete(kube.path(PODS, "one"), {"gracePeriodSeconds": 0})
    assert (await kube.get(kube.path(PODS, "one"))).code == 404


async def test_endpoints_follow_ready(kube: Kube) -> None:
    labels = {"app": "web"}
    service = {
        "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"port": 8080, "targetPort": 80}]},
    }
    made = await kube.made(kube.path(SERVICES), service)
    assert made["spec"]["clusterIP"]
    pods = [
        await kube.made(kube.path(PODS), a_pod(f"web-{n}", labels=labels, readinessGates=GATED))
        for n in range(3)
    ]
    path = kube.path(ENDPOINTS, "web")
    await kube.until(path, lambda found: len(found["subsets"][0]["notReadyAddresses"]) == 3)
    await kube.open_gate(pods[0])
    found = await kube.until(path, lambda found: len(found["subsets"][0]["addresses"]) == 1)
    [address] = found["subsets"][0]["addresses"]
    assert (address["targetRef"]["name"], found["subsets"][0]["ports"][0]["port"]) == ("web-0", 80)
    await kube.open_gate(*pods[1:])
    await kube.until(path, lambda found: len(found["subsets"][0]["addresses"]) == 3)
    slices = await kube.until(
        kube.path(SLICES),
        lambda found: (
            sum(end["conditions"]["ready"] for part in found["items"] for end in part["endpoints"]) == 3
        ),
        labelSelector="kubernetes.io/service-name=web",
    )
    assert slices["items"][0]["ports"][0]["port"] == 80
    await kube.delete(kube.path(PODS, "web-0"))
    await kube.until(path, lambda found: len(found["subsets"][0]["addresses"]) == 2)


async def test_a_deleted_services_endpoints_go_too(kube: Kube) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}
    await kube.made(kube.path(SERVICES), service)
    await kube.until(kube.path(ENDPOINTS, "web"), lambda found: found["kind"] == "Endpoints")
    await kube.delete(kube.path(SERVICES, "web"))
    await kube.gone(kube.path(ENDPOINTS, "web"))


async def test_events_about_a_pod_are_found_by_its_name(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    found = await kube.until(
        kube.path("/api/v1/namespaces/{}/events"),
        lambda found: any(event["reason"] == "Scheduled" for event in found["items"]),
        fieldSelector="involvedObject.name=one",
    )
    assert all(event["involvedObject"]["name"] == "one" for event in found["items"])
    assert name(found["items"][0]).startswith("one.")
