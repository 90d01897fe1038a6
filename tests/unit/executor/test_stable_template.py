"""Where the template of the last good release is kept while another one is under way."""

from __future__ import annotations

import json

import msgspec
import pytest

from services.executor.cloneset_change import Patch, decide_change
from services.executor.guarded_write import guarded
from services.executor.stable_template import LARGEST_ANNOTATIONS, TooLarge, keep_template, template_in
from shared.domain import messages as m
from shared.domain.json_types import Json
from shared.errors import Unavailable
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet
from tests.simulation.cluster import merged
from tests.unit.parts import LABELS, application

HOLD = m.Hold(flow="flow-1", batch=1, surge=1, updated=0, others=3)
HEAD: Json = {"namespace": "default", "instance": "web", "flow": m.FlowRef(name="web-df", uid="flow-1")}
API_SERVER_TAKES = 256 << 10


def template(size: int = 300_000) -> Json:
    container = {"name": "main", "image": "demo:0", "env": [{"name": "BIG", "value": "x" * size}]}
    return {"spec": {"containers": [container]}}


def cloneset(
    *, of: Json, observed: int = 7, annotations: dict[str, str] | None = None, **spec: object
) -> CloneSet:
    return msgspec.convert(
        {
            "metadata": {
                "name": "web",
                "namespace": "default",
                "uid": "cloneset-1",
                "labels": LABELS,
                "resourceVersion": "77",
                "generation": 7,
                "annotations": {cs.SEQUENCE: "4", cs.REPLICAS: "3", **(annotations or {})},
            },
            "spec": {"replicas": 3, "template": of, **spec},
            "status": {"observedGeneration": observed, "updateRevision": "web-first"},
        },
        CloneSet,
    )


def surge(sequence: int = 5) -> m.Surge:
    counts: Json = {"replicas": 4, "partition": 3, "accept_replicas": 3}
    return m.Surge(**HEAD, sequence=sequence, hold=HOLD, application=application("demo:2"), **counts)


def cancel(sequence: int = 6) -> m.Cancel:
    return m.Cancel(**HEAD, sequence=sequence, keep=3, baked=0, restore_template=True)


def after(command: m.ExecutorCommand, live: CloneSet, revised: Json | None = None) -> CloneSet:
    """Return the CloneSet as the API server makes it of the change."""
    decided = decide_change(command, live, [], revised)
    assert isinstance(decided, Patch)
    assert guarded(live, decided.body)
    return msgspec.convert(merged(msgspec.to_builtins(live), decided.body), CloneSet)


def size(live: CloneSet) -> int:
    return sum(len(name) + len(value) for name, value in live.metadata.annotations.items())


def test_a_small_template_is_kept_in_the_annotation_and_a_large_one_by_its_revision() -> None:
    small, large = template(10), template()
    assert json.loads(keep_template(cloneset(of=small))[cs.STABLE_TEMPLATE]) == small
    assert keep_template(cloneset(of=large)) == {cs.STABLE_REVISION: "web-first"}


def test_the_annotations_of_a_release_of_a_large_template_fit_and_a_cancel_brings_it_back() -> None:
    large = template()
    began = after(surge(), cloneset(of=large))
    assert size(began) < API_SERVER_TAKES
    assert began.spec.template != large
    revision = {"data": {"spec": {"template": {**large, "$patch": "replace"}}}}
    over = after(cancel(), began, template_in(revision))
    assert over.spec.template == large
    assert cs.STABLE_REVISION not in over.metadata.annotations


def test_what_others_wrote_counts_too() -> None:
    half = template(LARGEST_ANNOTATIONS // 2)
    written = {"kubectl.kubernetes.io/last-applied-configuration": "x" * (LARGEST_ANNOTATIONS // 2)}
    assert cs.STABLE_TEMPLATE in keep_template(cloneset(of=half))
    assert keep_template(cloneset(of=half, annotations=written)) == {cs.STABLE_REVISION: "web-first"}


@pytest.mark.parametrize("kept", [cs.STABLE_TEMPLATE, cs.STABLE_REVISION])
def test_a_second_release_on_top_keeps_what_the_first_has_kept(kept: str) -> None:
    assert keep_template(cloneset(of=template(), annotations={kept: "{}"})) == {}


def test_the_annotation_that_an_older_version_wrote_is_still_read() -> None:
    stable = template(10)
    began = cloneset(of=template(20), annotations={cs.STABLE_TEMPLATE: json.dumps(stable)})
    over = after(cancel(), began)
    assert over.spec.template == stable
    assert cs.STABLE_TEMPLATE not in over.metadata.annotations


def test_a_finish_forgets_the_revision() -> None:
    began = after(surge(), cloneset(of=template()))
    over = after(m.Finish(**HEAD, sequence=6), began)
    assert cs.STABLE_REVISION not in over.metadata.annotations


def test_a_cancel_whose_revision_is_gone_keeps_the_old_pods() -> None:
    began = after(surge(), cloneset(of=template()))
    over = after(cancel(), began, None)
    assert over.spec.template == began.spec.template
    assert over.spec.update_strategy["partition"] == 3


def test_the_template_waits_for_the_revision_that_openkruise_has_not_made_yet() -> None:
    with pytest.raises(Unavailable, match="OpenKruise has not processed the last change"):
        keep_template(cloneset(of=template(), observed=6))


def test_a_template_that_openkruise_would_forget_is_refused_with_what_to_do() -> None:
    with pytest.raises(TooLarge, match=r"set spec\.revisionHistoryLimit of the CloneSet to 1 or more"):
        keep_template(cloneset(of=template(), revisionHistoryLimit=0))
