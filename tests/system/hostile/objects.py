"""Objects as a hostile cluster could hold them, made from a seed: depth, size, wrong types, odd numbers and texts. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from shared.domain import deployflow as df
from shared.domain.json_types import Json
from shared.domain.object_bounds import DEEPEST
from shared.kube import clonesets as cs
from shared.kube.client import (
    CLONESETS,
    CONTROLLER_REVISIONS,
    DEPLOYFLOWS,
    EVENTS,
    NAMESPACES,
    PODS,
    Resource,
)
from tests.system.releases import deployflow

NAMED_DEPTHS: Final = (101, 150, 195, 230, 260, 300)
"""Those of the issue, and the bounds of ours and of our parsers."""
DEPTHS: Final = (*NAMED_DEPTHS, 20, 90, 400, 700)


class Hostile(NamedTuple):
    """An object to make. `status`: written by its subresource afterwards. `too_deep`: Triton refuses it for that."""

    resource: Resource
    body: Json
    status: Json | None = None
    too_deep: bool = False


def nested(depth: int) -> Any:
    """Return so many maps inside each other."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def hostile_objects(random_: random.Random) -> Iterator[Hostile]:
    """Yield objects without end, of one namespace but for Namespaces themselves."""
    for number, depth in enumerate(NAMED_DEPTHS):
        yield _deep_flow(f"named-{number}", depth)
    makers = (_flow, _flow, _cloneset, _pod, _event, _namespace, _revision)
    number = 0
    while True:
        for make in makers:
            number += 1
            yield make(random_, f"hostile-{number}")


def _deep_flow(name: str, depth: int) -> Hostile:
    body = deployflow(name, name, action="create", replicas=0)
    body["spec"]["application"]["template"]["deep"] = nested(depth)
    return Hostile(DEPLOYFLOWS, body, too_deep=depth >= DEEPEST)


# --- texts and values ---


def _text(random_: random.Random) -> str:
    texts: tuple[Callable[[], str], ...] = (
        lambda: "[" * random_.choice((500, 5_000, 50_000)),
        lambda: '{"a":' * 2_000 + "1" + "}" * 2_000,
        lambda: "9" * random_.choice((20, 400, 5_000)),
        lambda: "-1",
        lambda: "²",
        lambda: "१२",
        lambda: "\0\x1b[2J\r\n\u202e",
        lambda: "null",
        lambda: '"text"',
        lambda: "[1, null, {}]",
        lambda: '{"flow": 1e999, "batch": NaN}',
        lambda: '{"batch": ' + "9" * 5_000 + "}",
        lambda: '["\\ud800"]',
        lambda: '{"preDelete": [], "partition": {"a": []}}',
        lambda: "x" * random_.choice((300, 4_000, 60_000)),
        lambda: "🙈" * 300,
        lambda: "",
    )
    return random_.choice(texts)()


def _value(random_: random.Random) -> Any:
    values: tuple[Callable[[], Any], ...] = (
        lambda: nested(random_.choice(DEPTHS)),
        lambda: [[]] * random_.choice((0, 1, 500)),
        lambda: {str(number): number for number in range(random_.choice((0, 1, 500)))},
        lambda: random_.choice((2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30)),
        lambda: random_.choice((0.1, -0.0, 1e300, 5e-324)),
        lambda: random_.choice((True, False, None)),
        lambda: _text(random_)[:2_000],
    )
    return random_.choice(values)()


def _annotations(random_: random.Random, *names: str) -> dict[str, str]:
    chosen = random_.sample(names, random_.randint(1, len(names)))
    found = {name: _text(random_) for name in chosen}
    # the API server takes 256 KiB of them
    while sum(len(text.encode()) for text in found.values()) > 200_000:
        found.popitem()
    return found


def _labels(random_: random.Random) -> dict[str, str]:
    few = {"app": random_.choice(("9" * 63, "0", "x", "-1", "")), "group": random_.choice(("9" * 20, "a"))}
    many = {f"label-{number}": "x" * 63 for number in range(random_.choice((0, 0, 500)))}
    return {**few, **many}


# --- objects ---


def _flow(random_: random.Random, name: str) -> Hostile:
    action = random_.choice(("create", "update", "create", "rollback"))
    body = deployflow(name, name, action=action, replicas=0)
    body["metadata"]["labels"] = _labels(random_)
    body["metadata"]["annotations"] = _annotations(
        random_,
        df.LAST_REQUEST,
        df.REQUESTS,
        df.RETRIES,
        df.REQUESTED_BY,
        df.REPLY_TO,
        df.REPLY_ID,
        df.KEEPS_REPLICAS,
        df.EITHER_DIRECTION,
        df.PRUNE,
        df.REVISION_HISTORY_LIMIT,
        df.FREEZE_OVERRIDE,
    )
    application = body["spec"]["application"]
    template = application["template"]
    value = _value(random_)
    places: tuple[Callable[[], object], ...] = (
        lambda: template.update(unknown=value),
        lambda: template.update(metadata=value),
        lambda: template["metadata"].update(annotations=value),
        lambda: template["metadata"].update(labels=value),
        lambda: template["spec"].update(containers=value),
        lambda: template["spec"].update(containers=[value]),
        lambda: template["spec"].update(readinessGates=value),
        lambda: template["spec"]["containers"][0].update(ports=value, env=value),
        lambda: application.update(volumeClaimTemplates=[{"metadata": value, "spec": value}]),
        lambda: application.update(template={"spec": value}),
        lambda: application.update(replicas=value),
        lambda: body["spec"]["updateStrategy"].update(batchSize=value, canary=value),
    )
    random_.choice(places)()
    return Hostile(DEPLOYFLOWS, body)


