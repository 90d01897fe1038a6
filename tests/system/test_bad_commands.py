"""Commands that can't be carried out: each is put aside with the reason, and harms nobody."""

from __future__ import annotations

import copy
import json
from typing import Final

import pytest

from sandbox.environment import Sandbox
from shared.domain.json_types import Json
from tests.system.other_system import OtherSystem, deploy, press
from tests.system.programs import printed
from tests.system.releases import Releases, deployflow

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

MISSING: Final = object()


def but(change: str, value: object, action: str = "create") -> bytes:
    """A sound deploy but for one field, named by its path."""
    command = copy.deepcopy(deploy("bad", "bad"))
    command["namespace"] = "default"
    command["spec"]["action"] = action
    *path, last = change.split(".")
    at = command
    for part in path:
        at = at[part]
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return json.dumps(command).encode()


STRATEGY = "spec.updateStrategy"
NO_COMMANDS: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "InvalidJSON", "not JSON"),
    "no JSON": (b'{"id": "bad", ', "InvalidJSON", "not JSON"),
    "no UTF-8": (b'{"id": "\xff"}', "InvalidJSON", "not JSON"),
    "too deep": (b"[" * 100_000, "InvalidJSON", "not JSON"),
    "a list": (b"[]", "InvalidCommand", "must be an object"),
    "2 MB": (but("spec.application.appName", "x" * 2_000_000), "TooLarge", "1000000"),
}
BAD_FIELDS: dict[str, tuple[str, object, str]] = {
    "no id": ("id", MISSING, "id: "),
    "an empty id": ("id", "", "id: "),
    "a number as id": ("id", 7, "id: "),
    "unknown type": ("type", "explode", "type: "),
    "no type": ("type", MISSING, "type: "),
    "no namespace": ("namespace", MISSING, "namespace: "),
    "a namespace that is a path": ("namespace", "default/pods/x?", "namespace: "),
    "a name that is a path": ("deployFlow", "../pods/x", "deployFlow: "),
    "a reply to no topic": ("replyTo", "no topic!", "replyTo: "),
    "a field too much": ("force", True, "force: "),
    "a field that no header can carry": ("\ud800", True, "must be a text"),
    "no spec": ("spec", MISSING, "spec: "),
    "a text as spec": ("spec", "web:1.0", "spec: "),
    "unknown action": ("spec.action", "explode", "spec.action: "),
    "no instance": ("spec.application.instanceName", MISSING, "spec.application.instanceName: "),
    "an instance that is no name": ("spec.application.instanceName", "Not_A_Name", "instanceName: "),
    "no template": ("spec.application.template", MISSING, "spec.application.template: "),
    "a template without containers": ("spec.application.template", {"spec": {}}, "application.template: "),
    "a text as replicas": ("spec.application.replicas", "three", "spec.application.replicas: "),
    "negative replicas": ("spec.application.replicas", -1, "spec.application.replicas: "),
    "batchSize -1": (f"{STRATEGY}.batchSize", -1, f"{STRATEGY}.batchSize: "),
    "batchSize 120%": (f"{STRATEGY}.batchSize", "120%", f"{STRATEGY}.batchSize: "),
    "batchSize abc": (f"{STRATEGY}.batchSize", "abc", f"{STRATEGY}.batchSize: "),
    "negative canary": (f"{STRATEGY}.canary", -1, f"{STRATEGY}.canary: "),
    "a text as paused": (f"{STRATEGY}.paused", "perhaps", f"{STRATEGY}.paused: "),
    "both strategies": ("spec.nonUpdateStrategy", {"batchSize": 1}, "spec.nonUpdateStrategy: "),
}
BAD_CONTROLS: dict[str, tuple[Json, str, str]] = {
    "unknown flow": ({"type": "next", "deployFlow": "nobody-made-it"}, "NotFound", "deployFlow: "),
    "unknown instance": ({"type": "next", "instanceName": "nobody-made-it"}, "NotFound", "instanceName: "),
    "neither flow nor instance": ({"type": "pause"}, "InvalidCommand", "deployFlow: "),
    "no target": ({"type": "continue", "instanceName": "bad"}, "InvalidCommand", "target: "),
    "batch 0": ({"type": "next", "instanceName": "bad", "batch": 0}, "InvalidCommand", "batch: "),
    "a stage that is none": (
        {"type": "continue", "instanceName": "bad", "target": {"stage": "Done"}},
        "InvalidCommand",
        "target.stage: ",
    ),
}
BAD = (
    NO_COMMANDS
    | {name: (but(field, value), "InvalidCommand", says) for name, (field, value, says) in BAD_FIELDS.items()}
    | {
        "the wrong strategy for the action": (
            but("requestedBy", "paas", action="restart"),
            "InvalidCommand",
            f"{STRATEGY}: ",
        )
    }
    | {
        name: (json.dumps({"id": "bad", "namespace": "default", **body}).encode(), reason, says)
        for name, (body, reason, says) in BAD_CONTROLS.items()
    }
)


