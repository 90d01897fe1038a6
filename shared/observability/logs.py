"""JSON logs: one object a line, with the flow's id wherever a line is about one."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

from shared.domain.safe_text import json_text, shortened

LONGEST: Final = 8_000
"""The most characters of a message: runtimes of containers cut a line at 16 KiB, and then it is no JSON."""
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """Add the fields of `extra=` to the object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "service.name": self._service,
            "message": shortened(record.getMessage(), LONGEST),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _OWN})
        if record.exc_info:
            line["error.stack_trace"] = self.formatException(record.exc_info)
        return json_text(line)


def configure(service: str, level: str) -> None:
    """Send all logs of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("aiokafka", "faststream", "uvicorn.access", "elastic_transport", "kubernetes"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # what callers send wrong is counted (triton_http_refused_total): a flood of it must not fill the log
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # aiokafka reports every passing loss of a broker as an error with a trace; shared.messaging.kafka says it once
    logging.getLogger("aiokafka.conn").setLevel(logging.CRITICAL)
