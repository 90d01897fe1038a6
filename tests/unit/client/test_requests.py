"""What both clients send, when they ask again, and what they make of what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.domain.json_types import Json
from triton_client import AsyncTriton, ConfigError, DeployFlow, Event, Triton, TritonError

URL = "http://triton.test"
FLOW: Json = {
    "metadata": {"name": "web-2", "namespace": "shop"},
    "spec": {
        "action": "restart",
        "application": {"appID": 1, "groupID": 2, "appName": "w", "instanceName": "web"},
    },
    "status": {"phase": "Pending", "newInTheNextVersion": True},
}
Answers = Callable[[httpx.Request], httpx.Response]


class Server:
    """A server with prepared answers that keeps the requests that it received."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response | Exception] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def says(self, *answers: httpx.Response | Exception) -> None:
        self.answers = [*answers]


class Both:
    """Does the same with one client or the other."""

    def __init__(self, kind: type[Triton | AsyncTriton], server: Server, slept: list[float]) -> None:
        self._kind = kind
        self._server = server
        self.slept = slept

    def __call__(self, what: Callable[[Any], Any], **options: Any) -> Any:
        """What the call, or each of its stream, gives."""
        client = self._kind(URL, **options)
        transport = httpx.MockTransport(self._server)
        if isinstance(client, Triton):
            with client:
                client._http = httpx.Client(transport=transport)
                got = what(client)
                return list(got) if inspect.isgenerator(got) else got
        return asyncio.run(_soon(client, transport, what))


