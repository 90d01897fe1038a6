"""ResourceQuotas: what is refused beyond the count, and what a CloneSet makes of it."""

from __future__ import annotations

from .kube import CLONESETS, CONFIGS, EVENTS, PODS, Kube, a_cloneset, a_config, a_pod, condition

QUOTAS = "/api/v1/namespaces/{}/resourcequotas"


async def _limited(kube: Kube, **hard: str) -> str:
    """Make a quota that is in force; return its path."""
    names = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    await kube.made(kube.path(QUOTAS), {"metadata": {"name": "few"}, "spec": {"hard": names}})
    path = kube.path(QUOTAS, "few")
    await kube.until(path, lambda found: found["status"]["hard"] == names)
    return path


def _exceeds(what: str, called: str, counted: str, used: int) -> str:
    return (
        f'{what} "{called}" is forbidden: exceeded quota: few, '
        f"requested: {counted}=1, used: {counted}={used}, limited: {counted}={used}"
    )


async def test_one_pod_too_many_is_refused_and_the_status_counts(kube: Kube) -> None:
    path = await _limited(kube, pods="2")
    for called in ("one", "two"):
        await kube.made(kube.path(PODS), a_pod(called))
    answer = await kube.post(kube.path(PODS), a_pod("three"))
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert answer.message == _exceeds("pods", "three", "pods", 2)
    assert answer.body["details"] == {"name": "three", "kind": "pods"}
    assert (await kube.post(kube.path(PODS), a_pod("three"), dryRun="All")).code == 403
    await kube.until(path, lambda found: found["status"]["used"] == {"pods": "2"})
    await kube.delete(kube.path(PODS, "one"))
    await kube.until(path, lambda found: found["status"]["used"] == {"pods": "1"})
    await kube.made(kube.path(PODS), a_pod("three"))


async def test_any_kind_of_object_may_be_counted(kube: Kube) -> None:
    await _limited(kube, count__configmaps="1", count__clonesets_apps_kruise_io="1")
    await kube.made(kube.path(CONFIGS), a_config("one"))
    answer = await kube.post(kube.path(CONFIGS), a_config("two"))
    assert answer.message == _exceeds("configmaps", "two", "count/configmaps", 1)
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 0))
    answer = await kube.post(kube.path(CLONESETS), a_cloneset("other", 0))
    counted = "count/clonesets.apps.kruise.io"
    assert answer.message == _exceeds("clonesets.apps.kruise.io", "other", counted, 1)


async def test_a_cloneset_makes_what_it_may_says_why_and_makes_the_rest_later(kube: Kube) -> None:
    path = await _limited(kube, pods="1")
    await kube.made(kube.path(CLONESETS), a_cloneset("web", 3))
    cloneset = await kube.until(
        kube.path(CLONESETS, "web"),
        lambda found: found["status"]["conditions"] and found["status"]["replicas"] == 1,
    )
    [failed] = cloneset["status"]["conditions"]
    assert (failed["type"], failed["status"]) == ("FailedScale", "True")
    refused = failed["message"].split('"')[1]
    assert failed["message"] == _exceeds("pods", refused, "pods", 1)
    events = await kube.until(
        kube.path(EVENTS),
        lambda found: [event for event in found["items"] if event["reason"] == "FailedCreate"],
        fieldSelector="involvedObject.name=web",
    )
    event = next(event for event in events["items"] if event["reason"] == "FailedCreate")
    assert event["message"].startswith('failed to create pod: pods "web-')
    assert '" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1' in event["message"]
    await kube.patch(path, {"spec": {"hard": {"pods": "5"}}})
    await kube.pods_until(lambda pods: sum(condition(pod, "Ready") == "True" for pod in pods) == 3)
