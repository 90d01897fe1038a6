"""Counts requests by client, so that a test or benchmark can ask what a program costs its API server."""

from __future__ import annotations

from collections import Counter

SERIES = 2_000
"""Distinct (verb, resource, client) combinations kept apart; what comes after is counted as `other`."""


class Audit:
    """Request counts in Prometheus' text format."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, int]] = Counter()

    def count(self, verb: str, resource: str, client: str, code: int) -> None:
        key = (verb, resource, client[:120], code)
        if key not in self._counts and len(self._counts) >= SERIES:
            key = (verb, "other", "other", code)
        self._counts[key] += 1

    def text(self) -> str:
        name = "sandbox_apiserver_requests_total"
        lines = [
            f"# HELP {name} Requests by verb, resource, client (User-Agent) and code.",
            f"# TYPE {name} counter",
        ]
        for (verb, resource, client, code), number in sorted(self._counts.items()):
            quoted = client.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
            lines.append(
                f'{name}{{verb="{verb}",resource="{resource}",client="{quoted}",code="{code}"}} {number}'
            )
        return "\n".join(lines) + "\n"