async def _soon(client: AsyncTriton, transport: httpx.MockTransport, what: Callable[[Any], Any]) -> Any:
    async with client:
        client._http = httpx.AsyncClient(transport=transport)
        got = what(client)
        return [item async for item in got] if inspect.isasyncgen(got) else await got


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=[Triton, AsyncTriton])
def both(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Both:
    slept: list[float] = []

    async def soon(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("triton_client.clients.time.sleep", slept.append)
    monkeypatch.setattr("triton_client.clients.asyncio.sleep", soon)
    return Both(request.param, server, slept)


def ok(body: Any = FLOW, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=body, headers=headers)


def problem(status: int, reason: str, detail: str, **headers: str) -> httpx.Response:
    body = {"type": "about:blank", "title": "", "status": status, "detail": detail, "reason": reason}
    return httpx.Response(
        status, content=json.dumps(body), headers={"Content-Type": "application/problem+json", **headers}
    )


def test_a_release_is_typed_and_keeps_what_a_newer_server_says(both: Both, server: Server) -> None:
    server.says(ok(ETag='"7"'))
    flow: DeployFlow = both(lambda client: client.deployflow("web-2"), namespace="shop")
    assert (flow.name, flow.instance, flow.etag) == ("web-2", "web", '"7"')
    assert (flow.status.phase, flow.spec.action) == ("Pending", "restart")
    assert flow.resource["status"]["newInTheNextVersion"] is True
    (sent,) = server.requests
    assert (sent.method, str(sent.url)) == ("GET", f"{URL}/api/v2/namespaces/shop/deployflows/web-2")


def test_a_request_names_its_sender_and_the_version_that_it_expects(both: Both, server: Server) -> None:
    server.says(ok())
    both(
        lambda client: client.using(namespace="a", requested_by="jörg", request_id="42").cancel(
            "web/2", if_match='"7"'
        ),
        token="secret",
    )
    (sent,) = server.requests
    assert sent.url.raw_path == b"/api/v2/namespaces/a/deployflows/web%2F2/cancel"
    assert sent.headers["Authorization"] == "Bearer secret"
    assert sent.headers["If-Match"] == '"7"'
    assert sent.headers["Idempotency-Key"] == "42"
    assert dict(sent.headers.raw)[b"X-Requested-By"] == "jörg".encode()


def test_a_token_in_a_file_is_read_again(both: Both, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    server.says(httpx.Response(503), ok())
    first = server.__class__.__call__

    def exchanged(request: httpx.Request) -> httpx.Response:
        file.write_text("second\n")
        return first(server, request)

    both._server = exchanged  # type: ignore[assignment]
    both(lambda client: client.deployflow("web-2"), token_file=file)
    assert [sent.headers["Authorization"] for sent in server.requests] == ["Bearer first", "Bearer second"]


def test_a_change_is_requested_again_as_the_same_one(both: Both, server: Server) -> None:
    server.says(
        problem(429, "TooManyRequests", "slow down", **{"Retry-After": "3"}),
        problem(503, "Unavailable", "Redis is away"),
        httpx.ReadError("broken"),
        ok(),
    )
    both(lambda client: client.pause("web-2"))
    keys = {sent.headers["Idempotency-Key"] for sent in server.requests}
    assert (len(server.requests), len(keys)) == (4, 1)
    assert both.slept == [3, 0.4, 0.8]
    server.says(ok())
    both(lambda client: client.pause("web-2"))
    assert server.requests[-1].headers["Idempotency-Key"] not in keys


@pytest.mark.parametrize(
    ("answer", "status", "reason", "detail"),
    [
        (lambda: problem(403, "Forbidden", "operator may not patch"), 403, "Forbidden", "operator may not patch"),
        (lambda: problem(409, "InProgress", "web-1 runs"), 409, "InProgress", "web-1 runs"),
        (lambda: httpx.Response(404, text="<html>"), 404, "NotTriton", f"{URL} is not Triton's REST API"),
        (lambda: httpx.Response(200, html="<html>"), 200, "NotTriton", "with 200"),
        (lambda: httpx.Response(302, headers={"Location": "/x"}), 302, "NotTriton", "with 302"),
        (lambda: httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"), 0, "UnknownIssuer", "(self-signed certificate)"),
    ],
)  # fmt: skip
def test_what_is_refused_is_not_requested_again(
    answer: Callable[[], httpx.Response | Exception],
    status: int,
    reason: str,
    detail: str,
    both: Both,
    server: Server,
) -> None:
    server.says(answer())
    with pytest.raises(TritonError) as caught:
        both(lambda client: client.retry("web-2"))
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert detail in caught.value.detail


def test_a_server_that_stays_away_is_abandoned(both: Both, server: Server) -> None:
    server.says(*(httpx.ConnectError("refused") for _ in range(3)))
    with pytest.raises(
        TritonError, match=r"Triton at http://triton\.test does not answer: refused"
    ) as caught:
        both(lambda client: client.instances(), retries=2)
    assert (caught.value.status, caught.value.reason) == (0, "Unavailable")


def test_the_login_of_a_server_is_in_no_error(server: Server) -> None:
    server.says(httpx.ConnectError("refused"), httpx.Response(404, content=b"nginx"))
    for pattern in (
        r"Triton at http://triton\.test does not answer",
        r"^http://triton\.test is not Triton's",
    ):
        client = Triton("http://me:s3cret@triton.test", retries=0)
        client._http = httpx.Client(transport=httpx.MockTransport(server))
        with pytest.raises(TritonError, match=pattern) as caught:
            client.instances()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError) as refused:
        Triton("ftp://me:s3cret@triton.test")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("token", ["s3cret\nX-More: 1", "s3cret s3cret", "s3crét", "s3cret\x00"])
def test_a_token_that_no_header_can_have_is_not_shown(both: Both, token: str) -> None:
    with pytest.raises(ConfigError, match="token") as refused:
        both(lambda client: client.instances(), token=token)
    assert "s3cr" not in str(refused.value)


@pytest.mark.parametrize("url", ["triton.test", "ftp://triton.test", "http://", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL of a server"):
        Triton(url)


def test_a_ca_file_without_certificates_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none.pem", Path(__file__)):
        with pytest.raises(ConfigError, match=r"CA file .*(none|test_requests)"):
            Triton("https://triton.test", ca_file=file)


# --- streams ---


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """What a stream brings before it breaks."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx.ReadError("broken")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        raise httpx.ReadError("broken")


def stream(*parts: bytes, breaks: bool = False) -> httpx.Response:
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    if breaks:
        return httpx.Response(200, headers=headers, stream=Broken(*parts))
    return httpx.Response(200, headers=headers, content=b"".join(parts))


END = b"event: end\ndata: {}\n\n"


def test_events_go_on_behind_the_last_one_however_often_it_breaks(both: Both, server: Server) -> None:
    server.says(
        stream(b':\n\nid: 4\ndata: {"n": 1}\n', b"\nid: 5\nda", breaks=True),
        httpx.ConnectError("refused"),
        problem(503, "Busy", "too many"),
        stream('id: 6\r\ndata: {"n": "a\u2028b"}\r\n\r\n'.encode()),
        stream(END),
    )
    assert both(lambda client: client.events("web-2")) == [
        Event("4", {"n": 1}),
        Event("6", {"n": "a\u2028b"}),
    ]
    assert [sent.headers.get("Last-Event-ID") for sent in server.requests] == [None, "4", "4", "4", "6"]


def test_events_can_be_resumed_by_another_program(both: Both, server: Server) -> None:
    server.says(stream(END))
    assert both(lambda client: client.events("web-2", after="41")) == []
    assert server.requests[0].headers["Last-Event-ID"] == "41"


def test_a_watch_that_breaks_shows_each_state_once(both: Both, server: Server) -> None:
    def state(phase: str) -> bytes:
        return b"data: " + json.dumps({**FLOW, "status": {"phase": phase}}).encode() + b"\n\n"

    server.says(
        stream(state("Pending"), state("BatchStarted"), breaks=True),
        stream(state("BatchStarted"), state("Success"), END, state("Failed")),
    )
    seen = [flow.status.phase for flow in both(lambda client: client.watch("web-2"))]
    assert seen == ["Pending", "BatchStarted", "Success"]


def test_a_release_that_is_deleted_meanwhile_ends_the_watch(both: Both, server: Server) -> None:
    gone = problem(404, "NotFound", "there is none")
    server.says(stream(b"data: " + json.dumps(FLOW).encode() + b"\n\n"), gone)
    assert len(both(lambda client: client.watch("web-2"))) == 1
    server.says(gone)
    with pytest.raises(TritonError, match="there is none"):
        both(lambda client: client.watch("web-2"))


def test_a_stream_that_never_began_is_abandoned(both: Both, server: Server) -> None:
    server.says(*(httpx.ConnectError("refused") for _ in range(3)))
    with pytest.raises(TritonError, match="does not answer"):
        both(lambda client: client.events("web-2"), retries=2)
