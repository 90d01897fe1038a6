"""Connection arguments of the Kafka clients, and what all of them share.

Every consumer that is made with these arguments reads within bounds (`shared.messaging.bounded_records`).
"""

from __future__ import annotations

import ssl
from typing import Any

from aiokafka.partitioner import murmur2

from shared.messaging import bounded_records  # noqa: F401 - puts the bounds into aiokafka
from shared.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """Return the connection arguments of every aiokafka client."""
    secure = settings.kafka_security_protocol
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": secure,
    }
    if secure in {"SSL", "SASL_SSL"}:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ca_file) if settings.kafka_ca_file else None
        )
        if settings.kafka_cert_file:
            context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file)
        arguments["ssl_context"] = context
    if secure.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return arguments


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner chooses for a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


def for_broker(arguments: dict[str, Any]) -> dict[str, Any]:
    """Convert the arguments: FastStream takes security as an object of its own."""
    from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

    protocol = arguments["security_protocol"]
    context = arguments.get("ssl_context")
    base: dict[str, Any] = {"bootstrap_servers": arguments["bootstrap_servers"]}
    if protocol == "PLAINTEXT":
        return base
    if protocol == "SSL":
        return {**base, "security": BaseSecurity(ssl_context=context, use_ssl=True)}
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    kind = kinds[arguments["sasl_mechanism"]]
    security = kind(
        username=arguments["sasl_plain_username"],
        password=arguments["sasl_plain_password"],
        ssl_context=context,
        use_ssl=protocol == "SASL_SSL",
    )
    return {**base, "security": security}
