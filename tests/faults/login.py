"""Who calls a planner that asks for a login: service accounts with their tokens, and where that planner answers."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import grpc
from google.protobuf.message import Message

from sandbox.environment import Sandbox, _answers_ready
from sandbox.process import free_port
from shared.domain.json_types import Json
from tests.certificates import Files
from tests.contract.kube import Kube
from tests.system.releases import LONGEST


class Accounts:
    """Service accounts in the namespace of `admin`, and what they are bound to there."""

    def __init__(self, admin: Kube) -> None:
        self.admin = admin
        self.core = admin.path("/api/v1/namespaces/{}")
        self.rbac = admin.path("/apis/rbac.authorization.k8s.io/v1/namespaces/{}")

    async def make(self, account: str) -> None:
        await self.admin.made(f"{self.core}/serviceaccounts", {"metadata": {"name": account}})

    async def bind(self, account: str, role: str, kind: str = "ClusterRole") -> None:
        body = {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.admin.namespace}],
        }
        await self.admin.made(f"{self.rbac}/rolebindings", body)

    async def token(self, account: str, **spec: Any) -> str:
        made = await self.admin.made(f"{self.core}/serviceaccounts/{account}/token", {"spec": spec})
        token: str = made["status"]["token"]
        return token


class Said(NamedTuple):
    code: grpc.StatusCode
    text: str = ""
    reason: str = ""


class Planner:
    """One with login and TLS, beside that of the sandbox: where it is, and whom to trust."""

    def __init__(self, files: Files, namespace: str) -> None:
        self._namespace = namespace
        self.rest, self.grpc, self.health = free_port(), free_port(), free_port()
        self._files = files
        self.tls = ssl.create_default_context(cafile=files.chain)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "TRITON_API_AUTH": "kubernetes",
            "TRITON_API_HOST": "127.0.0.1",
            "TRITON_API_PORT": str(self.rest),
            "TRITON_GRPC_PORT": str(self.grpc),
            "TRITON_API_TLS_CERT_FILE": str(self._files.chain),
            "TRITON_API_TLS_KEY_FILE": str(self._files.key),
            "TRITON_HEALTH_PORT": str(self.health),
        }

    @asynccontextmanager
    async def running(self, sandbox: Sandbox, name: str) -> AsyncIterator[None]:
        environment = sandbox.environment_of("planner") | self.settings
        command = [sys.executable, "-m", "cli.main", "planner"]
        await sandbox.run(name, command, _answers_ready(self.health), environment)
        yield
        await sandbox.stop(name)

    def session(self, token: str | None) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        trusting = aiohttp.TCPConnector(ssl=self.tls)
        return aiohttp.ClientSession(f"https://localhost:{self.rest}", headers=headers, connector=trusting)

    async def ask(
        self, token: str | None, method: str, path: str, body: Json | None = None, namespace: str = ""
    ) -> tuple[int, str]:
        """The status, and what the answer says where it is a refusal."""
        url = f"/api/v1/namespaces/{namespace or self._namespace}/{path}"
        async with self.session(token) as session, session.request(method, url, json=body) as response:
            answer: Json = await response.json() if response.status != 204 else {"msg": ""}
            return response.status, answer["msg"]

    async def call(self, token: str | None, method: str, request: Message) -> Said:
        """By gRPC, until the first message of the answer."""
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        credentials = grpc.ssl_channel_credentials(self._files.chain.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{self.grpc}", credentials) as channel:
            # on the wire, one message is a short stream
            ask: Any = channel.unary_stream(f"/{method}")
            call = ask(request.SerializeToString(), metadata=metadata, timeout=LONGEST)
            try:
                await call.read()
            except grpc.aio.AioRpcError as error:
                trailers = dict(error.trailing_metadata() or ())
                return Said(error.code(), error.details() or "", str(trailers.get("triton-reason", "")))
            return Said(grpc.StatusCode.OK)
