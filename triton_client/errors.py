"""The errors that the client raises."""

from __future__ import annotations


class TritonError(Exception):
    """The server refused a call, or could not be reached.

    `status` is the HTTP status, 0 without an answer; `reason` is one CamelCase word for programs; `detail`, the text of
    the exception, is for people.
    """

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class ConfigError(Exception):
    """An option of the client, or a file that it names, can't be used."""
