"""The stories of a campaign: the same seed, the same story; every kind of disturbance is drawn."""

from __future__ import annotations

import json

import pytest

from bench.campaigns.generator import story
from bench.campaigns.kinds import KINDS, Group, UnknownKind, choose
from bench.campaigns.person import manifest
from bench.campaigns.story import BadStory, Story, read, written
from shared.domain.deployflow import Action, DeployFlowSpec

ALL = choose(None, [], real=True)
MANY = [story(7, number, ALL) for number in range(1, 301)]


def test_the_same_seed_and_number_make_the_same_story_and_others_another() -> None:
    assert story(7, 3, ALL) == story(7, 3, ALL)
    assert len({str(one.releases) for one in MANY}) == len(MANY)
    assert story(8, 3, ALL).releases != story(7, 3, ALL).releases


def test_many_stories_have_every_kind_of_disturbance_and_every_action() -> None:
    assert {kind for one in MANY for kind in one.kinds} == set(KINDS)
    assert {release.action for one in MANY for release in one.releases} == set(Action) - {Action.START} | {
        Action.START
    }
    assert all(one.releases[0].action == Action.CREATE for one in MANY)


def test_a_story_becomes_json_and_the_same_story_again() -> None:
    assert read(written(MANY)) == MANY
    assert read(json.dumps(MANY[0].as_json())) == [MANY[0]]


def test_nothing_follows_a_namespace_that_goes() -> None:
    for one in MANY:
        going = [n for n, r in enumerate(one.releases) if any(d.kind == "namespace" for d in r.disturbances)]
        assert going in ([], [len(one.releases) - 1])


@pytest.mark.parametrize("text", ["{", "3", '[{"seed": 1}]', '{"releases": [{"action": "fly"}]}'])
def test_a_text_that_is_no_story_is_refused(text: str) -> None:
    with pytest.raises(BadStory):
        read(text)


def test_a_disturbance_of_an_unknown_kind_or_phase_is_refused() -> None:
    (disturbed,) = [one for one in MANY if one.kinds][:1]
    for wrong in ({"kind": "storm"}, {"phase": "Noon"}):
        body = disturbed.as_json()
        for release in body["releases"]:
            release["disturbances"] = [{"kind": "pause", **wrong}]
        with pytest.raises(BadStory, match="is named"):
            Story.of(body)


def test_every_release_of_a_story_is_a_valid_deployflow() -> None:
    for one in MANY:
        for release in one.releases:
            DeployFlowSpec.model_validate(manifest(release, "release-1", "app1:good", 3)["spec"])


def test_kinds_are_chosen_by_name_and_by_group() -> None:
    assert choose(["scale", "hpa"], [], real=False) == ["scale", "hpa"]
    assert not {KINDS[name].group for name in choose(None, ["faults"], real=True)} & {Group.FAULTS}
    assert "kafka-restarted" not in choose(None, [], real=False)
    assert choose([], [], real=False) == []
    with pytest.raises(UnknownKind, match="no kind of disturbance is named storm"):
        choose(["storm"], [], real=False)


def test_without_disturbances_a_story_has_none() -> None:
    assert not any(story(7, number, []).kinds for number in range(1, 50))
