"""Logging: standard ``logging`` underneath, text or one JSON object a line on standard error.

Modules log with ``logging.getLogger(__name__)`` and pass facts as ``extra=facts(key=value)``; both
formats print them. While a request is worked on, ``set_request`` or ``bind`` says which, and every
line then carries its id and its place in a trace.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from muster.log.filters import TRACE, Filters, parse_filters, read_filters
from muster.log.formats import JsonFormatter, TextFormatter
from muster.log.scope import Scope, bind, current, reset, set_request

__all__ = [
    "SPAN_TARGET",
    "TRACE",
    "JsonFormatter",
    "Scope",
    "TextFormatter",
    "bind",
    "configure",
    "current",
    "facts",
    "reset",
    "set_request",
]

SPAN_TARGET = "muster.span"
"""The logger that tells of spans, at ``DEBUG``."""

_filtered: set[str] = set()
"""Loggers whose level the last ``configure`` set."""

logging.addLevelName(TRACE, "TRACE")


def facts(**values: Any) -> dict[str, dict[str, Any]]:
    """Facts for a log call: ``logger.info("model listed", extra=facts(model=name))``.

    A fact named like one of the line's own keys (``file``, ``level``...) is written as
    ``fact.file``.
    """
    return {"facts": values}


def configure(
    *,
    filter: str | None = None,  # noqa: A002 - what the setting is called
    jsonl: bool = False,
    local_time: bool = False,
    colour: bool | None = None,
    file: Path | None = None,
    span_events: bool = False,
) -> None:
    """Send the process's log to standard error; undoes what an earlier call set.

    Args:
        filter: A level, ``logger=level`` pairs, or both: ``info,muster.wire=debug``; see
            ``parse_filters``. What it does not say comes from ``file``, then from ``info``.
        jsonl: One JSON object a line instead of text.
        local_time: Times of the system's zone instead of UTC.
        colour: Whether text is coloured; by default if standard error is a terminal.
        file: A TOML file with ``log_level`` and ``log_filters``; see ``read_filters``.
        span_events: Log the end of spans even where debug messages are not logged.

    Raises:
        ConfigError: If the filter or the file is wrong; nothing has changed then.
    """
    base = Filters(level=logging.INFO, targets={SPAN_TARGET: logging.DEBUG} if span_events else {})
    if file is not None:
        base = read_filters(file).over(base)
    filters = parse_filters(filter or "").over(base)
    if colour is None:
        colour = sys.stderr.isatty()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(local_time=local_time)
        if jsonl
        else TextFormatter(local_time=local_time, colour=colour)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if filters.level is None else filters.level)
    for target in _filtered - filters.targets.keys():
        logging.getLogger(target).setLevel(logging.NOTSET)
    _filtered.clear()
    for target, level in filters.targets.items():
        logging.getLogger(target).setLevel(level)
        _filtered.add(target)