@pytest.mark.parametrize("what", list(BAD))
async def test_a_bad_command_is_put_aside_by_the_field_and_the_next_one_is_carried_out(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem, what: str
) -> None:
    value, reason, says = BAD[what]
    instance = f"after-{list(BAD).index(what)}"
    planner = sandbox.pid("planner")
    flows = set(await releases.names())
    await paas.publish(instance, value)
    await paas.ask(instance, deploy(instance, instance, replicas=0))
    (letter,) = await paas.dead_letters(instance)
    assert letter.headers["triton_reason"] == reason
    assert says in letter.headers["triton_message"]
    assert letter.headers["triton_topic"] == "deploy-commands"
    assert value.startswith(letter.value)
    (reply,) = await paas.replies(instance)
    assert reply["result"] == "accepted"
    assert set(await releases.names()) - flows == {reply["deployFlow"]}, "only the good one was carried out"
    assert sandbox.pid("planner") == planner


HEADERS: dict[str, dict[str, bytes | None]] = {
    "no value": {"ce_id": None},
    "no text": {"ce_id": b"\xff", "trace": b"\x00\xfe"},
    "an address of another program's": {"reply_to": b"triton.dead-letters"},
    "more than a dead letter has room for": {"baggage": b"x" * 1_100_000},
}


@pytest.mark.parametrize("what", list(HEADERS))
async def test_headers_of_any_kind_do_no_harm(paas: OtherSystem, what: str) -> None:
    instance = f"headers-{list(HEADERS).index(what)}"
    bad, good = press(f"{instance}-bad", "next", instance), deploy(instance, instance, replicas=0)
    await paas.ask(instance, bad, good, headers=HEADERS[what])
    (reply,) = await paas.replies(f"{instance}-bad")
    assert reply["reason"] == "NotFound"
    (reply,) = await paas.replies(instance)
    assert reply["result"] == "accepted"
    (letter,) = await paas.dead_letters(instance)
    assert letter.body["id"] == f"{instance}-bad"


async def test_a_refused_command_is_answered_with_the_reason(paas: OtherSystem) -> None:
    await paas.ask("nowhere", press("refused-1", "cancel", "nowhere"))
    (reply,) = await paas.replies("refused-1")
    message = "instanceName: default/nowhere has no DeployFlow"
    assert reply == {
        "id": "refused-1", "result": "refused", "deployFlow": "", "reason": "NotFound", "message": message
    }  # fmt: skip


async def test_an_invalid_command_is_answered_by_the_field(paas: OtherSystem) -> None:
    await paas.ask("misspelt", press("misspelt-1", "pause", "misspelt") | {"requestBy": "paas"})
    (reply,) = await paas.replies("misspelt-1")
    message = "requestBy: unknown field (received: 'paas')"
    assert reply == {
        "id": "misspelt-1", "result": "refused", "deployFlow": "", "reason": "InvalidCommand", "message": message
    }  # fmt: skip
    (letter,) = await paas.dead_letters("misspelt")
    assert letter.headers["triton_message"] == message


async def test_a_deploy_under_a_name_that_is_taken_changes_nothing(
    releases: Releases, paas: OtherSystem
) -> None:
    await releases.apply(deployflow("taken-1", "taken", action="create", replicas=1))
    await paas.ask("taken", {**deploy("taken-2", "taken"), "deployFlow": "taken-1"})
    (reply,) = await paas.replies("taken-2")
    assert (reply["result"], reply["reason"]) == ("refused", "AlreadyExists")
    await releases.finished("taken-1", "Success")


async def test_a_command_to_a_release_that_is_finished_is_refused(
    releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("over", deploy("over-1", "over", replicas=0))
    (reply,) = await paas.replies("over-1")
    await releases.finished(reply["deployFlow"], "Success")
    await paas.ask("over", press("over-2", "pause", "over"))
    (reply,) = await paas.replies("over-2")
    assert (reply["result"], reply["reason"]) == ("refused", "Finished")


async def test_an_operator_sees_a_dead_letter_and_has_it_tried_again(
    sandbox: Sandbox, releases: Releases, paas: OtherSystem
) -> None:
    await paas.ask("early", press("early-2", "cancel", "early"))
    await paas.dead_letters("early")
    listed = json.loads(await printed("dead-letters", "list", "-o", "json", environment=sandbox.environment))
    (seen,) = [letter for letter in listed if letter["key"] == "default/early"]
    assert (seen["reason"], seen["topic"], seen["service"]) == ("NotFound", "deploy-commands", "planner")
    assert "instanceName: default/early has no DeployFlow" in seen["message"]
    shown = json.loads(
        await printed("dead-letters", "show", seen["id"], "-o", "json", environment=sandbox.environment)
    )
    assert json.loads(shown["value"])["id"] == "early-2"

    await paas.ask("early", deploy("early-1", "early", replicas=2, canary=1))
    (reply,) = await paas.replies("early-1")
    await releases.batch_is(reply["deployFlow"], 1, "Smoked")
    assert "replayed" in await printed("dead-letters", "replay", seen["id"], environment=sandbox.environment)
    await releases.finished(reply["deployFlow"], "Canceled")
