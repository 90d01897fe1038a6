"""The error of an API call, one kind for the status codes of both REST and gRPC."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from grpc import StatusCode


class _Codes(NamedTuple):
    http: HTTPStatus
    grpc: StatusCode


class Kind(Enum):
    """The kind of an error, with the status codes of the two protocols."""

    INVALID = _Codes(HTTPStatus.BAD_REQUEST, StatusCode.INVALID_ARGUMENT)
    UNAUTHENTICATED = _Codes(HTTPStatus.UNAUTHORIZED, StatusCode.UNAUTHENTICATED)
    FORBIDDEN = _Codes(HTTPStatus.FORBIDDEN, StatusCode.PERMISSION_DENIED)
    NOT_FOUND = _Codes(HTTPStatus.NOT_FOUND, StatusCode.NOT_FOUND)
    CONFLICT = _Codes(HTTPStatus.CONFLICT, StatusCode.FAILED_PRECONDITION)
    CHANGED = _Codes(HTTPStatus.PRECONDITION_FAILED, StatusCode.ABORTED)
    TOO_SLOW = _Codes(HTTPStatus.REQUEST_TIMEOUT, StatusCode.DEADLINE_EXCEEDED)
    TOO_LARGE = _Codes(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, StatusCode.RESOURCE_EXHAUSTED)
    UNPROCESSABLE = _Codes(HTTPStatus.UNPROCESSABLE_ENTITY, StatusCode.INVALID_ARGUMENT)
    TOO_MANY = _Codes(HTTPStatus.TOO_MANY_REQUESTS, StatusCode.RESOURCE_EXHAUSTED)
    UNAVAILABLE = _Codes(HTTPStatus.SERVICE_UNAVAILABLE, StatusCode.UNAVAILABLE)

    @property
    def http(self) -> int:
        return int(self.value.http)

    @property
    def grpc(self) -> StatusCode:
        return self.value.grpc


class Problem(Exception):
    """`reason` is one CamelCase word for programs, the text is for people; `retry_after` in seconds, where that helps."""

    def __init__(self, kind: Kind, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.retry_after = retry_after
