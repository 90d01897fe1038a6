"""Custom resources: schemas, rules, defaults and the doors of their subresources, as Triton's own definition uses them."""

from __future__ import annotations

from .kube import JSON_PATCH, MERGE, STRATEGIC, Kube
from .widgets import DEFINITION, DEFINITIONS, a_widget

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def test_defaults_are_filled_in_and_unknown_fields_dropped(kube: Kube, widgets: str) -> None:
    made = await kube.made(widgets, a_widget("one", unknown=1, free={"any": {"thing": 1}}, note=None))
    assert made["spec"] == {"size": 5, "replicas": 1, "free": {"any": {"thing": 1}}, "note": None}
    assert made["metadata"]["generation"] == 1


async def test_a_null_is_dropped_where_the_field_is_not_nullable(kube: Kube, widgets: str) -> None:
    made = await kube.made(widgets, a_widget("one", color=None, share=None, replicas=None, note=None))
    assert made["spec"] == {"size": 5, "replicas": 1, "note": None}
    refused = await kube.post(widgets, a_widget("two", shade=None))
    assert refused.code == 422
    assert 'spec.shade: Unsupported value: null: supported values: "dark", "light"' in refused.message
    missing = await kube.post(widgets, a_widget("three", size=None))
    assert "spec.size: Required value" in missing.message


async def test_every_wrong_field_is_named_in_the_servers_words(kube: Kube, widgets: str) -> None:
    answer = await kube.post(widgets, a_widget("one", size=11, color="blue", code="ABC"))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert answer.message.startswith('Widget.contract.triton.io "one" is invalid: [')
    causes = answer.causes()
    assert causes["spec.size"] == "Invalid value: 11: spec.size in body should be less than or equal to 10"
    assert "some validation rules were not checked" in causes["<nil>"]
    assert causes["spec.color"] == 'Unsupported value: "blue": supported values: "red", "green"'
    assert causes["spec.code"] == "Invalid value: \"ABC\": spec.code in body should match '^[a-z]+$'"
    assert {"name": "one", "group": "contract.triton.io", "kind": "Widget"}.items() <= answer.body[
        "details"
    ].items()


async def test_a_wrong_type_and_a_missing_field_are_distinguished(kube: Kube, widgets: str) -> None:
    wrong = await kube.post(widgets, a_widget("one", size="big"))
    assert wrong.causes()["spec.size"] == (
        'Invalid value: "string": spec.size in body must be of type integer: "string"'
    )
    missing = await kube.post(widgets, {**a_widget("one"), "spec": {}})
    assert missing.causes()["spec.size"] == "Required value"


async def test_a_number_or_a_percentage_is_accepted(kube: Kube, widgets: str) -> None:
    for called, share in (("one", 1), ("two", "20%")):
        assert (await kube.made(widgets, a_widget(called, share=share)))["spec"]["share"] == share
    assert (await kube.post(widgets, a_widget("three", share=True))).code == 422


async def test_a_rule_over_two_fields_holds_on_create_and_update(kube: Kube, widgets: str) -> None:
    refused = await kube.post(widgets, a_widget("one", replicas=6))
    assert refused.causes()["spec"] == 'Invalid value: "object": replicas must not exceed size'
    await kube.made(widgets, a_widget("one"))
    assert (await kube.patch(f"{widgets}/one", {"spec": {"replicas": 6}})).code == 422
    assert (await kube.patch(f"{widgets}/one", {"spec": {"replicas": 5}})).code == 200


async def test_a_transition_rule_makes_a_field_immutable(kube: Kube, widgets: str) -> None:
    await kube.made(widgets, a_widget("one", owner="me"))
    answer = await kube.patch(f"{widgets}/one", {"spec": {"owner": "you"}})
    assert answer.causes()["spec.owner"] == 'Invalid value: "string": owner is immutable'
    assert (await kube.patch(f"{widgets}/one", {"spec": {"owner": "me", "color": "red"}})).code == 200


