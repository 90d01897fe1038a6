"""Makes the Python of the `.proto` files beside this, for `make documents`: `python -m services.planner.api.protos.generate`.

protoc's own imports only work where the folder itself is on the path; they are made those of this package. The names
of the files in their descriptors stay plain, as reflection shows them to clients.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

FOLDER: Final = Path(__file__).parent
_IMPORT = re.compile(r"^import (\w+_pb2) as ", re.MULTILINE)


def generated() -> dict[str, str]:
    """Return the text of each generated file by its name."""
    names = sorted(path.name for path in FOLDER.glob("*.proto"))
    with TemporaryDirectory() as out:
        outs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", *outs, *names]
        subprocess.run(command, check=True)
        return {
            path.name: _IMPORT.sub(rf"from {__package__} import \1 as ", path.read_text())
            for path in sorted(Path(out).iterdir())
        }


if __name__ == "__main__":
    for name, text in generated().items():
        (FOLDER / name).write_text(text)
