"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple, Self

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
_NAMES: Final = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")


class Files(NamedTuple):
    chain: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> Self:
        files = cls(folder / "tls.crt", folder / "tls.key")
        files.renew()
        return files

    def renew(self) -> bytes:
        """A new pair for this machine, which trusts itself; the certificate, as PEM."""
        command = ["openssl", "req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=localhost", *_NAMES]
        subprocess.run(
            [*command, "-keyout", str(self.key), "-out", str(self.chain)], check=True, capture_output=True
        )
        return self.chain.read_bytes()
