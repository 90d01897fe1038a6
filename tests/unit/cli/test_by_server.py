"""`--server`: which server receives the request, and the message where that does not work. One line each."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.domain.json_types import Json


class Server(ThreadingHTTPServer):
    """Answers every request in the same way, and remembers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body: Any = {"items": [], "continue": None}
        self.kind = "application/json"
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def refuses(self, status: int, reason: str, detail: str) -> None:
        self.status, self.kind = status, "application/problem+json"
        self.body = {"type": "about:blank", "title": "", "status": status, "detail": detail, "reason": reason}


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.requests.append((self.command, self.path, dict(self.headers)))
        body = server.body if isinstance(server.body, bytes) else json.dumps(server.body).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def test_requests_to_the_server_carry_the_token(
    server: Server, triton: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    monkeypatch.setenv("TRITON_TOKEN_FILE", str(token))
    monkeypatch.setenv("TRITON_SERVER", f"http://{server.address}")
    assert triton("get", "-n", "shop").err.startswith("no releases in this namespace")
    ((method, path, headers),) = server.requests
    assert (method, path.partition("?")[0]) == ("GET", "/api/v2/namespaces/shop/deployflows")
    assert headers["Authorization"] == "Bearer secret"


def test_a_kubeconfig_that_is_named_goes_before_the_environment(
    server: Server, triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_SERVER", f"http://{server.address}")
    assert "kubeconfig nowhere does not exist" in triton("get", "--kubeconfig", "nowhere").err
    both = triton("get", "--kubeconfig", "nowhere", "--server", "http://127.0.0.1")
    assert (both.code, both.err) == (2, "error: --server and --kubeconfig: use only one of them\n")
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "reason", "detail", "code", "said"),
    [
        (401, "Unauthenticated", "no token", 1, "no token (set TRITON_TOKEN or TRITON_TOKEN_FILE)"),
        (403, "Forbidden", "operator may not create deployflows in shop", 1, None),
        (404, "NoRelease", "web has no release", 1, None),
        (409, "InProgress", "web-2 is releasing web", 1, None),
        (400, "Invalid", "podsToDelete: web has no pod x", 2, "--pod: web has no pod x"),
        (422, "NoPlan", "there is no plan", 2, None),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(
    status: int,
    reason: str,
    detail: str,
    code: int,
    said: str | None,
    server: Server,
    triton: Callable[..., Any],
) -> None:
    server.refuses(status, reason, detail)
    result = triton("restart", "web", "--server", f"http://{server.address}")
    assert (result.code, result.out, result.err) == (code, "", f"error: {said or detail}\n")


def test_what_is_no_triton_is_said(server: Server, triton: Callable[..., Any]) -> None:
    server.status, server.kind, server.body = 404, "text/html", b"<html>"
    result = triton("get", "--server", f"http://{server.address}/shop/")
    assert result.code == 2
    assert result.err == (
        f"error: http://{server.address}/shop is not Triton's REST API: "
        "it answered GET /shop/api/v2/namespaces/default/deployflows with 404\n"
    )


@pytest.mark.parametrize("command", [["get"], ["stop", "web"], ["log", "web"], ["plan", "-f", "FILE"]])
def test_a_server_that_is_away_is_named(
    command: list[str], triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_client.policy.FIRST_SECONDS", 0.001)
    with Server() as free:
        address = free.address
    example = str(Path(__file__).parents[3] / "examples" / "web-create.yaml")
    arguments = [example if argument == "FILE" else argument for argument in command]
    result = triton(*arguments, "--server", f"http://{address}")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"Triton at http://{address} does not answer" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "triton:8088"], "'triton:8088' is no URL of a server: use one like https://"),
        (["--server", "https://127.0.0.1:1", "--ca-file", "nowhere"], "CA file nowhere can't be used"),
    ],
)
def test_what_can_not_be_meant_is_refused(options: list[str], said: str, triton: Callable[..., Any]) -> None:
    result = triton("get", *options)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err


def test_a_token_file_that_is_not_there_is_named(
    server: Server, triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_TOKEN_FILE", "nowhere")
    result = triton("get", "--server", f"http://{server.address}")
    assert (result.code, result.err.count("\n"), server.requests) == (2, 1, [])
    assert "token file nowhere can't be read" in result.err


def test_a_certificate_counts_once_its_issuer_is_named(
    server: Server, triton: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-noenc")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *names]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    url = f"https://{server.address}"
    result = triton("get", "--server", url)
    assert (result.code, result.err.count("\n"), server.requests) == (1, 1, [])
    assert f"the certificate of {url} is not trusted (self-signed certificate)" in result.err
    assert "--ca-file" in result.err
    assert triton("get", "--server", url, "--ca-file", str(chain)).code == 0
    monkeypatch.setenv("TRITON_SERVER_CA_FILE", str(chain))
    assert triton("get", "--server", url).code == 0


FLOW: Json = {
    "apiVersion": "apps.triton.io/v1alpha1",
    "kind": "DeployFlow",
    "metadata": {"name": "web-1"},
    "spec": {
        "action": "stop",
        "application": {"appID": 1, "groupID": 2, "appName": "web", "instanceName": "web"},
    },
}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
            "only DeployFlows can be sent to a server",
        ),
        (
            {**FLOW, "metadata": {"name": "a", "labels": {"team": "x"}}},
            "metadata.labels: team can't be sent to",
        ),
        (
            {**FLOW, "metadata": {"name": "a", "annotations": {"n": ""}}},
            "metadata.annotations: n can't be sent to",
        ),
    ],
)
def test_what_can_not_go_by_a_server_is_said_before_anything_is_sent(
    other: Json, said: str, server: Server, triton: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(f"{json.dumps(FLOW)}\n---\n{json.dumps(other)}")
    result = triton("apply", "-f", str(file), "--server", f"http://{server.address}")
    assert (result.code, result.err.count("\n"), server.requests) == (2, 1, [])
    assert f"{file}, document 2" in result.err
    assert said in result.err


def test_a_release_that_there_is_takes_another_strategy_alone(
    server: Server, triton: Callable[..., Any], tmp_path: Path
) -> None:
    server.body = FLOW
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps({**FLOW, "spec": {**FLOW["spec"], "action": "start"}}))
    result = triton("apply", "-f", str(file), "--server", f"http://{server.address}")
    assert result.code == 2
    assert "spec.action: web-1 exists already, and this field can't change" in result.err
    assert [method for method, *_ in server.requests] == ["GET"]


def test_the_definition_is_not_put_into_another_cluster_than_the_servers(
    triton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_SERVER", "http://127.0.0.1:1")
    result = triton("crd", "--install")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "a server can't install the definition" in result.err
    assert "kubeconfig nowhere does not exist" in triton("crd", "--install", "--kubeconfig", "nowhere").err
