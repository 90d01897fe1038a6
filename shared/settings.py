"""Settings of every process, from the environment: `TRITON_…`. A value that does not fit stops the start."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.domain import freeze_windows, reply_topics
from shared.domain.freeze_windows import FreezeWindow
from shared.domain.problem_words import in_words
from shared.domain.safe_text import shortened, visible, without_login

_ENCODED: Final = "characters like / ? # @ of a user or password as %2F %3F %23 %40"

Network = IPv4Network | IPv6Network
ReplyTopic = Annotated[str, StringConstraints(pattern=f"^{reply_topics.PATTERN}$")]


class Settings(BaseSettings):
    """The configuration of a service. Times are in the unit that the name says."""

    model_config = SettingsConfigDict(env_prefix="TRITON_", extra="ignore")

    prefix: str = Field("triton", pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Begins every topic, consumer group, Redis key and index name."""
    namespaces: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """The namespaces that Triton manages, comma-separated; empty: every namespace."""
    cluster_name: str = ""
    """The name of the cluster in the release log, for several clusters in one Elasticsearch."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    kafka_bootstrap: str = "127.0.0.1:9092"
    kafka_partitions: int = Field(12, ge=1)
    """The partitions of each flow topic when Triton creates it; the number that a topic has already is kept."""
    kafka_replication: int = Field(0, ge=0)
    """The replicas of the topics that Triton creates; 0: as many as there are brokers, at most 3."""
    kafka_fetch_max_wait_ms: int = Field(500, ge=1)
    kafka_session_timeout_ms: int = Field(10_000, ge=1000)
    """How long Kafka waits for a sign of life before a replica's partitions go to others."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_ca_file: Path | None = None
    kafka_cert_file: Path | None = None
    kafka_key_file: Path | None = None

    redis_url: str = "redis://127.0.0.1:6379/0"
    """`rediss://` for TLS; user and password belong into it or into a Secret that makes it."""
    redis_finished_ttl_seconds: int = Field(86_400, ge=60)
    """How long Redis keeps an instance without an unfinished flow."""

    event_store: str = Field(
        "http://127.0.0.1:9200", pattern=r"^(sqlite:///.+|https?://[^,\s]+(\s*,\s*https?://[^,\s]+)*)$"
    )
    """`http(s)://…` is Elasticsearch, with one or more hosts, comma-separated; `sqlite:///path` the
    sandbox's store."""
    elasticsearch_api_key: SecretStr = SecretStr("")
    elasticsearch_username: str = ""
    elasticsearch_password: SecretStr = SecretStr("")
    elasticsearch_ca_file: Path | None = None
    elasticsearch_lifecycle: Literal["dsl", "ilm", "none"] = "dsl"
    """The mechanism that deletes old events: the data streams themselves, a policy of ILM, or none."""
    elasticsearch_retention_days: int = Field(0, ge=0)
    """How long events are kept at least; 0: for ever."""
    elasticsearch_ilm_policy: str = ""
    """A policy that is there; empty: one of Triton's own."""

    kubeconfig: Path | None = None
    """Default: the service account of the pod, else KUBECONFIG, else ~/.kube/config."""
    kube_requests_per_second: float = Field(400, gt=0)
    """The client-side limit of each service; bursts of as many are let through."""
    status_writes_per_second: float = Field(10, gt=0)
    """The rate at which each planner writes less urgent changes of `.status`: phases in passing, counts."""
    revision_history_limit: int = Field(20, ge=0)
    """How many finished releases of an instance are kept, where the instance sets no limit."""
    watch_silence_seconds: float = Field(90, gt=0)
    """A watch without event or bookmark for so long counts as dead: a fresh list follows."""

    traces: str = Field("", pattern=r"^(https?://.+)?$")
    """An OpenTelemetry collector (OTLP over HTTP) that receives a trace of each release; empty: none."""

    health_host: str = "127.0.0.1"
    health_port: int = Field(0, ge=0, le=65535)
    """`/healthz`, `/readyz` and `/metrics`; 0: any free port."""

    api_auth: Literal["none", "kubernetes"] = "none"
    """`kubernetes`: bearer tokens of the cluster and its RBAC; `none`: everybody may do everything."""
    api_host: str = Field("", validate_default=True)
    """The address on which REST and gRPC listen; empty: everywhere with a login, on this machine alone without one."""
    api_port: int = Field(8088, ge=0, le=65535)
    """REST; 0: any free port."""
    grpc_port: int = Field(8099, ge=0, le=65535)
    """gRPC; 0: any free port."""
    api_auth_cache_seconds: float = Field(10, ge=0)
    """How long an answer of the cluster about a token or a right is believed."""
    api_tls_cert_file: Path | None = None
    api_tls_key_file: Path | None = Field(None, validate_default=True)
    """Certificate chain and key of REST and gRPC, as PEM; read again when they change."""
    api_requests_per_second: float = Field(200, gt=0)
    """The limit of each caller, at each replica; bursts of one second's worth are let through."""
    api_body_bytes: int = Field(1_048_576, ge=1024)
    """The largest request."""
    api_connections: int = Field(5_500, ge=10)
    """Open connections to REST, and as many to gRPC; fewer where the process may open fewer files."""
    api_connections_per_caller: int = Field(500, ge=1)
    """The connections to REST of one address; behind a trusted proxy, its requests in progress."""
    api_streams_per_caller: int = Field(500, ge=1)
    """The open streams of one account, else address, REST and gRPC together, at each replica."""
    api_trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = (
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    """The addresses or networks of proxies whose `X-Forwarded-For` names the caller, comma-separated."""

    phase_coalesce_ms: int = Field(20, ge=0)
    """Pod facts of one instance within this time travel in one message; of a large one within a little longer."""
    graceful_shutdown: bool = False
    """Containers without a `preStop` get one that calls `/gracefully_shutdown`, where the template says nothing of it."""
    resend_seconds: float = Field(10, gt=0)
    """How long the planner waits for an answer before it sends the same command again."""
    freeze_windows: Annotated[tuple[FreezeWindow, ...], NoDecode] = ()
    """The windows in which new releases are held back, beside what the annotations of Namespaces say: a JSON list."""
    reply_topics: Annotated[tuple[ReplyTopic, ...], NoDecode] = reply_topics.DEFAULT
    """The topics on which deploy commands may be answered, comma-separated; `*` is any text. Empty: none."""

    @field_validator("namespaces", "reply_topics", "api_trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
        )

    @field_validator("freeze_windows", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        windows, problems = freeze_windows.read(value)
        if problems:
            raise ValueError("; ".join(problems))
        return windows

    @field_validator("kafka_bootstrap")
    @classmethod
    def _brokers(cls, value: str) -> str:
        if "@" in value or "://" in value:
            raise ValueError(
                "needs host:port, several comma-separated: user and password are TRITON_KAFKA_USERNAME and …_PASSWORD"
            )
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: str) -> str:
        if not url.startswith("unix://") and not _is_url(url, {"redis", "rediss"}):
            raise ValueError(f"needs redis://host:port/0 or rediss:// for TLS, {_ENCODED}")
        return url

    @field_validator("event_store")
    @classmethod
    def _store(cls, value: str) -> str:
        if not value.startswith("sqlite:///") and not all(
            _is_url(url.strip(), {"http", "https"}) for url in value.split(",")
        ):
            raise ValueError(
                f"needs https://host:port, several comma-separated, or sqlite:///path; {_ENCODED}"
            )
        return value

    @field_validator("traces")
    @classmethod
    def _collector(cls, url: str) -> str:
        if url and not _is_url(url, {"http", "https"}):
            raise ValueError(f"needs https://host:port, {_ENCODED}")
        return url

    @field_validator("api_host")
    @classmethod
    def _where(cls, host: str, info: ValidationInfo) -> str:
        if info.data.get("api_auth") == "kubernetes":
            return host or "0.0.0.0"
        if host and "api_auth" in info.data and not on_this_machine(host):
            raise ValueError("without a login only this machine may call: set TRITON_API_AUTH=kubernetes")
        return host or "127.0.0.1"

    @field_validator("api_tls_key_file")
    @classmethod
    def _both(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("api_tls_cert_file") is None):
            raise ValueError(
                "certificate and key go together: give both of TRITON_API_TLS_CERT_FILE and …_KEY_FILE, or none"
            )
        return key

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def refuse_reply(self, topic: str) -> str:
        """Return why a deploy command is not answered on this topic; empty where it is."""
        return reply_topics.refuse_topic(topic, prefix=self.prefix, allowed=self.reply_topics)

    def group(self, service: str) -> str:
        return f"{self.prefix}.{service}"


def on_this_machine(host: str) -> bool:
    """Decide whether a name or an address, without a port, leads to this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_url(text: str, schemes: set[str]) -> bool:
    """Return whether host and port are where a client looks for them, not in a password that is not encoded."""
    try:
        parts = urlsplit(text)
        login_ends_late = "@" in f"{parts.path}{parts.query}{parts.fragment}"
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not login_ends_late
    except ValueError:
        return False


def unfit(error: ValidationError) -> str:
    """Describe what does not fit, by the names that the environment has; without user and password of a server."""
    return "; ".join(
        f"TRITON_{str(item['loc'][0]).upper()}: {in_words(item)} (received: {_shown(item['input'])})"
        for item in error.errors(include_url=False)
    )


def _shown(value: object) -> str:
    shown = repr(without_login(value)) if isinstance(value, str) else repr(value)
    return shortened(visible(shown), 200)
