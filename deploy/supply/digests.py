"""Read the digest of each base and compose image from its registry, for a release.

`deploy/Dockerfile` and `docker-compose.yml` name images by tags, which may be moved. Behind each tag is a variable,
empty by default, that a release fills: `python:3.13-slim${PYTHON_DIGEST}`. This writes the values as an env file, once
there is an answer for every image, and nothing before that: a digest is never written that was not read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ("deploy/Dockerfile", "docker-compose.yml")
_IMAGE: Final = re.compile(r"^\s*(?:FROM|image:)\s+([\w./-]+:[\w.-]+)\$\{(\w+_DIGEST)(?::-)?\}", re.MULTILINE)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class NoDigestError(Exception):
    """The digest of an image could not be read."""


def images(*texts: str) -> dict[str, str]:
    """Return the image behind each variable of these files."""
    return {variable: image for text in texts for image, variable in _IMAGE.findall(text)}


def digest_of(image: str) -> str:
    """Return the digest of an image in its registry: that of the index, if it is for several platforms.

    Raises NoDigestError if docker, its buildx or the registry does not answer with one.
    """
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", image]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        digest = str(json.loads(done.stdout)["digest"])
    except subprocess.CalledProcessError as error:
        reason = next(iter(str(error.stderr).strip().splitlines()), f"docker ended with {error.returncode}")
        raise NoDigestError(f"{image}: {reason}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise NoDigestError(f"{image}: {error!r}") from error
    if not _DIGEST.fullmatch(digest):
        raise NoDigestError(f"{image}: not a digest: {digest!r}")
    return digest


def main(path: Path) -> int:
    """Write a line for each variable, `NAME=@sha256:…`, to the file at this path, and return the exit code."""
    wanted = images(*((ROOT / name).read_text() for name in FILES))
    try:
        digests = {variable: digest_of(image) for variable, image in sorted(wanted.items())}
    except NoDigestError as error:
        print(f"error: nothing is written to {path}: no digest was read for {error}", file=sys.stderr)
        return 1
    lines = [f"# {wanted[variable]}\n{variable}=@{digest}\n" for variable, digest in digests.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    print(f"{path}: the digests of {len(digests)} images")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
