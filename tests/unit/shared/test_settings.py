"""Where the planner's APIs listen, and with which certificate: what does not go together stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import ConfigError
from shared.event_store import open_store
from shared.settings import Settings, unfit
from shared.status_store import StatusStore


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


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("EVENT_STORE", f"https//me:{SECRET}@elastic:9200"),
        ("EVENT_STORE", f"https://me:{SECRET}@elastic:port"),
        ("EVENT_STORE", f"https://me:{SECRET}/@elastic:9200"),
        ("EVENT_STORE", f"ftp://me:{SECRET}@elastic:9200"),
        ("REDIS_URL", f"redis//:{SECRET}@redis:6379"),
        ("REDIS_URL", f"redis://:{SECRET}/+@redis:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}#@redis:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}@redis:99999/0"),
        ("REDIS_URL", f"rediss:{SECRET}@redis"),
        ("KAFKA_BOOTSTRAP", f"me:{SECRET}@kafka:9092"),
        ("KAFKA_BOOTSTRAP", f"SASL_SSL://me:{SECRET}@kafka:9092"),
        ("TRACES", f"collector://me:{SECRET}@collector"),
        ("TRACES", f"https://me:{SECRET}@collector:port"),
        ("KAFKA_PARTITIONS", f"redis://:{SECRET}@redis:6379/0"),
    ],
)
def test_an_unfit_setting_is_named_without_its_login(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(monkeypatch, **{setting: value})
    assert f"TRITON_{setting}: " in said
    assert SECRET not in said
    assert value.rpartition("@")[2] in said


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("redis_url", "redis://:p%2Fss@redis:6379/0"),
        ("redis_url", "rediss://me:p@ss@redis:6379/0?socket_timeout=3"),
        ("redis_url", "unix://me:pw@/run/redis.sock?db=0"),
        ("event_store", "https://me:pw@one:9200, https://me:pw@two:9200"),
        ("kafka_bootstrap", "kafka:9092,[::1]:9092"),
        ("traces", "https://me:pw@collector:4318/v1/traces"),
    ],
)
def test_an_address_with_a_login_is_taken(setting: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TRITON_{setting.upper()}", value)
    assert getattr(Settings(), setting) == value


def test_a_long_value_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(refused(monkeypatch, API_PORT="9" * 100_000)) < 400


def test_an_option_that_redis_refuses_is_no_fault_of_triton() -> None:
    with pytest.raises(ConfigError, match=r"redis:6379/0") as error:
        StatusStore(f"redis://:{SECRET}@redis:6379/0?socket_timeout=soon", "triton")
    assert SECRET not in str(error.value)


def test_an_elasticsearch_that_its_client_refuses_is_no_fault_of_triton() -> None:
    with pytest.raises(ConfigError, match="http://elastic") as error:
        open_store(Settings(event_store=f"http://me:{SECRET}@elastic"))
    assert SECRET not in str(error.value)