def _cloneset(random_: random.Random, name: str) -> Hostile:
    labels = {**_labels(random_), **df.MANAGED_BY, df.INSTANCE_LABEL: name}
    annotations = _annotations(
        random_,
        cs.SEQUENCE,
        cs.HOLD,
        cs.REPLICAS,
        cs.SCALED_TO,
        cs.OWNER_STRATEGY,
        cs.OWNER_LIFECYCLE,
        cs.STABLE_TEMPLATE,
        cs.STABLE_REVISION,
        cs.STABLE_CLAIMS,
        cs.STOPPED,
        cs.RELEASE,
        cs.FIRST_RELEASE,
        cs.ADOPT,
        cs.ADOPTED_BY,
        cs.NO_PULL_IN,
    )
    pod = {"metadata": {"labels": {"x": name}}, "spec": {"containers": [{"name": "a", "image": "nginx:1"}]}}
    spec: Json = {"replicas": 0, "selector": {"matchLabels": {"x": name}}, "template": pod}
    value = _value(random_)
    places: tuple[Callable[[], object], ...] = (
        lambda: pod.update(unknown=value),
        lambda: spec.update(updateStrategy={"partition": value}),
        lambda: spec.update(lifecycle={"preDelete": value}),
        lambda: spec.update(unknown=value),
        lambda: None,
    )
    random_.choice(places)()
    meta = {"name": name, "labels": labels, "annotations": annotations}
    body = {"apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "metadata": meta, "spec": spec}
    return Hostile(CLONESETS, body)


def _pod(random_: random.Random, name: str) -> Hostile:
    labels = {**_labels(random_), **df.MANAGED_BY, df.INSTANCE_LABEL: name}
    annotations = _annotations(
        random_,
        "apps.triton.io/drain-path",
        "apps.triton.io/drain-port",
        "apps.triton.io/drain-max-seconds",
        "apps.triton.io/graceful-shutdown",
    )
    owner = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "CloneSet",
        "name": name,
        "uid": "00000000-0000-0000-0000-000000000000",
        "controller": random_.random() < 0.5,
    }
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner] if random_.random() < 0.5 else [],
            "finalizers": [f"hostile.example/{number}" for number in range(random_.choice((0, 0, 100)))],
        },
        "spec": {
            "containers": [{"name": "a", "image": random_.choice(("nginx:1", "x" * 100_000, "\0"))}],
            "readinessGates": [{"conditionType": df.READINESS_GATE}],
        },
    }
    message = random_.choice(("sequence " + "9" * 5_000, "sequence ²", _text(random_)))
    time = random_.choice(("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", None))
    condition = {"type": df.READINESS_GATE, "status": "True", "message": message, "lastTransitionTime": time}
    status = {
        "phase": random_.choice(("Pending", "Failed", "Running")),
        "reason": _text(random_)[:4_000],
        "message": _text(random_),
        "conditions": [condition],
    }
    return Hostile(PODS, body, status)


def _event(random_: random.Random, name: str) -> Hostile:
    """Make an Event about an object that may exist."""
    number = int(name.rpartition("-")[2])
    about = f"hostile-{max(number - random_.randint(0, 10), 1)}"
    time = random_.choice(("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", None))
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {
            "kind": random_.choice(("Pod", "CloneSet")),
            "name": random_.choice((about, "x" * 10_000, "")),
            "namespace": "",
            "uid": random_.choice(("", "0", "x" * 10_000)),
        },
        "reason": random_.choice(("FailedCreate", _text(random_)[:4_000])),
        "message": _text(random_),
        "type": random_.choice(("Warning", "Normal", _text(random_)[:100])),
        "count": random_.choice((0, -1, 2**31 - 1, None)),
        "firstTimestamp": time,
        "lastTimestamp": time,
        "source": {"component": _text(random_)[:10_000]},
    }
    return Hostile(EVENTS, body)


def _namespace(random_: random.Random, name: str) -> Hostile:
    meta = {"name": f"of-{name}", "annotations": {df.FREEZE_WINDOWS: _text(random_)}}
    return Hostile(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})


def _revision(random_: random.Random, name: str) -> Hostile:
    body = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name},
        "revision": random_.choice((0, 1, 2**63 - 1)),
        "data": random_.choice(({"spec": _value(random_)}, {"deep": _value(random_)}, {})),
    }
    return Hostile(CONTROLLER_REVISIONS, body)
