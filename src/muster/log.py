"""Logging: standard ``logging`` underneath, text or one JSON object a line on standard error.

Modules log with ``logging.getLogger(__name__)`` and pass facts as ``extra={"facts": {...}}``; both
formats print them. The JSON keys are those of Dynamo 1.6.1 (``time level file line target
message``) with the facts beside them.
"""

from __future__ import annotations

import datetime
import logging
import sys
from typing import Any

import msgspec

from muster.errors import ConfigError

__all__ = ["configure", "facts"]

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 10,
}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def facts(**values: Any) -> dict[str, dict[str, Any]]:
    """Facts for a log call: ``logger.info("model listed", extra=facts(model=name))``."""
    return {"facts": values}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TextFormatter(logging.Formatter):
    """``time LEVEL target message  key=value ...`` in one line (an exception follows)."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for ``record``."""
        line = f"{_time(record)} {record.levelname:<7} {record.name}  {record.getMessage()}"
        values: dict[str, Any] = getattr(record, "facts", {})
        if values:
            line += "  " + " ".join(f"{key}={_printable(value)}" for key, value in values.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _printable(value: Any) -> str:
    """``value`` without line breaks or control characters; quoted if it has spaces."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for ``record``."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": "WARN" if record.levelno == logging.WARNING else record.levelname,
            "file": record.pathname,
            "line": record.lineno,
            "target": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line).decode()


def configure(*, filter: str = "info", jsonl: bool = False) -> None:  # noqa: A002
    """Send the process's log to standard error.

    Args:
        filter: A level, and after commas ``logger=level`` pairs: ``info,muster.wire=debug``.
        jsonl: One JSON object a line instead of text.

    Raises:
        ConfigError: If a level is unknown.
    """
    root_level = logging.INFO
    levels: dict[str, int] = {}
    for part in filter.split(","):
        target, equals, word = part.strip().rpartition("=")
        level = _LEVELS.get(word.strip().lower())
        if level is None:
            raise ConfigError(
                f"unknown log level {word!r} in {filter!r}", hint=f"use one of {', '.join(_LEVELS)}"
            )
        if equals:
            levels[target.strip().replace("::", ".")] = level
        else:
            root_level = level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if jsonl else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(root_level)
    for target, level in levels.items():
        logging.getLogger(target).setLevel(level)
