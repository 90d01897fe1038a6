"""Which images a release replaces, by what serves before it."""

from __future__ import annotations

import json

import pytest

from services.executor.image_changes import LONGEST, MOST, image_changes
from shared.domain.image_changes import describe_images
from shared.domain.json_types import Json
from shared.domain.messages import ImageChange
from shared.kube import clonesets as cs
from tests.unit.executor.test_stable_template import cloneset


def template(**images: str) -> Json:
    return {"spec": {"containers": [{"name": name, "image": image} for name, image in images.items()]}}


def changed(container: str, before: str, after: str) -> ImageChange:
    return ImageChange(container=container, from_image=before, to_image=after)


def test_only_the_containers_that_differ_are_named() -> None:
    live = cloneset(of=template(web="web:1", proxy="proxy:1", agent="agent:1"))
    after = template(web="web:2", proxy="proxy:1", tracer="tracer:1")
    assert image_changes(live, after) == [
        changed("web", "web:1", "web:2"),
        changed("tracer", "", "tracer:1"),
        changed("agent", "agent:1", ""),
    ]
    assert image_changes(None, template(web="web:1")) == [changed("web", "", "web:1")]
    assert image_changes(live, template(web="web:1", proxy="proxy:1", agent="agent:1")) == []


@pytest.mark.parametrize(("after", "before"), [("web:4", "web:2"), ("web:2", "web:crash")])
def test_after_a_failed_release_the_last_good_image_is_the_one_before_but_for_the_way_back(
    after: str, before: str
) -> None:
    kept = {cs.STABLE_TEMPLATE: json.dumps(template(web="web:2"))}
    live = cloneset(of=template(web="web:crash"), annotations=kept)
    assert image_changes(live, template(web=after)) == [changed("web", before, after)]


def test_a_template_that_is_kept_elsewhere_says_nothing() -> None:
    live = cloneset(of=template(web="web:crash"), annotations={cs.STABLE_REVISION: "web-1"})
    assert image_changes(live, template(web="web:4")) == []


def test_many_and_long_images_are_bounded() -> None:
    after = template(**{f"c{number}": "i" * 5_000 for number in range(50)})
    found = image_changes(None, after)
    assert len(found) == MOST
    assert {len(one.to_image) for one in found} == {LONGEST}


def test_people_read_the_change_in_a_line() -> None:
    web, proxy = changed("web", "web:1", "web:2"), changed("proxy", "", "proxy:1")
    assert describe_images([]) == ""
    assert describe_images([web]) == "web:1 → web:2"
    assert describe_images([web, proxy, proxy]) == "web web:1 → web:2, proxy none → proxy:1 and 1 more"
    assert describe_images([changed("web", "", "web:2")]) == "web:2"
