"""Kafka: producing, consuming in order per key, dead letters, and the documents that describe the messages."""
