"""`triton update` changes what is named and keeps all else of the last good release."""

from __future__ import annotations

import copy

import pytest

from cli.options import strategy_of
from shared.domain.deploy_commands import Refusal
from shared.domain.json_types import Json
from shared.releases.history import last_good
from shared.releases.specs import Known, Unfit, Wish, release, update, updated


def _over(flow: Json, name: str, *, action: str = "update", phase: str = "Success") -> Json:
    made = copy.deepcopy(flow)
    made["metadata"]["name"] = name
    made["spec"]["action"] = action
    made["status"] = {"phase": phase, "finished": True}
    return made


def test_the_newest_successful_release_is_the_base(flow: Json) -> None:
    releases = [
        _over(flow, "first", action="create"),
        _over(flow, "second"),
        _over(flow, "broken", phase="Canceled"),
        _over(flow, "scaled", action="scale_out"),
    ]
    assert last_good(releases, "7-web")["metadata"]["name"] == "second"


def test_without_a_successful_release_there_is_nothing_to_update(flow: Json) -> None:
    with pytest.raises(Refusal, match="7-web has no successful release: create it"):
        last_good([], "7-web")
    with pytest.raises(Refusal, match="its first one is not finished"):
        last_good([flow], "7-web")


def test_only_the_image_changes(spec: Json) -> None:
    made = updated({"spec": spec}, Wish("web:2", container="web"))
    containers = made.model_dump(mode="json")["application"]["template"]["spec"]["containers"]
    assert containers == [{"name": "web", "image": "web:2"}, {"name": "proxy", "image": "proxy:1"}]
    assert made.application.replicas == 4
    assert made.action == "update"


def test_the_new_release_starts_from_its_beginning(flow: Json) -> None:
    flow["spec"]["updateStrategy"] |= {"paused": True, "canceled": True}
    known = Known("7-web", [_over(flow, "first", action="create")], None)
    made = update(known, Wish("web:2", container="web"))
    strategy = made.model_dump(mode="json", exclude_unset=True)["updateStrategy"]
    assert strategy == {"batchSize": 2, "canary": 1, "mode": "auto"}


def test_the_strategy_can_be_changed(spec: Json) -> None:
    wish = Wish("web:2", "web", 6, strategy_of("25%", "manual", 30, canary=0))
    made = updated({"spec": spec}, wish)
    assert made.update_strategy is not None
    assert (made.update_strategy.batch_size, made.update_strategy.canary) == ("25%", 0)
    assert (made.update_strategy.mode, made.update_strategy.batch_interval_seconds) == ("manual", 30)
    assert made.application.replicas == 6


def test_an_update_keeps_the_count_that_runs(spec: Json) -> None:
    assert updated({"spec": spec}, Wish("web:2", "web"), 9).application.replicas == 9
    assert updated({"spec": spec}, Wish("web:2", "web", replicas=2), 9).application.replicas == 2


def test_with_several_containers_one_must_be_named(spec: Json) -> None:
    with pytest.raises(Unfit, match="container: say which container gets the image, one of web, proxy"):
        updated({"spec": spec}, Wish("web:2"))
    with pytest.raises(Unfit, match="container: there is no db, only web, proxy"):
        updated({"spec": spec}, Wish("web:2", "db"))


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish("web:2", "web", strategy=strategy_of("-1")), "strategy.batchSize"),
        (Wish("web:2", "web", strategy=strategy_of("many")), "strategy.batchSize"),
        (Wish("web:2", "web", strategy=strategy_of(canary=-1)), "strategy.canary"),
        (Wish("web:2", "web", strategy=strategy_of(mode="fast")), "strategy.mode"),
    ],
)
def test_what_does_not_fit_is_named(wish: Wish, field: str, spec: Json) -> None:
    with pytest.raises(Unfit, match=field):
        updated({"spec": spec}, wish)


def test_the_release_carries_its_request_and_who_made_it(spec: Json) -> None:
    made = updated({"spec": spec}, Wish("web:2", "web"))
    body = release(made, namespace="shop", request_id="r1", requested_by="deployer")
    again = release(made, namespace="shop", request_id="r1", requested_by="deployer")
    assert body["metadata"]["name"] == again["metadata"]["name"]
    assert body["metadata"]["name"].startswith("7-web-")
    assert body["metadata"]["annotations"] == {
        "apps.triton.io/last-request": "r1",
        "apps.triton.io/requested-by": "deployer",
        "apps.triton.io/prune": "true",
    }
