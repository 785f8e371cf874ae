"""How a log line looks: readable text, or one JSON object."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import msgspec

from muster.log.filters import level_name
from muster.log.scope import current

__all__ = ["RESERVED", "JsonFormatter", "TextFormatter"]

RESERVED = frozenset({"time", "level", "file", "line", "target", "message", "exception"})
"""Keys that say something about the line itself. A fact of such a name is written with the prefix
``fact.``, and so is one that contradicts a field of the scope (``request_id``, ``trace_id``...)."""

_encode = msgspec.json.Encoder(enc_hook=str).encode
_COLOURS = {"ERROR": "31", "WARN": "33", "INFO": "32", "DEBUG": "34", "TRACE": "35"}


class _Formatter(logging.Formatter):
    """What both formats need.

    Args:
        local_time: Times of the system's zone with their offset instead of UTC.
    """

    def __init__(self, *, local_time: bool = False) -> None:
        super().__init__()
        self._local = local_time

    def time(self, record: logging.LogRecord) -> str:
        """When it happened: ``2026-11-21T07:23:41.485331Z``, or with an offset like ``+09:00``."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        if self._local:
            return moment.astimezone().isoformat(timespec="microseconds")
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def exception(self, record: logging.LogRecord) -> str:
        """The traceback and the stack the record carries; empty if none."""
        parts = []
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The record's facts, then the scope's fields; no fact hides anything else."""
    given = getattr(record, "facts", None)
    scope = current().fields()
    if not isinstance(given, dict):
        return scope
    values: dict[str, Any] = {}
    for key, value in given.items():
        clash = key in RESERVED or (key in scope and scope[key] != value)
        values[f"fact.{key}" if clash else key] = value
    return values | scope


class TextFormatter(_Formatter):
    """``time LEVEL target  message  key=value ...`` in one line (an exception follows).

    Args:
        local_time: Times of the system's zone with their offset instead of UTC.
        colour: Colour the level, and dim time and target, by ANSI sequences.
    """

    def __init__(self, *, local_time: bool = False, colour: bool = False) -> None:
        super().__init__(local_time=local_time)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line for ``record``."""
        time, level = self.time(record), level_name(record.levelno)
        if self._colour:
            line = (
                f"\x1b[2m{time}\x1b[0m \x1b[{_COLOURS[level]}m{level:<5}\x1b[0m "
                f"\x1b[2m{record.name}\x1b[0m  {_one_line(record.getMessage())}"
            )
        else:
            line = f"{time} {level:<5} {record.name}  {_one_line(record.getMessage())}"
        values = _fields(record)
        if values:
            line += "  " + " ".join(f"{key}={_printable(value)}" for key, value in values.items())
        exception = self.exception(record)
        return f"{line}\n{exception}" if exception else line


def _one_line(text: str) -> str:
    """``text`` with line breaks and other control characters written as escapes.

    Otherwise a name from elsewhere could forge a line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _printable(value: Any) -> str:
    """``value`` without line breaks or control characters; quoted if it has spaces."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)


class JsonFormatter(_Formatter):
    """One JSON object a line.

    Its keys, as those of Dynamo 1.6.1: ``time level file line target message``, then the facts,
    then the fields of the scope (``trace_id span_id parent_id span_name request_id`` and others),
    and ``exception`` with a traceback if there is one. A fact never overwrites one of these: it is
    written with the prefix ``fact.`` then, e.g. ``fact.file``.

    Args:
        local_time: Times of the system's zone with their offset instead of UTC.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line for ``record``."""
        line: dict[str, Any] = {
            "time": self.time(record),
            "level": level_name(record.levelno),
            "file": record.pathname,
            "line": record.lineno,
            "target": record.name,
            "message": record.getMessage(),
        }
        line |= _fields(record)
        exception = self.exception(record)
        if exception:
            line["exception"] = exception
        try:
            return _encode(line).decode()
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            return _encode({key: _safe(value) for key, value in line.items()}).decode()


def _safe(value: Any) -> Any:
    """``value`` as something that JSON can always hold: a lone surrogate is written as an escape."""
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()
