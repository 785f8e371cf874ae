"""How long a text gets that a template asks for, found out before it is made.

Each function takes what the method or filter of the same name takes, and returns at least the length
of what that would return.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["GROWING_METHODS", "measure_format", "measure_join", "measure_replace"]

_NUMBER = re.compile(r"[0-9]+")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")

_TOO_LONG = 1 << 62


def measure_replace(text: str, old: str = "", new: str = "", _count: int = -1) -> int:
    """Of ``replace``."""
    found = text.count(old) if old else len(text) + 1
    return len(text) + found * len(new)


def measure_join(separator: str, parts: list[Any]) -> int:
    """Of ``join``."""
    return sum(len(str(part)) for part in parts) + len(separator) * len(parts)


def measure_format(text: str, *values: Any, **named: Any) -> int:
    """Of ``%`` and ``format``, but for the values themselves: the widths and precisions.

    All numbers in the format count; so do those among the values if the format takes widths from
    them (``%*d``, ``{:{}}``).
    """
    numbers = [int(n) if len(n) < 18 else _TOO_LONG for n in _NUMBER.findall(text)]
    if "*" in text or _NESTED_FIELD.search(text):
        numbers += [abs(n) for n in (*values, *named.values()) if isinstance(n, int)]
    return len(text) + sum(numbers)


def _measure_format_map(text: str, values: Mapping[str, Any]) -> int:
    return measure_format(text, *values.values())


def _measure_width(_text: object, width: int = 0, _fill: object = " ") -> int:
    return width


def _measure_tabs(text: str | bytes, tabsize: int = 8) -> int:
    tabs = text.count("\t") if isinstance(text, str) else text.count(b"\t")
    return len(text) + tabs * tabsize


def _measure_number(
    _number: int, length: int = 1, byteorder: str = "big", *, signed: bool = False
) -> int:
    return length


def _measure_translate(text: str, table: Any) -> int:
    values = table.values() if isinstance(table, Mapping) else table
    return len(text) * max((len(value) for value in values if isinstance(value, str)), default=1)


GROWING_METHODS: dict[str, Callable[..., int]] = {
    "replace": measure_replace,
    "join": measure_join,
    "format": measure_format,
    "format_map": _measure_format_map,
    "translate": _measure_translate,
    "center": _measure_width,
    "ljust": _measure_width,
    "rjust": _measure_width,
    "zfill": _measure_width,
    "to_bytes": _measure_number,
    "expandtabs": _measure_tabs,
}
"""By name: methods of texts, bytes and integers that may return more than they were given."""