async def test_status_and_spec_have_their_own_doors(kube: Kube, widgets: str) -> None:
    made = await kube.made(widgets, {**a_widget("one"), "status": {"phase": "Early"}})
    assert "status" not in made
    answer = await kube.patch(f"{widgets}/one/status", {"status": {"phase": "New"}, "spec": {"size": 9}})
    assert (answer.body["status"], answer.body["spec"]["size"]) == ({"phase": "New"}, 5)
    assert answer.body["metadata"]["generation"] == 1
    answer = await kube.patch(f"{widgets}/one", {"status": {"phase": "Old"}, "spec": {"size": 9}})
    assert (answer.body["status"], answer.body["spec"]["size"]) == ({"phase": "New"}, 9)
    assert answer.body["metadata"]["generation"] == 2
    assert (await kube.patch(f"{widgets}/one", {"metadata": {"labels": {"a": "b"}}})).body["metadata"][
        "generation"
    ] == 2


async def test_a_null_time_stays_in_a_status_that_allows_it(kube: Kube, widgets: str) -> None:
    made = await kube.made(widgets, a_widget("one"))
    answer = await kube.put(f"{widgets}/one/status", {**made, "status": {"phase": "New", "at": None}})
    assert answer.body["status"] == {"phase": "New", "at": None}
    bad = await kube.patch(f"{widgets}/one/status", {"status": {"at": "yesterday"}})
    assert (bad.code, "status.at" in bad.causes()) == (422, True)


async def test_an_update_needs_a_version(kube: Kube, widgets: str) -> None:
    await kube.made(widgets, a_widget("one"))
    answer = await kube.put(f"{widgets}/one", a_widget("one", color="red"))
    assert (answer.code, "metadata.resourceVersion" in answer.causes()) == (422, True)


async def test_merge_and_json_patches_are_taken_and_strategic_ones_refused(kube: Kube, widgets: str) -> None:
    await kube.made(widgets, a_widget("one"))
    assert (await kube.patch(f"{widgets}/one", {"spec": {"color": "red"}}, MERGE)).code == 200
    operation = [{"op": "replace", "path": "/spec/color", "value": "green"}]
    assert (await kube.patch(f"{widgets}/one", operation, JSON_PATCH)).body["spec"]["color"] == "green"
    answer = await kube.patch(f"{widgets}/one", {"spec": {"color": "red"}}, STRATEGIC)
    assert (answer.code, answer.reason) == (415, "UnsupportedMediaType")


async def test_scale_is_read_and_written_through_its_subresource(kube: Kube, widgets: str) -> None:
    await kube.made(widgets, a_widget("one"))
    scale = (await kube.get(f"{widgets}/one/scale")).body
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 1)
    assert (await kube.put(f"{widgets}/one/scale", {**scale, "spec": {"replicas": 3}})).body["spec"][
        "replicas"
    ] == 3
    assert (await kube.put(f"{widgets}/one/scale", {**scale, "spec": {"replicas": 4}})).reason == "Conflict"
    assert (await kube.get(f"{widgets}/one")).body["spec"]["replicas"] == 3


async def test_strict_writers_get_an_error_for_unknown_fields_and_others_a_warning(
    kube: Kube, widgets: str
) -> None:
    strict = await kube.post(widgets, a_widget("one", typo=1), fieldValidation="Strict")
    assert (strict.code, 'unknown field "spec.typo"' in strict.message) == (400, True)
    warned = await kube.post(widgets, a_widget("one", typo=1), fieldValidation="Warn")
    assert (warned.code, "unknown field" in warned.headers["Warning"]) == (201, True)


async def test_a_table_has_the_definitions_columns(kube: Kube, widgets: str) -> None:
    await kube.made(widgets, a_widget("one", color="red"))
    table = (await kube.ask("GET", widgets, accept=TABLE)).body
    assert table["kind"] == "Table"
    columns = [(column["name"], column["type"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [
        ("Name", "string", 0),
        ("REPLICAS", "integer", 0),
        ("PHASE", "string", 0),
        ("COLOR", "string", 1),
    ]
    assert table["rows"][0]["cells"] == ["one", 1, None, "red"]


async def test_a_definition_whose_name_does_not_fit_is_refused(kube: Kube) -> None:
    wrong = {**DEFINITION, "metadata": {"name": "gadgets.contract.triton.io"}}
    answer = await kube.post(DEFINITIONS, wrong)
    assert (answer.code, list(answer.causes())) == (422, ["metadata.name"])
