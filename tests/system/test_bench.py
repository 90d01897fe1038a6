"""The benchmark runs, prints every part of its result, and its picture can be drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]


def test_a_workload_is_measured_against_its_floor_and_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "bench/release.py", "--sandbox", "W1", "--runs", "1", "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (run,) = result["workloads"]["W1"]["runs"]
    sides = run["sides"]
    assert run["ratio"] == sides["triton"]["seconds"] / sides["floor"]["seconds"]
    assert all(sides[side]["requests_per_pod"] for side in ("floor", "triton"))
    assert {target["what"] for target in result["targets"]} == {"W1: Triton ÷ floor", "sandbox ready"}

    file = tmp_path / "result.json"
    file.write_text(done.stdout)
    drawn = subprocess.run(
        [sys.executable, "bench/picture.py", str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts = [element.text or "" for element in ET.fromstring(drawn.stdout).iter()]
    assert any("W1" in text for text in texts)
    assert "Triton" in texts
