"""Did a suite run the same cases on the sandbox and on the real parts? A skipped case has not run."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def ran(report: Path) -> set[str]:
    """The cases of a JUnit report that were run, failed ones too."""
    try:
        root = ET.parse(report).getroot()
    except (OSError, ET.ParseError):
        return set()
    return {
        f"{case.get('classname')}::{case.get('name')}"
        for case in root.iter("testcase")
        if case.find("skipped") is None
    }


def compare(suite: str, sandbox: set[str], real: set[str]) -> tuple[str, bool]:
    """What to print, and whether all is well."""
    lines = [f"== suite {suite}: {len(sandbox)} cases ran on the sandbox, {len(real)} on the real parts"]
    lines += [f"error: ran on the sandbox only: {case}" for case in sorted(sandbox - real)]
    lines += [f"error: ran on the real parts only: {case}" for case in sorted(real - sandbox)]
    return "\n".join(lines), sandbox == real


if __name__ == "__main__":
    suite, sandbox, *real = sys.argv[1:]
    text, same = compare(suite, ran(Path(sandbox)), set().union(*(ran(Path(report)) for report in real)))
    print(text)
    sys.exit(0 if same else 1)
