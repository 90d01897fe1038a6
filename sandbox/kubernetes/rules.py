"""CEL rules of custom resources (`x-kubernetes-validations`), compiled once when the definition is loaded.

A rule that speaks of `oldSelf` is a transition rule: it is judged only where there is an earlier value.
Kubernetes' own extensions to CEL (its list, regex and quantity libraries) are not here, only the standard
language.
"""

from __future__ import annotations

import re
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from shared.domain.json_types import Json

from .causes import Cause

_REASONS = {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"}
_WORDS = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}

_environment = celpy.Environment()


class Rule:
    """One rule: its program, its message and the field it blames."""

    def __init__(self, source: Json) -> None:
        self.text: str = source["rule"]
        self.message: str = source.get("message", "")
        self.field_path: str = source.get("fieldPath", "")
        reason = source.get("reason", "FieldValueInvalid")
        self.reason = reason if reason in _REASONS else "FieldValueInvalid"
        self.is_transition = re.search(r"\boldSelf\b", self.text) is not None
        self._optional_old: bool = source.get("optionalOldSelf", False)
        self._program = compiled(self.text)
        expression = source.get("messageExpression")
        self._message_program = compiled(expression) if expression else None

    def judge(self, value: Any, old: Any, path: str) -> Cause | None:
        """Return None when the rule allows the value, else what is wrong with it."""
        if self.is_transition and old is None:
            return None
        bindings = {"self": json_to_cel(value)}
        if self.is_transition:
            bindings["oldSelf"] = json_to_cel(old)
        try:
            if bool(self._program.evaluate(bindings)):
                return None
            complaint = self._complaint(bindings)
        except CELEvalError as error:
            complaint = f"rule: {self.text}: evaluation failed: {error.args[0]}"
        return Cause(path + self.field_path, self.reason, self._sentence(value, complaint))

    def _complaint(self, bindings: dict[str, Any]) -> str:
        if self._message_program is not None:
            return str(self._message_program.evaluate(bindings))
        return self.message or f"failed rule: {self.text}"

    def _sentence(self, value: Any, complaint: str) -> str:
        if self.reason in _WORDS:
            return f"{_WORDS[self.reason]}: {complaint}"
        return f'Invalid value: "{type_name(value)}": {complaint}'


def compiled(text: str) -> celpy.Runner:
    """Compile an expression; raise `CELParseError`."""
    return _environment.program(_environment.compile(text))


def type_name(value: Any) -> str:
    """Return the schema's name for a value's type; messages of rules show it in place of the value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
