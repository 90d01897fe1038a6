"""Which containers get a hook, and that what a release has written once stays as it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.executor.cloneset_change import BadTemplate
from services.executor.prestop_hooks import graceful, with_hooks
from shared.domain import messages as m
from shared.domain.graceful_exit import (
    DRAIN_MAX_SECONDS,
    DRAIN_PATH,
    DRAIN_PORT,
    GRACEFUL_SHUTDOWN,
    Drain,
    drain_of,
)
from shared.domain.json_types import Json
from shared.kube import clonesets as cs
from shared.kube.clonesets import CloneSet

FLOW = m.FlowRef(name="web-df", uid="flow-1")
HEAD: Json = {"namespace": "default", "instance": "web", "sequence": 5, "flow": FLOW}


def hook(port: int) -> Json:
    return {"preStop": {"httpGet": {"path": "/gracefully_shutdown", "port": port}}}


def container(name: str = "main", *ports: int, **more: Any) -> Json:
    return {"name": name, "image": "demo:1", "ports": [{"containerPort": port} for port in ports], **more}


def template(*containers: Json, **annotations: Any) -> Json:
    notes = {f"apps.triton.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return {"metadata": {"annotations": notes}, "spec": {"containers": list(containers)}}


def lifecycles(found: Json) -> list[Json | None]:
    return [one.get("lifecycle") for one in found["spec"]["containers"]]


def test_without_annotation_and_setting_a_template_stays_as_it_is() -> None:
    original = template(container("main", 80))
    assert graceful(original, by_setting=False) is original


@pytest.mark.parametrize("by_setting", [False, True])
def test_true_asks_each_container_that_has_a_port_at_its_first(by_setting: bool) -> None:
    original = template(
        container("main", 8080, 9090), container("side"), container("proxy", 15), graceful_shutdown="true"
    )
    assert lifecycles(graceful(original, by_setting=by_setting)) == [hook(8080), None, hook(15)]


def test_a_port_asks_the_container_that_has_it_and_else_the_first() -> None:
    containers = [container("main", 8080), container("admin", 9000, 9001)]
    assert lifecycles(graceful(template(*containers, graceful_shutdown="9001"), by_setting=False)) == [
        None,
        hook(9001),
    ]
    assert lifecycles(graceful(template(*containers, graceful_shutdown="7"), by_setting=False)) == [
        hook(7),
        None,
    ]


def test_the_setting_asks_where_the_template_says_nothing() -> None:
    containers = [container("main", 80), container("side")]
    assert lifecycles(graceful(template(*containers), by_setting=True)) == [hook(80), None]
    assert lifecycles(graceful({"spec": {"containers": containers}}, by_setting=True)) == [hook(80), None]
    off = template(*containers, graceful_shutdown="false")
    assert graceful(off, by_setting=True) is off


def test_a_hook_that_is_there_is_left_alone_and_so_is_what_stands_beside_it() -> None:
    theirs = {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    start = {"postStart": {"exec": {"command": ["true"]}}}
    original = template(
        container("main", 80, lifecycle=theirs),
        container("side", 81, lifecycle=start),
        graceful_shutdown="true",
    )
    assert lifecycles(graceful(original, by_setting=True)) == [theirs, {**start, **hook(81)}]


def test_init_containers_and_ports_that_are_no_tcp_get_none() -> None:
    original = template({"name": "dns", "ports": [{"containerPort": 53, "protocol": "UDP"}]})
    original["spec"]["initContainers"] = [container("init", 80)]
    assert graceful(original, by_setting=True) is original


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"graceful_shutdown": "yes"}, f"{GRACEFUL_SHUTDOWN} must be true, false or a port, not 'yes'"),
        ({"graceful_shutdown": "0"}, f"{GRACEFUL_SHUTDOWN} must be a whole number from 1 to 65535"),
        ({"graceful_shutdown": "65536"}, f"{GRACEFUL_SHUTDOWN} must be a whole number from 1 to 65535"),
        ({"graceful_shutdown": True}, f"{GRACEFUL_SHUTDOWN} must be a whole number .* in quotes, not True"),
        ({"drain_path": "connections"}, f"{DRAIN_PATH} must be a path that begins with /"),
        ({"drain_path": "/a b"}, f"{DRAIN_PATH} must be a path that begins with / and has no spaces"),
        ({"drain_path": "/c", "drain_port": "http"}, f"{DRAIN_PORT} must be a whole number from 1 to 65535"),
        (
            {"drain_path": "/c", "drain_max_seconds": "0"},
            f"{DRAIN_MAX_SECONDS} must be a whole number from 1 to 86400",
        ),
        ({"drain_path": "/c", "drain_max_seconds": 5}, f"{DRAIN_MAX_SECONDS} must be .* in quotes, not 5"),
        ({"drain_port": "80"}, f"{DRAIN_PORT} needs {DRAIN_PATH}"),
    ],
)
def test_what_can_not_be_read_is_refused_by_name(annotations: Json, text: str) -> None:
    with pytest.raises(BadTemplate, match=rf"application\.template\.metadata\.annotations: {text}"):
        graceful(template(container("main", 80), **annotations), by_setting=False)


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"graceful_shutdown": "true"}, "no container has a port"),
        ({"drain_path": "/c"}, f"needs {DRAIN_PORT}"),
    ],
)
def test_a_port_has_to_be_known(annotations: Json, text: str) -> None:
    with pytest.raises(BadTemplate, match=text):
        graceful(template(container(), **annotations), by_setting=False)


@pytest.mark.parametrize(
    "original",
    [
        "nothing",
        {"spec": []},
        {"metadata": "x", "spec": {"containers": [container("main", 80)]}},
        {"metadata": {"annotations": "x"}, "spec": {"containers": [container("main", 80)]}},
        {"spec": {"containers": ["main"]}},
        {"spec": {"containers": {"name": "main"}}},
        {"spec": {"containers": [{"name": "main", "ports": [80, {"containerPort": "http"}]}]}},
        {"spec": {"containers": [container("main", 80, lifecycle="x")]}},
    ],
)
def test_what_is_no_template_is_left_to_those_who_refuse_it(original: Any) -> None:
    assert graceful(original, by_setting=True) == original


def test_where_connections_are_told_of() -> None:
    assert drain_of({}, [80]) is None
    assert drain_of({DRAIN_PATH: "/connections"}, [80, 81]) == Drain("/connections", 80, 300)
    original = {DRAIN_PATH: "/left?kind=ws", DRAIN_PORT: "9000", DRAIN_MAX_SECONDS: "60"}
    assert drain_of(original, []) == Drain("/left?kind=ws", 9000, 60)


# --- a template that is there already ---


def surge(batch: int, original: Json) -> m.Surge:
    hold = m.Hold(flow=FLOW.uid, batch=batch, surge=1, updated=0, others=1)
    return m.Surge(**HEAD, replicas=2, partition=1, hold=hold, application={"template": original})


def live(written: Json, hold: m.Hold | None = None) -> CloneSet:
    notes = {cs.HOLD: hold.model_dump_json()} if hold else {}
    body = {"metadata": {"annotations": notes}, "spec": {"template": written}}
    return msgspec.convert(body, CloneSet)


def hooked(command: m.ExecutorCommand, there: CloneSet | None, *, by_setting: bool) -> bool:
    found: Any = with_hooks(command, there, by_setting=by_setting)
    return lifecycles(found.application["template"]) == [hook(80)]


@pytest.mark.parametrize("then", [False, True])
def test_a_setting_that_changes_in_the_middle_of_a_release_makes_no_other_template(then: bool) -> None:
    original = template(container("main", 80))
    written = graceful(original, by_setting=then)
    assert hooked(surge(1, original), live(template()), by_setting=then) == then
    assert hooked(surge(2, original), live(written), by_setting=not then) == then
    held = live(written, surge(1, original).hold)
    assert hooked(surge(1, original), held, by_setting=not then) == then
    observe = m.Observe(**HEAD, application={"template": original})
    assert hooked(observe, held, by_setting=not then) == then
    # the next release has the setting as it is now
    assert hooked(observe, live(written), by_setting=not then) != then


def test_an_owner_who_writes_our_hook_for_one_container_gets_it_for_no_other() -> None:
    original = template(container("main", 80, lifecycle=hook(80)), container("side", 81))
    found: Any = with_hooks(surge(2, original), live(original), by_setting=True)
    assert lifecycles(found.application["template"]) == [hook(80), None]


@pytest.mark.parametrize("application", [None, {}, {"template": None}])
def test_a_command_without_a_template_stays_as_it_is(application: Json | None) -> None:
    command = m.Observe(**HEAD, application=application)
    assert with_hooks(command, None, by_setting=True) is command
    halt = m.Halt(**HEAD)
    assert with_hooks(halt, None, by_setting=True) is halt
