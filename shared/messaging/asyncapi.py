"""The AsyncAPI document: what goes over Kafka, made from the models that the services read and write with.

`python -m shared.messaging.asyncapi` prints it; the repository keeps it in `docs/asyncapi.yaml`, and a test keeps the two
equal. Authors of other systems write their deploy commands by it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.domain import messages as m
from shared.domain import topics
from shared.domain.deploy_commands import DeployCommand
from shared.domain.deployflow import BatchPhase, FlowPhase, PodPhase
from shared.domain.json_types import Json
from shared.domain.replies import DeployCommandReply, Result
from shared.settings import Settings

VERSION: Final = "1.0.0"
"""The version of the messages; the first number is the `version` that each of ours carries."""
SCHEMAS: Final = "#/components/schemas/"
INSTANCE_KEY: Final = "`<namespace>/<instanceName>`: everything about one instance stays in order"


class Channel(NamedTuple):
    """A topic: what it is for, which services send to it and receive from it."""

    description: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    key: str = INSTANCE_KEY


CHANNELS: Final[dict[str, Channel]] = {
    topics.DEPLOY_COMMANDS: Channel(
        "What other systems want: a new release, or a change of a running one. A command that can't be read or "
        "carried out goes to the dead letters with the reason.",
        (),
        ("planner",),
    ),
    topics.PLANNER_FACTS: Channel(
        "What some replica of the planner saw, for the replica that has the instance.",
        ("planner",),
        ("planner",),
    ),
    topics.BATCH_COMMANDS: Channel(
        "What shall be done for a batch. Targets are absolute: done twice is done once.",
        ("planner",),
        ("executor", "readiness"),
    ),
    topics.BATCH_RESULTS: Channel("The answers to batch commands.", ("executor",), ("planner",)),
    topics.PHASE_EVENTS: Channel("Facts about pods.", ("readiness",), ("planner", "events")),
    topics.CLONESET_EVENTS: Channel("Changes of CloneSets.", ("executor",), ("events",)),
    topics.CLUSTER_EVENTS: Channel(
        "What the cluster says of pods and CloneSets: its own Events, and last lines of the logs of pods that failed.",
        ("readiness", "executor"),
        ("events",),
    ),
    topics.DEPLOYFLOW_EVENTS: Channel("What happens to releases.", ("planner",), ("events",)),
    topics.DEAD_LETTERS: Channel(
        "Messages that could not be worked on, unchanged, with the reason in headers. "
        "`triton dead-letters` lists and replays them.",
        ("planner", "executor", "readiness", "events"),
        (),
        "that of the original message",
    ),
}

_CLOUD_EVENT: Final[Json] = {
    "type": "object",
    "description": "CloudEvents 1.0 attributes, Kafka protocol binding in binary mode. Optional for other systems.",
    "properties": {
        "content-type": {"type": "string", "const": "application/json"},
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {
            "type": "string",
            "description": "On deploy-commands it stands in for an `id` that the value lacks.",
        },
        "ce_type": {"type": "string", "examples": ["io.triton.deploy-commands"]},
        "ce_source": {"type": "string", "format": "uri-reference", "examples": ["/paas/releases"]},
        "ce_subject": {"type": "string", "description": "The message's key."},
        "ce_time": {"type": "string", "format": "date-time"},
        "traceparent": {
            "type": "string",
            "description": "W3C Trace Context. Triton sends it with what is about a release where traces are on; on "
            "deploy-commands it is the sender's, and the command's span is also in the sender's trace.",
            "examples": ["00-8d0f0f4e5f3a4c439f0e0d5d3a9a6f10-00f067aa0ba902b7-01"],
        },
    },
}
_DEAD_LETTER: Final[Json] = {
    "type": "object",
    "description": "The original's headers, and these.",
    "required": [
        f"triton_{name}" for name in ("topic", "partition", "offset", "reason", "message", "at", "service")
    ],
    "properties": {
        "triton_topic": {
            "type": "string",
            "description": "Where it was, without the prefix; of an answer, where it should go.",
        },
        "triton_partition": {"type": "string", "pattern": "^[0-9]+$"},
        "triton_offset": {"type": "string", "pattern": "^[0-9]+$"},
        "triton_reason": {"type": "string", "description": "One word in CamelCase."},
        "triton_message": {"type": "string", "description": "For people."},
        "triton_at": {"type": "string", "pattern": "^[0-9]+$", "description": "Milliseconds since 1970."},
        "triton_service": {"type": "string", "description": "Which service put it aside."},
        "triton_truncated": {"type": "string", "description": "How many bytes it had, if not all were kept."},
    },
}
_REPLY_HEADERS: Final[Json] = {
    "type": "object",
    "description": "CloudEvents 1.0 attributes, Kafka protocol binding in binary mode, and the command's id.",
    "required": [
        *("content-type", "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time"),
        "correlation_id",
    ],
    "properties": {
        "content-type": {"type": "string", "const": "application/json"},
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {
            "type": "string",
            "description": "`<id of the command>:<result>`: the same each time that an answer is sent.",
            "examples": ["req-deploy-1:finished"],
        },
        "ce_type": {"type": "string", "const": "io.triton.reply"},
        "ce_source": {"type": "string", "const": "/triton/planner"},
        "ce_subject": {"type": "string", "description": "The command's id."},
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "When it was taken or refused, or when the release ended.",
        },
        "correlation_id": {"type": "string", "description": "The command's id."},
    },
}
_REPLY: Final = DeployCommandReply.__name__
_COMMAND_ID: Final = "the id of the command"
REPLIES: Final = "deploy-command-replies"
"""The channel of the answers: each command names its topic."""


# --- examples -----------------------------------------------------------------------------------------------

_FLOW = m.FlowRef(
    name="web-kvn6b", uid="8d0f0f4e-5f3a-4c43-9f0e-0d5d3a9a6f10", batch=1, requested_by="deployer"
)
_TOPIC: Final = "paas.replies"
_WHO: Final[Json] = {"namespace": "shop", "instance": "web"}
_ORDER: Final[Json] = {**_WHO, "sequence": 7, "flow": _FLOW}
_AT: Final = 1_763_720_000_000
_UIDS: Final = ["3b6c1f0a-7d53-4d0e-9a56-5c9b2f0c1d11"]
_FACTS = m.CloneSetFacts(uid="5f9d", generation=4, observed_generation=4, sequence=7, replicas=4, partition=3)
_SPEC: Final[Json] = {
    "action": "update",
    "application": {
        "appID": 12122,
        "groupID": 10010,
        "appName": "deploy-demo-hello",
        "instanceName": "web",
        "replicas": 3,
        "template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.29"}]}},
    },
    "updateStrategy": {"canary": 1, "batchSize": "50%", "batchIntervalSeconds": 10, "mode": "auto"},
}


def _commands() -> Iterator[tuple[str, Json]]:
    def command(kind: str, **fields: Any) -> tuple[str, Json]:
        return kind, {
            "id": f"req-{kind}-1",
            "type": kind,
            "namespace": "shop",
            **fields,
            "requestedBy": "deployer",
        }

    yield command("deploy", spec=_SPEC, replyTo=_TOPIC)
    yield command("next", instanceName="web", batch=1, stage="Smoked")
    yield command("continue", deployFlow=_FLOW.name, target={"batches": 2, "stage": "Smoked"})
    for kind in ("pause", "resume", "cancel"):
        yield command(kind, deployFlow=_FLOW.name)


def _replies() -> Iterator[tuple[str, DeployCommandReply]]:
    def reply(result: Result, flow: str = "", **fields: Any) -> tuple[str, DeployCommandReply]:
        about: Json = {"reason": "", "message": ""} | fields
        return str(result), DeployCommandReply(id="req-deploy-1", result=result, deploy_flow=flow, **about)

    text = "web-kvn6b exists already and releases something else; choose another name"
    yield reply(Result.ACCEPTED, _FLOW.name)
    yield reply(Result.REFUSED, reason="AlreadyExists", message=f"deployFlow: {text}")
    yield reply(Result.FINISHED, _FLOW.name, phase=FlowPhase.SUCCESS)


def _messages() -> tuple[m.Message, ...]:
    """Return an example of each message between the services."""
    pod = m.PodFact(
        uid=_UIDS[0],
        name="web-x7k2p",
        revision="web-6d5f",
        phase=PodPhase.CONTAINERS_READY,
        ready=False,
        containers_ready=True,
        gate=m.Gate.CLOSED,
        ip="10.1.2.3",
        port=80,
        created_at=_AT - 812,
        at=_AT,
        transitions=[m.Transition(name="containers-ready", id="containers-ready:1763720000000.0", at=_AT)],
        flow=_FLOW,
    )
    app = m.AppRef(name="deploy-demo-hello", app_id=12122, group_id=10010)
    about: Json = {
        **_WHO,
        "at": _AT,
        "kind": "Pod",
        "name": pod.name,
        "uid": pod.uid,
        "flow": _FLOW,
        "app": app,
    }
    fields = {name: getattr(pod, name) for name in m.PodRef.model_fields}
    flow = {"app_id": 12122, "group_id": 10010, "app_name": "deploy-demo-hello", "action": "update"}
    return (
        m.Observe(**_ORDER, application=_SPEC["application"]),
        m.Surge(
            **_ORDER,
            replicas=4,
            partition=3,
            hold=m.Hold(flow=_FLOW.uid, batch=1, surge=1, updated=0, others=3),
            application=_SPEC["application"],
        ),
        m.Retire(**_ORDER, replicas=3, partition=2, retire=_UIDS, accept_replicas=4),
        m.Halt(**_ORDER),
        m.Cancel(**_ORDER, keep=3, baked=0, drop=_UIDS, restore_template=True),
        m.Finish(**_ORDER),
        m.Remove(**_ORDER),
        m.PullIn(**_ORDER, uids=_UIDS),
        m.PullOut(**_ORDER, uids=_UIDS),
        m.Done(**_WHO, sequence=7, cloneset=_FACTS, pods=[m.PodRef(**fields)]),
        m.CloneSetSeen(**_WHO, sequence=7, cloneset=_FACTS),
        m.Superseded(**_WHO, sequence=7, current=9),
        m.VictimsGone(**_WHO, sequence=7, gone=_UIDS),
        m.ReplicasChanged(**_WHO, sequence=7, replicas=5),
        m.Refused(**_WHO, sequence=7, reason="Invalid", message="spec.template: image must not be empty"),
        m.PodsSeen(**_WHO, pods=[pod], at=_AT + 12, app=app),
        m.SpecObserved(**_WHO, flow=_FLOW, generation=2, created_at=_AT, requested_by="deployer", spec=_SPEC),
        m.SpecGone(**_WHO, flow=_FLOW),
        m.Due(**_WHO),
        m.FlowEvent(
            **_WHO,
            **flow,
            id=f"{_FLOW.uid}:batch:1:Smoked",
            at=_AT,
            flow=_FLOW,
            reason="BatchSmoked",
            message="canary 1 of 2 is Smoked",
            phase=FlowPhase.BATCH_STARTED,
            batch=1,
            batches=2,
            batch_phase=BatchPhase.SMOKED,
            canary=True,
            requested_by="deployer",
            duration_ms=1210,
        ),
        m.CloneSetEvent(
            **_WHO, id="5f9d:4", at=_AT, reason="SpecChanged", cloneset=_FACTS, flow=_FLOW, app=app
        ),
        m.ClusterEvent(
            **about,
            id="9c1b:1",
            warning=True,
            reason="FailedScheduling",
            message="0/3 nodes are available",
            component="default-scheduler",
        ),
        m.ContainerLog(
            **about,
            id=f"{pod.uid}:log:web:previous:5f2d",
            container="web",
            previous=True,
            restarts=1,
            text="panic: no database",
        ),
    )


# --- the document -------------------------------------------------------------------------------------------


def document() -> Json:
    """Return the whole document; addresses are those of the default prefix."""
    settings = Settings.model_construct()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Triton",
            "version": VERSION,
            "description": "What Triton's services and other systems say to each other on Kafka. Delivery is at least "
            "once: every reader bears repetition. Readers ignore fields that they do not know, except in deploy "
            "commands, where a misspelt field is refused. Addresses begin with TRITON_PREFIX, here its default.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": settings.kafka_bootstrap, "protocol": "kafka"}},
        "channels": {
            **{name: _channel(name, channel, settings) for name, channel in CHANNELS.items()},
            REPLIES: {
                "address": None,
                "description": "The answers to deploy commands, on the topic that the command names. Triton does not "
                "make it: where it does not exist there is no answer.",
                "messages": {_REPLY: {"$ref": f"#/components/messages/{_REPLY}"}},
            },
        },
        "operations": dict(_operations()),
        "components": {
            "schemas": {
                **_schemas(),
                "CloudEventHeaders": _CLOUD_EVENT,
                "DeadLetterHeaders": _DEAD_LETTER,
                "DeployCommandReplyHeaders": _REPLY_HEADERS,
            },
            "messages": dict(_message_objects()),
        },
    }


def _names(topic: str) -> list[str]:
    """Return the names of the messages of a topic."""
    match topic:
        case topics.DEPLOY_COMMANDS:
            return [DeployCommand.__name__]
        case topics.DEAD_LETTERS:
            return ["DeadLetter"]
        case _:
            return [model.__name__ for model, where in m.TOPIC_OF.items() if where == topic]


def _channel(name: str, channel: Channel, settings: Settings) -> Json:
    return {
        "address": settings.topic(name),
        "description": channel.description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in _names(name)},
        "bindings": {
            "kafka": {
                "topic": settings.topic(name),
                "partitions": settings.kafka_partitions,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations() -> Iterator[tuple[str, Json]]:
    for name, channel in CHANNELS.items():
        for action, services in (("send", channel.senders), ("receive", channel.receivers)):
            for service in services:
                operation: Json = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "tags": [{"name": service}],
                    "messages": [
                        {"$ref": f"#/channels/{name}/messages/{message}"} for message in _read(service, name)
                    ],
                }
                if name == topics.DEPLOY_COMMANDS:
                    operation["description"] = (
                        "Where `replyTo` names a topic, `accepted` or `refused` goes there, and `finished` when the "
                        "release has finished that a deploy or a rollback made."
                    )
                    operation["reply"] = {
                        "address": {"location": "$message.payload#/replyTo"},
                        "channel": {"$ref": f"#/channels/{REPLIES}"},
                        "messages": [{"$ref": f"#/channels/{REPLIES}/messages/{_REPLY}"}],
                    }
                yield f"{service}.{action}.{name}", operation


def _read(service: str, topic: str) -> list[str]:
    """Return the names of the messages of a topic that a service reads: of the batch commands, each has its own."""
    gates = {m.PullIn.__name__, m.PullOut.__name__}
    names = _names(topic)
    if topic == topics.BATCH_COMMANDS and service == "executor":
        return [name for name in names if name not in gates]
    if topic == topics.BATCH_COMMANDS and service == "readiness":
        return [name for name in names if name in gates]
    return names


def _message_objects() -> Iterator[tuple[str, Json]]:
    commands = [{"name": name, "payload": payload} for name, payload in _commands()]
    command = _message(DeployCommand, INSTANCE_KEY, commands)
    yield DeployCommand.__name__, command | {"correlationId": {"location": "$message.payload#/id"}}
    replies = [
        {"name": name, "payload": reply.model_dump(mode="json", exclude_none=True)}
        for name, reply in _replies()
    ]
    yield (
        _REPLY,
        _message(DeployCommandReply, _COMMAND_ID, replies)
        | {
            "headers": {"$ref": f"{SCHEMAS}DeployCommandReplyHeaders"},
            "correlationId": {"location": "$message.payload#/id"},
        },
    )
    examples = {type(message): message for message in _messages()}
    for model, topic in m.TOPIC_OF.items():
        payload = examples[model].model_dump(mode="json", exclude_defaults=True)
        payload |= examples[model].model_dump(mode="json", include={"type", "version"})
        yield model.__name__, _message(model, CHANNELS[topic].key, [{"payload": payload}])
    yield (
        "DeadLetter",
        {
            "name": "DeadLetter",
            "summary": "A message that was put aside; the value is the original's, whatever it was.",
            "contentType": "application/octet-stream",
            "headers": {"$ref": f"{SCHEMAS}DeadLetterHeaders"},
            "payload": {},
            "bindings": _key(CHANNELS[topics.DEAD_LETTERS].key),
        },
    )


def _message(
    model: type[m.Message | DeployCommand | DeployCommandReply], key: str, examples: list[Json]
) -> Json:
    title, _, rest = inspect.cleandoc(model.__dict__.get("__doc__") or "").partition("\n\n")
    about = {"summary": " ".join(title.split()), "description": " ".join(rest.split())}
    return {
        "name": model.__name__,
        **{name: text for name, text in about.items() if text},
        "headers": {"$ref": f"{SCHEMAS}CloudEventHeaders"},
        "payload": {"$ref": f"{SCHEMAS}{model.__name__}"},
        "bindings": _key(key),
        "examples": examples,
    }


def _key(description: str) -> Json:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": "0.5.0"}}


def _schemas() -> Json:
    """Return the schemas of all messages; `type` is required, as it distinguishes the messages of a topic."""
    models: list[type[BaseModel]] = [DeployCommand, DeployCommandReply, *m.TOPIC_OF]
    _, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template=f"{SCHEMAS}{{model}}"
    )
    schemas: Json = schema["$defs"]
    for model in m.TOPIC_OF:
        schemas[model.__name__]["required"] = ["type", *schemas[model.__name__].get("required", [])]
    return dict(sorted(schemas.items()))


class _Dumper(yaml.SafeDumper):
    """Writes everything out: anchors would be harder to read than repetition."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def text() -> str:
    dumped: str = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return (
        "# Made by `python -m shared.messaging.asyncapi` from the models in shared/: change those, not this.\n"
        + dumped
    )


if __name__ == "__main__":
    sys.stdout.write(text())
