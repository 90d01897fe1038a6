"""Refusals in the form clients expect: a `Status` object whose reason, details and causes they act upon.

A client decides by `reason` and `code` whether to read again (Conflict), to list again (Expired) or to give
up (Invalid), and kubectl prints `message` as it is, so the words follow the real API server's.
"""

from __future__ import annotations

from shared.domain.json_types import Json

from .causes import Cause
from .resources import Resource


class ApiError(Exception):
    """A refusal, with the HTTP code and the Status body that goes with it."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.code}


def _details(resource: Resource, name: str) -> Json:
    details: Json = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.key} "{name}" not found', _details(resource, name))


def already_exists(resource: Resource, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{resource.key} "{name}" already exists', _details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.key} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def stale(resource: Resource, name: str) -> ApiError:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def wrong_uid(resource: Resource, name: str, wanted: str, found: str) -> ApiError:
    return conflict(
        resource, name, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )


def invalid(resource: Resource, name: str, causes: list[Cause]) -> ApiError:
    sentences = [f"{cause.field}: {cause.message}" for cause in causes]
    text = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {
        **_details(resource, name),
        "kind": resource.kind,
        "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
    }
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    return ApiError(
        403, "Forbidden", f'{resource.key} "{name}" is forbidden: {why}', _details(resource, name)
    )


def too_disruptive(budget: str, needed: int, healthy: int) -> ApiError:
    """Return the refusal of an eviction that a PodDisruptionBudget does not allow."""
    text = f"The disruption budget {budget} needs {needed} healthy pods and has {healthy} currently"
    details = {"causes": [{"reason": "DisruptionBudget", "message": text}]}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details)


def namespace_terminating(resource: Resource, name: str, namespace: str) -> ApiError:
    """Return the refusal of a creation in a namespace that is being deleted; clients act upon its cause."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = forbidden(resource, name, why)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return ApiError(error.code, error.reason, error.message, {**_details(resource, name), "causes": [cause]})


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> ApiError:
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def denied_by_webhook(webhook: str, message: str) -> ApiError:
    """Return the refusal of a validating webhook of OpenKruise: code 422 without a reason."""
    return ApiError(422, "", f'admission webhook "{webhook}" denied the request: {message}')


_POLICY_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


def denied_by_policy(resource: Resource, name: str, text: str, reason: str) -> ApiError:
    """Return the refusal of a ValidatingAdmissionPolicy, whose author chooses the reason."""
    message = f'{resource.key} "{name}" is forbidden: {text}'
    details = {**_details(resource, name), "causes": [{"message": text}]}
    return ApiError(_POLICY_CODES[reason], reason, message, details)
