"""The certificate of REST and gRPC, from files that somebody else renews."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any, Final

import grpc

from shared.errors import ConfigError

CHECK_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)

_Pair = tuple[bytes, bytes]


class Certificate:
    """Certificate chain and key, as PEM. When the files change, open connections stay as they are, and new ones get the new
    pair. One that can't be used is logged, and the pair from before is kept.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        """Load the pair; raises `ConfigError`."""
        self._chain, self._key = chain, key
        self._pair, self._newest = self._load()
        self._reported = ""
        _, self.context = self._load()
        """For a server that takes an `ssl.SSLContext`, such as uvicorn."""
        self.context.sni_callback = self._present

    def grpc(self) -> grpc.ServerCredentials:
        """Return credentials for a server of grpc."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)

    async def follow(self, *, seconds: float = CHECK_SECONDS) -> None:
        """Check the files every so many seconds, without end."""
        while True:
            await asyncio.sleep(seconds)
            self._reload_if_changed()

    def _reload_if_changed(self) -> None:
        try:
            if self._read() == self._pair:
                self._reported = ""
                return
            self._pair, self._newest = self._load()
        except ConfigError as error:
            if str(error) != self._reported:
                _log.error("%s; the certificate from before is kept", error)
            self._reported = str(error)
        else:
            self._reported = ""
            _log.info("the certificate in %s is new: it is used from now on", self._chain)

    def _read(self) -> _Pair:
        try:
            return self._chain.read_bytes(), self._key.read_bytes()
        except OSError as error:
            msg = f"certificate and key can't be read: {error}"
            raise ConfigError(msg) from error

    def _load(self) -> tuple[_Pair, ssl.SSLContext]:
        pair = self._read()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # without a password: OpenSSL would ask for one on the terminal
            context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:
            msg = f"certificate {self._chain} and key {self._key} can't be used: {error}"
            raise ConfigError(msg) from error
        if pair != self._read():
            msg = f"certificate {self._chain} and key {self._key} change just now"
            raise ConfigError(msg)
        return pair, context

    def _present(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # at the begin of each handshake: one whole pair, where loading a new one into a context in use is two steps
        connection.context = self._newest

    def _configuration(self) -> Any:
        chain, key = self._pair
        return grpc.ssl_server_certificate_configuration([(key, chain)])
