"""What a requirements file pins."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from deploy.supply.pins import Pin, pins_of, read_pins

ROOT: Final = Path(__file__).parents[3]
A, B = "a" * 64, "b" * 64


def test_names_versions_hashes_and_markers_are_read() -> None:
    text = (
        f"Typing.Extensions==4.16.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n    # via -r some.in\n"
        f"colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:{A}\n    # via click\n"
        f"redis[hiredis]==8.0 \\\n    --hash=sha256:{B}\n"
    )
    assert read_pins(text) == {
        "typing-extensions": Pin("typing-extensions", "4.16.0", frozenset({A, B}), everywhere=True),
        "colorama": Pin("colorama", "0.4.6", frozenset({A}), everywhere=False),
        "redis": Pin("redis", "8.0", frozenset({B}), everywhere=True),
    }


@pytest.mark.parametrize(
    "line", ["redis>=8\n", "redis==8.0\n", "redis\n", "redis==8.0 \\\n    --hash=md5:12\n"]
)
def test_what_is_not_pinned_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned with a version and hashes: redis"):
        read_pins(f"{line}rich==15.0 \\\n    --hash=sha256:{A}\n")


@pytest.mark.parametrize("name", ["runtime", "build", "dev", "supply"])
def test_our_own_files_are_pinned_and_name_no_place_to_install_from(name: str) -> None:
    path = ROOT / "requirements" / f"{name}.txt"
    assert pins_of(path)
    text = path.read_text()
    assert "://" not in text
    assert "--find-links" not in text
    assert "index-url" not in text
