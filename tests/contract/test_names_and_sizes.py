"""The limits of names, labels, annotations and whole objects: what a real server refuses, in its words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.domain.json_types import Json

from .kube import CLONESETS, CONFIGS, EVENTS, PODS, Kube, a_cloneset, a_config, a_pod, name

LONG = "v" * 64
TOO_LONG = "must be no more than 63 characters"
SECRETS = "/api/v1/namespaces/{}/secrets"
SERVICES = "/api/v1/namespaces/{}/services"
WEBHOOK = 'admission webhook "vcloneset.kb.io" denied the request: '


ALPHANUMERIC = "must start and end with an alphanumeric character"
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
    f"{ALPHANUMERIC} (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
    f"{ALPHANUMERIC} (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART = f"name part must consist of alphanumeric characters, '-', '_' or '.', and {ALPHANUMERIC} (e.g."
WRONG: dict[str, tuple[Json, str, str]] = {
    "long label": ({"labels": {"x": LONG}}, "labels", f'Invalid value: "{LONG}": {TOO_LONG}'),
    "long key": ({"labels": {LONG: "x"}}, "labels", f'Invalid value: "{LONG}": name part {TOO_LONG}'),
    "label": ({"labels": {"x": "-v"}}, "labels", f'Invalid value: "-v": {LABEL_VALUE}'),
    "key": ({"labels": {"a/b/c": "v"}}, "labels", "with an optional DNS subdomain prefix and '/' (e.g."),
    "prefix": ({"labels": {"A_b/c": "v"}}, "labels", f'Invalid value: "A_b/c": prefix part {SUBDOMAIN}'),
    "annotation": ({"annotations": {"a b": "v"}}, "annotations", f'Invalid value: "a b": {NAME_PART}'),
    "annotations": (
        {"annotations": {"a": "v" * 256 * 1024}},
        "annotations",
        "Too long: may not be more than 262144 bytes",
    ),
    "long name": ({"name": "n" * 254}, "name", "must be no more than 253 characters"),
    "name": ({"name": "a..b"}, "name", f'Invalid value: "a..b": {SUBDOMAIN}'),
}


@pytest.mark.parametrize("what", WRONG)
async def test_an_object_with_wrong_metadata_is_invalid(kube: Kube, what: str) -> None:
    metadata, field, words = WRONG[what]
    for item, path in ((a_config("one"), CONFIGS), (a_pod("one"), PODS), (a_cloneset("web", 0), CLONESETS)):
        body = {**item, "metadata": {**item["metadata"], **metadata}}
        answer = await kube.post(kube.path(path), body)
        assert (answer.code, answer.reason) == (422, "Invalid")
        assert words in answer.causes()[f"metadata.{field}"]


async def test_what_is_just_short_enough_is_taken(kube: Kube) -> None:
    labels = {"x": "v" * 63, "n" * 63: "", "example.com/" + "n" * 63: "a.b_c-d"}
    annotations = {"A.b/c": "v" * (256 * 1024 - 5)}
    body = a_config("n" * 253, labels=labels, annotations=annotations)
    made = await kube.made(kube.path(CONFIGS), body)
    assert (made["metadata"]["labels"], made["metadata"]["annotations"]) == (labels, annotations)
    path = kube.path(CONFIGS, "n" * 253)
    # together they are too long: an update is checked as a whole
    answer = await kube.patch(path, {"metadata": {"annotations": {"more": "v"}}})
    assert answer.causes() == {"metadata.annotations": "Too long: may not be more than 262144 bytes"}
    answer = await kube.patch(path, {"metadata": {"labels": {"x": LONG}}})
    assert answer.causes() == {"metadata.labels": f'Invalid value: "{LONG}": {TOO_LONG}'}


@pytest.mark.parametrize(("path", "body"), [(CONFIGS, a_config("one")), (CLONESETS, a_cloneset("web", 0))])
async def test_a_number_is_no_label(kube: Kube, path: str, body: Json) -> None:
    body = {**body, "metadata": {"name": "one", "labels": {"x": 1}}}
    answer = await kube.post(kube.path(path), body)
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert "json: cannot unmarshal number into Go struct field ObjectMeta." in answer.message


async def test_a_namespace_has_the_name_of_a_label_and_a_service_that_of_a_host(kube: Kube) -> None:
    spaces = "/api/v1/namespaces"
    answer = await kube.post(spaces, {"metadata": {"name": LONG}})
    assert answer.causes()["metadata.name"] == f'Invalid value: "{LONG}": {TOO_LONG}'
    answer = await kube.post(spaces, {"metadata": {"name": "a.b"}})
    assert answer.causes()["metadata.name"] == 'Invalid value: "a.b": must not contain dots'
    for called, words in ((LONG, TOO_LONG), ("1a", "a DNS-1035 label must consist of")):
        service = {"metadata": {"name": called}, "spec": {"ports": [{"port": 80}]}}
        answer = await kube.post(kube.path(SERVICES), service)
        assert words in answer.causes()["metadata.name"]


async def test_a_generated_name_is_short_enough_for_a_label(kube: Kube) -> None:
    made = await kube.made(kube.path(CONFIGS), {"metadata": {"generateName": "g" * 100}, "data": {}})
    assert (len(name(made)), name(made)[:58]) == (63, "g" * 58)


def _containers(**more: object) -> Callable[[Json], None]:
    return lambda template: template["spec"]["containers"][0].update(more)


TEMPLATES: dict[str, tuple[Callable[[Json], None], str]] = {
    "label": (
        lambda template: template["metadata"]["labels"].update(x=LONG),
        f'spec.template.labels: Invalid value: "{LONG}": {TOO_LONG}',
    ),
    "annotations": (
        lambda template: template["metadata"].update(annotations={"x": "v" * 256 * 1024}),
        "spec.template.annotations: Too long: must have at most 262144 bytes",
    ),
    "container": (
        _containers(name="Bad_name"),
        'spec.template.spec.containers[0].name: Invalid value: "Bad_name": a lowercase RFC 1123 label must',
    ),
    "restart policy": (
        lambda template: template["spec"].update(restartPolicy="Never"),
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ),
    "volume": (
        _containers(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"',
    ),
    "init container": (
        lambda template: template["spec"].update(initContainers=[{"image": "demo:1"}]),
        "spec.template.spec.initContainers[0].name: Required value",
    ),
    "names": (
        lambda template: template["spec"].update(initContainers=[{"name": "main", "image": "demo:1"}]),
        'spec.template.spec.initContainers[0].name: Duplicate value: "main"',
    ),
}


@pytest.mark.parametrize("what", TEMPLATES)
async def test_kruises_webhook_refuses_a_template(kube: Kube, what: str) -> None:
    spoil, words = TEMPLATES[what]
    body = a_cloneset("web", 0)
    spoil(body["spec"]["template"])
    answer = await kube.post(kube.path(CLONESETS), body)
    assert answer.code == 422
    assert answer.message.startswith(WEBHOOK + words)


async def test_the_pods_of_a_cloneset_whose_name_is_too_long_are_refused(kube: Kube) -> None:
    """Its revision, the name with up to eleven characters more, is the value of a label."""
    for length in (52, 63):
        called = "w" * length
        body = {**a_cloneset("web", 1), "metadata": {"name": called}}
        body["spec"]["template"]["metadata"]["labels"]["length"] = str(length)
        await kube.made(kube.path(CLONESETS), body)
    await kube.pods_until(len, "length=52")
    cloneset = await kube.until(kube.path(CLONESETS, "w" * 63), lambda found: found["status"]["conditions"])
    revision = cloneset["status"]["updateRevision"]
    assert cloneset["status"]["conditions"][0]["message"].endswith(
        f'" is invalid: metadata.labels: Invalid value: "{revision}": {TOO_LONG}'
    )
    await kube.until(
        kube.path(EVENTS),
        lambda found: any(event["reason"] == "FailedCreate" for event in found["items"]),
        fieldSelector=f"involvedObject.name={'w' * 63}",
    )
    assert not await kube.pods("length=63")


async def test_the_defaults_of_a_cloneset_are_kruises(kube: Kube) -> None:
    body = a_cloneset("web", 0)
    body["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "demo:1"}]
    spec = (await kube.made(kube.path(CLONESETS), body))["spec"]
    assert {key: value for key, value in spec.items() if key not in ("selector", "template")} == {
        "replicas": 0,
        "revisionHistoryLimit": 10,
        "scaleStrategy": {},
        "updateStrategy": {"type": "ReCreate", "partition": 0, "maxSurge": 0, "maxUnavailable": "100%"},
    }
    container = {
        "image": "demo:1",
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    assert spec["template"]["spec"] == {
        "containers": [{"name": "main", "imagePullPolicy": "Always", **container}],
        "initContainers": [{"name": "first", "imagePullPolicy": "IfNotPresent", **container}],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 5,
    }


def _large(kilobytes: int) -> Json:
    """A CloneSet of about that size."""
    body = a_cloneset("web", 0)
    pieces = [{"name": f"E{n}", "value": "x" * 10_000} for n in range(kilobytes // 10)]
    body["spec"]["template"]["spec"]["containers"][0]["env"] = pieces
    return body


async def test_etcd_takes_no_object_of_more_than_a_megabyte_and_a_half(kube: Kube) -> None:
    answer = await kube.post(kube.path(CLONESETS), _large(1600))
    assert (answer.code, answer.reason) == (500, "")
    assert answer.message == "etcdserver: request is too large"
    assert (await kube.get(kube.path(CLONESETS, "web"))).code == 404
    await kube.made(kube.path(CLONESETS), _large(1000))
    # its status is valid only when OpenKruise has written the required counts
    await kube.until(
        kube.path(CLONESETS, "web"), lambda found: "observedGeneration" in found.get("status", {})
    )
    condition = {"type": "Big", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"conditions": [{**condition, "message": "x" * 30_000}] * 25}
    answer = await kube.patch(kube.path(CLONESETS, "web", "status"), {"status": status})
    assert (answer.code, answer.message) == (500, "etcdserver: request is too large")


async def test_a_request_of_more_than_three_megabytes_is_not_read(kube: Kube) -> None:
    answer = await kube.post(kube.path(CONFIGS), {**a_config("one"), "data": {"a": "x" * 4 * 1024 * 1024}})
    assert (answer.code, answer.reason) == (413, "RequestEntityTooLarge")


async def test_a_config_map_and_a_secret_hold_a_megabyte(kube: Kube) -> None:
    data = {"data": {"a": "eHh4" * 262_145}}
    answer = await kube.post(kube.path(CONFIGS), {**a_config("one"), **data})
    assert answer.causes() == {"[]": "Too long: may not be more than 1048576 bytes"}
    answer = await kube.post(kube.path(SECRETS), {**a_config("one"), "kind": "Secret", **data})
    assert answer.code == 201, "its data is encoded, and shorter when it is not"
