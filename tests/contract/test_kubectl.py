"""kubectl on the cluster: the commands of the tutorial and of daily use, without a word on standard error."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .kube import CLONESETS, PODS, Kube, a_cloneset, a_pod, condition, name
from .kubectl import Run, command
from .widgets import a_widget


async def test_apply_creates_changes_and_leaves_alone(kubectl: Run, widgets: str) -> None:
    assert (
        await kubectl("apply", "-f", "-", body=a_widget("one")) == "widget.contract.triton.io/one created\n"
    )
    assert (
        await kubectl("apply", "-f", "-", body=a_widget("one")) == "widget.contract.triton.io/one unchanged\n"
    )
    changed = a_widget("one", color="red")
    assert await kubectl("apply", "-f", "-", body=changed) == "widget.contract.triton.io/one configured\n"
    assert "serverside" not in await kubectl("apply", "--dry-run=server", "-f", "-", body=changed)


async def test_apply_works_for_pods_services_and_clonesets(kubectl: Run) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    for body in (a_cloneset("web", 1), service, a_pod("one")):
        assert (await kubectl("apply", "-f", "-", body=body)).endswith(" created\n")
    service["spec"] = {"selector": {"app": "web"}, "ports": [{"port": 81}]}
    assert await kubectl("apply", "-f", "-", body=service) == "service/web configured\n"
    assert await kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[*].port}") == "81"


async def test_get_prints_the_columns_people_know(kubectl: Run, kube: Kube, widgets: str) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    await kube.made(widgets, a_widget("one", color="red"))
    await kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    lines = (await kubectl("get", "pods")).splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert lines[1].split()[:4] == ["one", "1/1", "Running", "0"]
    wide = (await kubectl("get", "pods", "-o", "wide")).splitlines()[0]
    assert all(word in wide for word in ("IP", "NODE", "READINESS GATES"))
    assert (await kubectl("get", "wg", "-o", "wide")).splitlines()[0].split() == [
        "NAME",
        "REPLICAS",
        "PHASE",
        "COLOR",
    ]
    for kinds in ("ns", "nodes", "events", "cm,sa"):
        assert len((await kubectl("get", kinds)).splitlines()) > 1


async def test_a_crashing_pod_shows_as_crash_loop(kubectl: Run, kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one", image="demo:crash"))
    await kubectl(
        "wait",
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        "pod/one",
        "--timeout=20s",
    )
    assert "CrashLoopBackOff" in await kubectl("get", "pod", "one")


async def test_wait_scale_patch_and_delete_a_cloneset(kubectl: Run, kube: Kube) -> None:
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 1))
    await kubectl("wait", "--for=jsonpath={.status.readyReplicas}=1", "clone/web", "--timeout=20s")
    assert await kubectl("scale", "clone/web", "--replicas=2") == "cloneset.apps.kruise.io/web scaled\n"
    await kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "clone/web", "--timeout=20s")
    header, row = (await kubectl("get", "clone")).splitlines()
    assert header.split() == [
        "NAME",
        "DESIRED",
        "UPDATED",
        "UPDATED_READY",
        "UPDATED_AVAILABLE",
        "READY",
        "TOTAL",
        "AGE",
    ]
    assert row.split()[:6] == ["web", "2", "2", "2", "2", "2"]
    await kubectl("patch", "clone", "web", "--type", "merge", "-p", '{"spec":{"replicas":1}}')
    await kubectl(
        "patch",
        "clone",
        "web",
        "--type",
        "json",
        "-p",
        '[{"op":"replace","path":"/spec/replicas","value":0}]',
    )
    await kubectl("delete", "clone", "web")
    await kube.pods_until(lambda pods: not pods, "app=web")


async def test_delete_waits_until_the_pod_is_gone(kubectl: Run, kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    waiting = asyncio.create_task(kubectl("wait", "--for=delete", "pod/one", "--timeout=40s"))
    assert 'pod "one" deleted' in await kubectl("delete", "pod", "one", "--grace-period=1")
    await waiting
    assert (await kube.get(kube.path(PODS, "one"))).code == 404


async def test_a_gate_is_opened_by_a_strategic_patch_of_status(kubectl: Run, kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one", readinessGates=[{"conditionType": "apps.triton.io/ready"}]))
    await kubectl(
        "patch",
        "pod",
        "one",
        "--subresource=status",
        "-p",
        '{"status":{"conditions":[{"type":"apps.triton.io/ready","status":"True"}]}}',
    )
    await kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")


async def test_describe_shows_the_object_and_its_events(kubectl: Run, kube: Kube) -> None:
    made = await kube.made(kube.path(PODS), a_pod("one"))
    await kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    text = await kubectl("describe", "pod", "one")
    assert all(word in text for word in (name(made), "demo:1", "Scheduled", "ContainersReady"))
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 1))
    await kubectl("wait", "--for=jsonpath={.status.readyReplicas}=1", "clone/web", "--timeout=20s")
    assert "SuccessfulCreate" in await kubectl("describe", "clone", "web")
    node = (await kube.get("/api/v1/nodes")).body["items"][0]
    assert "Allocatable" in await kubectl("describe", "node", name(node))
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    await kube.made(kube.path("/api/v1/namespaces/{}/services"), service)
    assert "Endpoints:" in await kubectl("describe", "svc", "web")


async def test_get_watch_prints_a_line_for_each_change(
    kube: Kube, widgets: str, kubeconfig: Path, tmp_path: Path
) -> None:
    await kube.made(widgets, a_widget("one"))
    words = command(kubeconfig, kube.namespace, tmp_path, "get", "wg", "-w")
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        lines = [(await process.stdout.readline()).decode().split() for _ in range(2)]
        await kube.patch(f"{widgets}/one/status", {"status": {"phase": "Busy"}})
        lines.append((await process.stdout.readline()).decode().split())
    process.terminate()
    await process.wait()
    assert lines[0] == ["NAME", "REPLICAS", "PHASE"]
    assert lines[1:] == [["one", "1"], ["one", "1", "Busy"]]


async def test_api_resources_and_explain_know_custom_resources(kubectl: Run, widgets: str) -> None:
    rows = [line.split() for line in (await kubectl("api-resources")).splitlines()]
    assert ["pods", "po", "v1", "true", "Pod"] in rows
    assert ["clonesets", "clone", "apps.kruise.io/v1alpha1", "true", "CloneSet"] in rows
    assert ["widgets", "wg", "contract.triton.io/v1", "true", "Widget"] in rows
    assert "size" in await kubectl("explain", "widgets.spec")


async def test_explain_says_something_about_deployflows_at_each_level(kubectl: Run) -> None:
    for path, words in (
        ("df", "One release of one instance"),
        ("df.spec", "how the batches proceed, for create, update and rollback"),
        ("df.spec.application", "number of pods at the end of the release"),
        ("df.spec.updateStrategy", "pods in each batch"),
        ("df.spec.updateStrategy.stage", "the approval: how far"),
        ("df.status", "why the release does not move"),
        ("df.status.conditions", "its pods that failed"),
        ("df.status.conditions.pods", "where it can be smoke-tested"),
    ):
        assert words in " ".join((await kubectl("explain", path)).split()), path


async def test_create_makes_the_simple_kinds(kubectl: Run, kube: Kube) -> None:
    await kubectl("create", "configmap", "settings", "--from-literal=a=b")
    await kubectl("create", "secret", "generic", "hidden", "--from-literal=x=y")
    await kubectl("create", "serviceaccount", "robot")
    assert (await kube.get(kube.path("/api/v1/namespaces/{}/configmaps/settings"))).body["data"] == {"a": "b"}
    secret = (await kube.get(kube.path("/api/v1/namespaces/{}/secrets/hidden"))).body
    assert (secret["type"], secret["data"]) == ("Opaque", {"x": "eQ=="})
    await kubectl("create", "namespace", f"{kube.namespace}-more")
    assert (await kube.delete(f"/api/v1/namespaces/{kube.namespace}-more")).code == 200
