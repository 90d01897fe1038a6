"""Volume claims and the application's type reach the CloneSet, and are taken back with the template."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.executor.application_extras import claims_only_error
from services.executor.cloneset_change import dry_run_body
from services.executor.guarded_write import guarded
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from tests.unit.executor.test_cloneset_change import (
    after,
    cancel,
    cloneset,
    created,
    finish,
    observe,
    patch,
    surge,
)
from tests.unit.parts import application

OLD = [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]
NEW = [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}}]


def with_claims(claims: list[Json]) -> CloneSet:
    return msgspec.structs.replace(
        cloneset(), spec=msgspec.structs.replace(cloneset().spec, volume_claim_templates=claims)
    )


def updated(**more: Any) -> CloneSet:
    """A CloneSet with claims, in the first batch of an update."""
    return after(surge(5, application=application("demo:2", **more)), with_claims(OLD))


def test_the_type_is_an_annotation_of_the_cloneset() -> None:
    body = created(application=application(applicationType="stateless"))
    assert body["metadata"]["annotations"][cs.APPLICATION_TYPE] == "stateless"
    assert updated(applicationType="batch").metadata.annotations[cs.APPLICATION_TYPE] == "batch"


def test_an_update_writes_its_claims_with_its_template() -> None:
    assert updated(volumeClaimTemplates=NEW).spec.volume_claim_templates == NEW
    assert updated(volumeClaimTemplates=[]).spec.volume_claim_templates == []


def test_what_an_update_does_not_say_stays() -> None:
    live = updated()
    assert live.spec.volume_claim_templates == OLD
    assert cs.STABLE_CLAIMS not in live.metadata.annotations
    assert cs.APPLICATION_TYPE not in live.metadata.annotations


def test_a_cancel_brings_the_claims_back_with_the_template() -> None:
    again = after(
        surge(6, application=application("demo:2", volumeClaimTemplates=NEW)),
        updated(volumeClaimTemplates=NEW),
    )
    over = after(cancel(7), again)
    assert over.spec.volume_claim_templates == OLD
    assert cs.STABLE_CLAIMS not in over.metadata.annotations


def test_where_all_pods_are_new_their_claims_stay() -> None:
    live = updated(volumeClaimTemplates=NEW)
    for command in (cancel(6, restore_template=False, baked=3), finish(6)):
        over = after(command, live)
        assert over.spec.volume_claim_templates == NEW
        assert cs.STABLE_CLAIMS not in over.metadata.annotations


def test_the_write_carries_the_claims_as_they_are() -> None:
    live = with_claims(OLD)
    command = surge(5, application=application("demo:2", volumeClaimTemplates=NEW))
    operations = guarded(live, patch(command, live))
    assert {"op": "add", "path": "/spec/volumeClaimTemplates", "value": NEW} in operations


def test_the_dry_run_tries_the_claims_too() -> None:
    body = dry_run_body(
        observe(application=application("demo:2", volumeClaimTemplates=NEW)), with_claims(OLD)
    )
    assert body["spec"]["volumeClaimTemplates"] == NEW


@pytest.mark.parametrize(("after_it", "refused"), [(OLD, False), (NEW, True), (None, True)])
def test_claims_that_change_alone_are_refused_by_name(after_it: list[Json] | None, refused: bool) -> None:
    said = claims_only_error(with_claims(OLD), {"spec": {"volumeClaimTemplates": after_it}})
    assert said.startswith("application.volumeClaimTemplates: ") is refused
    assert bool(said) is refused
