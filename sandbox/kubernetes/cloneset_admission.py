"""OpenKruise's webhooks for CloneSets and their pods: defaults, refusals, and the gates of its own.

Its refusals arrive as those of an admission webhook, not as Invalid from the server; clients see the
difference.
"""

from __future__ import annotations

from typing import Any

from shared.domain.json_types import Json

from .causes import Cause
from .cloneset_arithmetic import scaled
from .errors import denied_by_webhook
from .metadata import annotation_causes, label_causes
from .objects import controller_of, is_terminating
from .pod_defaults import cloneset_template, template_causes
from .selectors import from_spec, matches
from .store import Store
from .strategies import Strategy

WEBHOOK = "vcloneset.kb.io"
TYPES = ("ReCreate", "InPlaceIfPossible", "InPlaceOnly")
CHANGEABLE = (
    "replicas",
    "template",
    "lifecycle",
    "scaleStrategy",
    "updateStrategy",
    "minReadySeconds",
    "volumeClaimTemplates",
    "revisionHistoryLimit",
)


class CloneSetStrategy(Strategy):
    """Defaults as the mutating webhook, refusals as the validating one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def prepare(self, new: Json, old: Json | None) -> Json:
        spec = new["spec"]
        if old is not None and spec == old["spec"]:
            return new
        update = {
            "type": "ReCreate",
            "partition": 0,
            "maxUnavailable": "20%",
            "maxSurge": 0,
            **(spec.get("updateStrategy") or {}),
        }
        template = spec["template"]
        if old is None or template != old["spec"].get("template"):
            template = cloneset_template(template)
        return {
            **new,
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 10,
                **spec,
                "template": template,
                "scaleStrategy": spec.get("scaleStrategy") or {},
                "updateStrategy": update,
            },
        }

    def admit(self, new: Json, old: Json | None) -> None:
        causes = self._selector_causes(new["spec"])
        causes += _template_causes(new["spec"]["template"])
        causes += self._scale_causes(new, old)
        causes += _update_causes(new["spec"])
        if old is not None:
            causes += _forbidden(new["spec"], old["spec"])
        if causes:
            raise denied_by_webhook(WEBHOOK, _joined(causes))

    def _selector_causes(self, spec: Json) -> list[Cause]:
        if causes := _selector_label_causes(spec.get("selector") or {}):
            return causes
        selector = from_spec(spec.get("selector"))
        if not selector:
            return [Cause("spec.selector", "", "Invalid value: {}: empty selector is invalid for cloneset")]
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if matches(selector, labels):
            return []
        return [
            Cause(
                "spec.template.metadata.labels",
                "",
                f"Invalid value: {_go_map(labels)}: `selector` does not match template `labels`",
            )
        ]

    def _scale_causes(self, new: Json, old: Json | None) -> list[Cause]:
        field = "spec.scaleStrategy.podsToDelete"
        names = _names(new)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            return [Cause(field, "", f"Invalid value: {names}: duplicated items {repeated}")]
        added = sorted(set(names) - set(_names(old) if old else ()))
        complaints = [(name, self._why_not(new, name)) for name in added]
        return [Cause(field, "", f'Invalid value: "{name}": {why}') for name, why in complaints if why]

    def _why_not(self, cloneset: Json, name: str) -> str:
        record = self._store.get("pods", cloneset["metadata"].get("namespace", ""), name)
        if record is None:
            return f'find pod {name} failed: Pod "{name}" not found'
        if is_terminating(record.obj):
            return f"find pod {name} already terminating"
        owner = controller_of(record.obj)
        if owner is None or owner["uid"] != cloneset["metadata"]["uid"]:
            return f"find pod {name} owner is not this CloneSet"
        return ""


def _selector_label_causes(selector: Json) -> list[Cause]:
    causes = label_causes(selector.get("matchLabels") or {}, "spec.selector.matchLabels")
    return (
        [*causes, Cause("spec.selector", "", f"Invalid value: {_go_map(selector['matchLabels'])}")]
        if causes
        else []
    )


def _template_causes(template: Json) -> list[Cause]:
    metadata = template.get("metadata") or {}
    causes = label_causes(metadata.get("labels") or {}, "spec.template.labels")
    causes += annotation_causes(
        metadata.get("annotations") or {}, "spec.template.annotations", "must have at most {} bytes"
    )
    causes += template_causes(template, "spec.template")
    policy = template["spec"].get("restartPolicy")
    if policy != "Always":
        text = f'Unsupported value: "{policy}": supported values: "Always"'
        causes.append(Cause("spec.template.spec.restartPolicy", "", text))
    return causes


def _names(cloneset: Json) -> list[str]:
    return list((cloneset["spec"].get("scaleStrategy") or {}).get("podsToDelete") or ())


def _go_map(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{key}":"{value}"' for key, value in sorted(labels.items())) + "}"


def _joined(causes: list[Cause]) -> str:
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _number(spec: Json, field: str, default: Any, causes: list[Cause]) -> int:
    value = (spec.get("updateStrategy") or {}).get(field)
    try:
        number = scaled(default if value is None else value, spec["replicas"])
    except ValueError:
        causes.append(
            Cause(
                f"spec.updateStrategy.{field}",
                "",
                f'Invalid value: "{value}": failed '
                f"GetScaledValueFromIntOrPercent for {field}: invalid value for IntOrString",
            )
        )
        return 1
    if number < 0:
        causes.append(
            Cause(
                f"spec.updateStrategy.{field}",
                "",
                f"Invalid value: {number}: must be greater than or equal to 0",
            )
        )
    return number


def _update_causes(spec: Json) -> list[Cause]:
    causes: list[Cause] = []
    strategy = spec.get("updateStrategy") or {}
    if spec["replicas"] < 0:
        causes.append(
            Cause(
                "spec.replicas", "", f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"
            )
        )
        return causes
    if strategy.get("type") not in TYPES:
        causes.append(
            Cause(
                "spec.updateStrategy.type",
                "",
                f'Invalid value: "{strategy.get("type")}": must be '
                "'ReCreate', InPlaceIfPossible or 'InPlaceOnly'",
            )
        )
    _number(spec, "partition", 0, causes)
    unavailable = _number(spec, "maxUnavailable", 0, causes)
    surge = _number(spec, "maxSurge", 0, causes)
    if spec["replicas"] > 0 and unavailable < 1 and surge < 1:
        shown = strategy.get("maxUnavailable")
        causes.append(
            Cause(
                "spec.updateStrategy.maxUnavailable",
                "",
                f"Invalid value: {shown if isinstance(shown, int) else chr(34) + str(shown) + chr(34)}: "
                "maxUnavailable and maxSurge should not both be less than 1",
            )
        )
    return causes


def _forbidden(new: Json, old: Json) -> list[Cause]:
    def fixed(spec: Json) -> Json:
        return {key: value for key, value in spec.items() if key not in CHANGEABLE}

    if fixed(new) == fixed(old):
        return []
    listed = ", ".join(f"'{name}'" for name in CHANGEABLE[:-1])
    return [
        Cause(
            "spec",
            "",
            f"Forbidden: updates to cloneset spec for fields other than {listed} and "
            f"'{CHANGEABLE[-1]}' are forbidden",
        )
    ]
