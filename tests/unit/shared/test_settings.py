"""Where the planner's APIs listen, and with which certificate: what does not go together stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import Settings, unfit


def refused(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    for name, value in settings.items():
        monkeypatch.setenv(f"TRITON_{name}", value)
    with pytest.raises(ValidationError) as error:
        Settings()
    return unfit(error.value)


@pytest.mark.parametrize(
    ("auth", "host", "listens"),
    [
        ("", "", "127.0.0.1"),
        ("none", "", "127.0.0.1"),
        ("none", "localhost", "localhost"),
        ("none", "127.0.0.2", "127.0.0.2"),
        ("none", "::1", "::1"),
        ("kubernetes", "", "0.0.0.0"),
        ("kubernetes", "10.1.2.3", "10.1.2.3"),
        ("kubernetes", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_without_a_login_only_this_machine_may_call(
    auth: str, host: str, listens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if auth:
        monkeypatch.setenv("TRITON_API_AUTH", auth)
    monkeypatch.setenv("TRITON_API_HOST", host)
    assert Settings().api_host == listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "triton.example", "127.0.0.1.example"])
def test_without_a_login_another_address_stops_the_start(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, API_HOST=host)
    assert said == (
        "TRITON_API_HOST: without a login only this machine may call: set TRITON_API_AUTH=kubernetes "
        f"(received: '{host}')"
    )


def test_an_unknown_login_is_the_only_problem_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, API_AUTH="oidc", API_HOST="10.1.2.3")
    assert said.startswith("TRITON_API_AUTH: ")
    assert "TRITON_API_HOST" not in said


@pytest.mark.parametrize("setting", ["API_TLS_CERT_FILE", "API_TLS_KEY_FILE"])
def test_certificate_and_key_go_together(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, **{setting: "/tls/file"})
    assert said.startswith("TRITON_API_TLS_KEY_FILE: certificate and key go together")


def test_both_of_them_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_API_TLS_CERT_FILE", "/tls/tls.crt")
    monkeypatch.setenv("TRITON_API_TLS_KEY_FILE", "/tls/tls.key")
    settings = Settings()
    assert (settings.api_tls_cert_file, settings.api_tls_key_file) == (
        Path("/tls/tls.crt"),
        Path("/tls/tls.key"),
    )
