"""The definition as `kubectl explain` and `kubectl get` show it."""

from __future__ import annotations

from collections.abc import Iterator

from shared.domain.json_types import Json
from shared.kube.crd import crd

(VERSION,) = crd()["spec"]["versions"]
SCHEMA: Json = VERSION["schema"]["openAPIV3Schema"]


def properties(schema: Json, path: str = "df") -> Iterator[tuple[str, Json]]:
    """Return all properties with their paths, as `kubectl explain` takes these.

    Those of `metadata` are Kubernetes' own: a definition that describes it is refused.
    """
    for name, child in (schema.get("properties") or {}).items():
        if f"{path}.{name}" == "df.metadata":
            continue
        yield f"{path}.{name}", child
        yield from properties(child, f"{path}.{name}")
    for inside in ("items", "additionalProperties"):
        if isinstance(schema.get(inside), dict):
            yield from properties(schema[inside], path)


def test_every_property_has_a_description() -> None:
    found = dict(properties(SCHEMA))
    assert len(found) > 100
    assert [path for path, child in found.items() if not child.get("description", "").strip()] == []
    assert SCHEMA["description"]


def test_every_column_has_a_description() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("description")] == []


def test_no_field_is_nullable_that_has_an_enum() -> None:
    """Kubernetes refuses the null of such a field; where it is not nullable, it removes it."""
    spec = dict(properties(SCHEMA["properties"]["spec"], "df.spec"))
    both = [path for path, child in spec.items() if "enum" in child and child.get("nullable")]
    assert (both, "enum" in spec["df.spec.updateStrategy.stage"]) == ([], True)
