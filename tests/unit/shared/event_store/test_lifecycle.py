"""How long events are kept, against a fake: the node of `triton sandbox --real` has neither of the two APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.errors import Unavailable
from shared.event_store import open_store, templates
from shared.settings import Settings
from tests.unit.shared.event_store.fake_elasticsearch import FakeElasticsearch

STREAMS = {f"logs-triton.{kind}-*" for kind in ("deployflow", "pod", "cloneset")}


@pytest.fixture
async def fake() -> AsyncIterator[FakeElasticsearch]:
    async with FakeElasticsearch() as fake:
        yield fake


async def start(fake: FakeElasticsearch, **settings: Any) -> None:
    store = open_store(
        Settings(event_store=fake.url, **{f"elasticsearch_{name}": value for name, value in settings.items()})
    )
    try:
        await store.prepare()
    finally:
        await store.close()


def template(fake: FakeElasticsearch) -> Any:
    assert templates.LIFECYCLE in fake.templates["logs-triton.pod"]["composed_of"]
    return fake.templates[templates.LIFECYCLE]["template"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, {"enabled": True}), (30, {"enabled": True, "data_retention": "30d"})],
    ids=["for ever", "30 days"],
)
async def test_by_default_the_data_streams_look_after_themselves(
    fake: FakeElasticsearch, days: int, expected: Any
) -> None:
    await start(fake, retention_days=days)
    assert template(fake) == {"lifecycle": expected}
    assert fake.lifecycles == dict.fromkeys(STREAMS, expected)
    assert fake.policies == {}


async def test_another_retention_counts_from_the_next_start_on_for_old_streams_too(
    fake: FakeElasticsearch,
) -> None:
    await start(fake, retention_days=30)
    await start(fake, retention_days=7)
    assert template(fake)["lifecycle"]["data_retention"] == "7d"
    assert fake.lifecycles["logs-triton.pod-*"]["data_retention"] == "7d"
    await start(fake)
    assert fake.lifecycles["logs-triton.pod-*"] == {"enabled": True}


async def test_what_an_administrator_changes_stays_while_the_settings_are_the_same(
    fake: FakeElasticsearch,
) -> None:
    await start(fake, retention_days=30)
    template(fake)["lifecycle"]["data_retention"] = "90d"
    fake.lifecycles["logs-triton.pod-*"] = {"enabled": False}
    await start(fake, retention_days=30)
    assert template(fake)["lifecycle"]["data_retention"] == "90d"
    assert fake.lifecycles["logs-triton.pod-*"] == {"enabled": False}


async def test_a_start_that_was_cut_short_is_made_up_for(fake: FakeElasticsearch) -> None:
    await start(fake)
    unavailable = (503, {"error": {"type": "x"}, "status": 503})
    # its own template, that of the lifecycle, and two data streams answer
    fake.answers = [(200, {"component_templates": [{"component_template": {"version": 99}}]})]
    fake.answers += [
        (200, {"component_templates": [{"component_template": fake.templates[templates.LIFECYCLE]}]})
    ]
    fake.answers += [(200, {}), (200, {}), unavailable]
    with pytest.raises(Unavailable):
        await start(fake, retention_days=7)
    await start(fake, retention_days=7)
    assert {body["data_retention"] for body in fake.lifecycles.values()} == {"7d"}
    assert template(fake)["lifecycle"]["data_retention"] == "7d"


async def test_a_node_without_these_apis_keeps_the_templates(fake: FakeElasticsearch) -> None:
    await start(fake)
    missing = (400, {"error": "no handler found for uri [/_data_stream/x/_lifecycle] and method [PUT]"})
    found = (200, {"component_templates": [{"component_template": {"version": 99}}]})
    kept = (200, {"component_templates": [{"component_template": fake.templates[templates.LIFECYCLE]}]})
    fake.answers = [found, kept, missing, missing, missing]
    await start(fake, retention_days=7)
    assert template(fake)["lifecycle"]["data_retention"] == "7d"


async def test_an_older_version_leaves_a_newer_one_s_lifecycle(
    fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = templates.VERSION + 1
    with monkeypatch.context() as patch:
        patch.setattr(templates, "VERSION", newer)
        await start(fake, retention_days=30)
    await start(fake, retention_days=7)
    assert template(fake)["lifecycle"]["data_retention"] == "30d"
    assert fake.lifecycles["logs-triton.pod-*"]["data_retention"] == "30d"


async def test_a_newer_version_leaves_the_streams_of_the_same_settings_alone(
    fake: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(fake, retention_days=30)
    fake.lifecycles.clear()
    monkeypatch.setattr(templates, "VERSION", templates.VERSION + 1)
    await start(fake, retention_days=30)
    assert fake.templates[templates.LIFECYCLE]["version"] == templates.VERSION
    assert fake.lifecycles == {}


async def test_ilm_has_a_policy_of_ours_which_follows_the_retention(fake: FakeElasticsearch) -> None:
    await start(fake, lifecycle="ilm")
    assert template(fake) == {"settings": {"index.lifecycle.name": "triton-events"}}
    assert set(fake.policies["triton-events"]["policy"]["phases"]) == {"hot"}
    await start(fake, lifecycle="ilm", retention_days=30)
    assert fake.policies["triton-events"]["policy"]["phases"]["delete"]["min_age"] == "30d"


async def test_a_policy_that_somebody_changed_is_never_overwritten(fake: FakeElasticsearch) -> None:
    await start(fake, lifecycle="ilm", retention_days=30)
    fake.policies["triton-events"]["policy"]["phases"]["warm"] = {"min_age": "2d", "actions": {}}
    changed = dict(fake.policies["triton-events"]["policy"]["phases"])
    await start(fake, lifecycle="ilm", retention_days=7)
    assert fake.policies["triton-events"]["policy"]["phases"] == changed


async def test_a_policy_of_the_company_is_used_as_it_is_and_missed_by_its_name(
    fake: FakeElasticsearch,
) -> None:
    with pytest.raises(Unavailable, match=r"no ILM policy company.*TRITON_ELASTICSEARCH_ILM_POLICY"):
        await start(fake, lifecycle="ilm", ilm_policy="company")
    company: dict[str, Any] = {"policy": {"phases": {"hot": {"actions": {}}}}}
    fake.policies["company"] = company
    await start(fake, lifecycle="ilm", ilm_policy="company", retention_days=7)
    assert fake.policies == {"company": company}
    assert template(fake) == {"settings": {"index.lifecycle.name": "company"}}


async def test_from_data_streams_to_ilm_and_back_old_streams_have_one_of_them(
    fake: FakeElasticsearch,
) -> None:
    await start(fake)
    await start(fake, lifecycle="ilm")
    assert fake.lifecycles == {}
    assert fake.settings == {key: {"index.lifecycle.name": "triton-events"} for key in STREAMS}
    await start(fake)
    assert set(fake.lifecycles) == STREAMS
    assert fake.settings == {key: {"index.lifecycle.name": None} for key in STREAMS}


async def test_no_lifecycle_policy_is_made_when_none_is_requested(fake: FakeElasticsearch) -> None:
    await start(fake)
    await start(fake, lifecycle="none")
    assert template(fake) == {}
    assert fake.lifecycles == {}
    assert fake.policies == {}
