"""What the parts of a sandbox logged last, beside the report of a test that failed."""

from __future__ import annotations

import pytest

from sandbox.environment import Sandbox

LINES = 6
"""Of each part."""


def add_logs(item: pytest.Item, report: pytest.TestReport) -> None:
    sandbox = getattr(item, "funcargs", {}).get("sandbox")
    if report.failed and isinstance(sandbox, Sandbox):
        logs = sorted((sandbox.state / "logs").glob("*.log"))
        lines = [
            f"{log.stem}: {line[:300]}" for log in logs for line in _last(log.read_text(errors="replace"))
        ]
        report.sections.append((f"the last lines of the logs in {sandbox.state}", "\n".join(lines)))


def _last(text: str) -> list[str]:
    return text.splitlines()[-LINES:]
