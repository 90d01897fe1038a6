"""Objects and their versions: what every writer of Kubernetes objects relies on."""

from __future__ import annotations

import asyncio

from shared.domain.json_types import Json

from .kube import CONFIGS, GATE, JSON_PATCH, MERGE, PODS, STRATEGIC, Kube, a_config, a_pod, condition

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


async def test_a_write_with_a_stale_version_is_a_conflict(kube: Kube) -> None:
    first = await kube.made(kube.path(CONFIGS), a_config("one"))
    path = kube.path(CONFIGS, "one")
    assert (await kube.put(path, {**first, "data": {"a": "2"}})).code == 200
    answer = await kube.put(path, {**first, "data": {"a": "3"}})
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.body["kind"] == "Status"
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "one": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    patch = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "4"}}
    assert (await kube.patch(path, patch)).reason == "Conflict"


async def test_versions_grow_and_an_empty_change_keeps_them(kube: Kube) -> None:
    first = await kube.made(kube.path(CONFIGS), a_config("one"))
    path = kube.path(CONFIGS, "one")
    same = await kube.patch(path, {"data": {"a": "1"}})
    assert same.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    other = await kube.patch(path, {"data": {"a": "2"}})
    assert int(other.body["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


async def test_of_two_patches_with_one_version_only_one_wins(kube: Kube) -> None:
    first = await kube.made(kube.path(CONFIGS), a_config("one"))
    version = first["metadata"]["resourceVersion"]
    answers = await asyncio.gather(
        *(
            kube.patch(
                kube.path(CONFIGS, "one"), {"metadata": {"resourceVersion": version}, "data": {"a": letter}}
            )
            for letter in "bcdef"
        )
    )
    assert sorted(answer.code for answer in answers) == [200, 409, 409, 409, 409]


async def test_a_patch_for_another_uid_changes_nothing(kube: Kube) -> None:
    pod = await kube.made(kube.path(PODS), a_pod("one"))
    path = kube.path(PODS, "one", "status")
    other: Json = {"uid": "00000000-0000-0000-0000-000000000000"}
    status = {"conditions": [{"type": GATE, "status": "True"}]}
    answer = await kube.patch(path, {"metadata": other, "status": status}, STRATEGIC)
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert f'metadata.uid: Invalid value: "{other["uid"]}": field is immutable' in answer.message
    # a version that is not the live one any more comes first, as it does when the pod was made again
    before = {**other, "resourceVersion": "1"}
    answer = await kube.patch(path, {"metadata": before, "status": status}, STRATEGIC)
    assert (answer.code, answer.reason) == (409, "Conflict")
    answer = await kube.put(kube.path(PODS, "one"), {**pod, "metadata": {**pod["metadata"], **other}})
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert f"Precondition failed: UID in precondition: {other['uid']}" in answer.message


async def test_a_deletion_with_another_uid_or_version_is_a_conflict(kube: Kube) -> None:
    first = await kube.made(kube.path(CONFIGS), a_config("one"))
    path = kube.path(CONFIGS, "one")
    for wrong in ({"uid": "00000000-0000-0000-0000-000000000000"}, {"resourceVersion": "1"}):
        assert (await kube.delete(path, {"preconditions": wrong})).reason == "Conflict"
    right = {"preconditions": {"uid": first["metadata"]["uid"]}}
    assert (await kube.delete(path, right)).code == 200
    assert (await kube.get(path)).code == 404


async def test_what_exists_cannot_be_created_and_what_does_not_cannot_be_read(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one"))
    again = await kube.post(kube.path(CONFIGS), a_config("one"))
    assert (again.code, again.reason, again.message) == (
        409,
        "AlreadyExists",
        'configmaps "one" already exists',
    )
    missing = await kube.get(kube.path(CONFIGS, "two"))
    assert (missing.code, missing.reason, missing.message) == (404, "NotFound", 'configmaps "two" not found')
    assert missing.body["details"] == {"name": "two", "kind": "configmaps"}
    assert (await kube.patch(kube.path(CONFIGS, "two"), {})).code == 404


async def test_a_generated_name_has_the_requested_prefix(kube: Kube) -> None:
    body = {"metadata": {"generateName": "part-"}, "data": {}}
    names = {(await kube.made(kube.path(CONFIGS), body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("part-") and len(name) == 10 for name in names)


async def test_bad_names_and_missing_fields_are_invalid_and_named(kube: Kube) -> None:
    answer = await kube.post(kube.path(CONFIGS), a_config("Not_Good"))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert "metadata.name" in answer.causes()
    bare = await kube.post(kube.path(PODS), {"metadata": {"name": "x"}, "spec": {"containers": []}})
    assert bare.causes()["spec.containers"] == "Required value"


async def test_nothing_is_created_in_a_namespace_that_does_not_exist(kube: Kube) -> None:
    answer = await kube.post("/api/v1/namespaces/nowhere-at-all/configmaps", a_config("one"))
    assert (answer.code, answer.message) == (404, 'namespaces "nowhere-at-all" not found')


async def test_a_dry_run_answers_as_if_and_changes_nothing(kube: Kube) -> None:
    made = await kube.post(kube.path(CONFIGS), a_config("one"), dryRun="All")
    assert (made.code, made.body["metadata"]["name"]) == (201, "one")
    assert (await kube.get(kube.path(CONFIGS, "one"))).code == 404
    assert (await kube.post(kube.path(CONFIGS), a_config("Not_Good"), dryRun="All")).code == 422
    await kube.made(kube.path(CONFIGS), a_config("one"))
    assert (await kube.post(kube.path(CONFIGS), a_config("one"), dryRun="All")).code == 409
    changed = await kube.patch(kube.path(CONFIGS, "one"), {"data": {"a": "9"}}, dryRun="All")
    assert changed.body["data"] == {"a": "9"}
    assert (await kube.delete(kube.path(CONFIGS, "one"), dryRun="All")).code == 200
    assert (await kube.get(kube.path(CONFIGS, "one"))).body["data"] == {"a": "1"}


async def test_a_merge_patch_replaces_lists_and_null_takes_away(kube: Kube) -> None:
    body = a_config("one", labels={"x": "1", "y": "2"})
    await kube.made(kube.path(CONFIGS), body)
    answer = await kube.patch(
        kube.path(CONFIGS, "one"), {"metadata": {"labels": {"x": None, "z": "3"}}, "data": {"b": "2"}}, MERGE
    )
    assert answer.body["metadata"]["labels"] == {"y": "2", "z": "3"}
    assert answer.body["data"] == {"a": "1", "b": "2"}


async def test_a_json_patch_holds_or_fails_as_a_whole(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one"))
    path = kube.path(CONFIGS, "one")
    good = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/triton.io~1b", "value": "3"},
    ]
    patched = (await kube.patch(path, good, JSON_PATCH)).body
    assert (patched["data"], patched["metadata"]["annotations"]) == ({"a": "2"}, {"triton.io/b": "3"})
    bad = [
        {"op": "replace", "path": "/data/a", "value": "5"},
        {"op": "test", "path": "/data/a", "value": "1"},
    ]
    assert (await kube.patch(path, bad, JSON_PATCH)).code == 422
    assert (await kube.patch(path, [{"op": "remove", "path": "/data/none"}], JSON_PATCH)).code == 422
    assert (await kube.get(path)).body["data"]["a"] == "2"


async def test_a_strategic_patch_of_one_condition_leaves_the_others(kube: Kube) -> None:
    pod = await kube.made(kube.path(PODS), a_pod("one", readinessGates=[{"conditionType": GATE}]))
    await kube.open_gate(pod)
    await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "True")
    await kube.open_gate(pod, status="False")
    found = await kube.until(kube.path(PODS, "one"), lambda found: condition(found, "Ready") == "False")
    assert condition(found, GATE) == "False"
    assert condition(found, "ContainersReady") == "True"
    gone = {"status": {"conditions": [{"type": GATE, "$patch": "delete"}]}}
    answer = await kube.patch(kube.path(PODS, "one", "status"), gone, STRATEGIC)
    assert condition(answer.body, GATE) == ""
    assert condition(answer.body, "PodScheduled") == "True"


async def test_a_strategic_patch_finds_containers_by_name(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    patch = {"spec": {"containers": [{"name": "main", "image": "demo:2"}]}}
    answer = await kube.patch(kube.path(PODS, "one"), patch, STRATEGIC)
    assert answer.code == 200
    [container] = answer.body["spec"]["containers"]
    assert (container["image"], container["ports"][0]["containerPort"]) == ("demo:2", 80)


async def test_a_pods_spec_is_fixed_and_its_status_has_its_own_door(kube: Kube) -> None:
    await kube.made(kube.path(PODS), a_pod("one"))
    path = kube.path(PODS, "one")
    answer = await kube.patch(path, {"spec": {"hostNetwork": True}})
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert "pod updates may not change fields other than" in answer.message
    await kube.patch(path, {"status": {"message": "by the wrong door"}})
    assert "message" not in (await kube.get(path)).body["status"]
    await kube.patch(kube.path(PODS, "one", "status"), {"status": {"message": "by the right door"}})
    assert (await kube.get(path)).body["status"]["message"] == "by the right door"


async def test_a_finalizer_holds_a_deleted_object_until_it_is_removed(kube: Kube) -> None:
    await kube.made(kube.path(CONFIGS), a_config("one", finalizers=["triton.io/hold"]))
    path = kube.path(CONFIGS, "one")
    assert (await kube.delete(path)).code == 200
    held = await kube.get(path)
    assert held.body["metadata"]["deletionTimestamp"]
    assert (await kube.patch(path, {"metadata": {"finalizers": None}})).code == 200
    assert (await kube.get(path)).code == 404


async def test_what_belongs_to_a_deleted_object_goes_too(kube: Kube) -> None:
    owner = await kube.made(kube.path(CONFIGS), a_config("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    await kube.made(kube.path(CONFIGS), a_config("owned", ownerReferences=[reference]))
    await kube.delete(kube.path(CONFIGS, "owner"), {"propagationPolicy": "Background"})
    await kube.gone(kube.path(CONFIGS, "owned"))


async def test_a_lease_is_taken_over_by_one_of_two(kube: Kube) -> None:
    lease = await kube.made(
        kube.path(LEASES), {"metadata": {"name": "lock"}, "spec": {"holderIdentity": "a"}}
    )
    writes = [kube.put(kube.path(LEASES, "lock"), {**lease, "spec": {"holderIdentity": who}}) for who in "bc"]
    assert sorted(answer.code for answer in await asyncio.gather(*writes)) == [200, 409]
