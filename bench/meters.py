"""What a release costs: requests by client as the API server counted them, CPU and memory from /proc."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SERIES: Final = re.compile(
    r'^sandbox_apiserver_requests_total\{verb="(?P<verb>[^"]*)",resource="(?P<resource>[^"]*)",'
    r'client="(?P<client>(?:[^"\\]|\\.)*)",code="(?P<code>\d+)"\} (?P<count>\d+)$',
    re.MULTILINE,
)


class Request(NamedTuple):
    """A kind of request: who asks (User-Agent), what for, and what was answered."""

    client: str
    verb: str
    resource: str
    code: str


def requests_in(metrics: str) -> Counter[Request]:
    """The counts in the sandbox API server's `/metrics`."""
    return Counter(
        {
            Request(found["client"], found["verb"], found["resource"], found["code"]): int(found["count"])
            for found in _SERIES.finditer(metrics)
        }
    )


def requests_of(audit: Iterable[str]) -> Counter[Request]:
    """The counts in a kube-apiserver's audit log, one JSON event a line."""
    counts: Counter[Request] = Counter()
    for line in audit:
        event = json.loads(line)
        about = event.get("objectRef") or {}
        resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource"))))
        code = str((event.get("responseStatus") or {}).get("code", ""))
        counts[Request(event.get("userAgent", ""), event["verb"], resource, code)] += 1
    return counts


class Usage(NamedTuple):
    """CPU seconds (user and system) of a process so far, and the most memory (RSS, bytes) it has had."""

    cpu_seconds: float
    peak_bytes: int


def usage(pid: int) -> Usage:
    """Raises `OSError` when the process is gone."""
    # the name, in brackets, may hold spaces: what follows the last bracket has fixed places
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu, memory(pid, "VmHWM"))


def memory(pid: int, field: str) -> int:
    """`VmRSS` or `VmHWM` of a process in bytes; 0 for one that ends just now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def cpu_between(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    return {name: after[name].cpu_seconds - usage.cpu_seconds for name, usage in before.items()}
