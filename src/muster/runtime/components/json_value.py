"""JSON values in records: one text per value, so that equal values have equal texts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from muster.errors import InvalidArgument

__all__ = ["json_text"]


def json_text(value: Any, *, what: str) -> bytes:
    """The JSON of ``value``: members sorted by name, no white space, UTF-8.

    Args:
        value: What JSON can carry; also msgspec Structs, dataclasses, dates and the like.
        what: What it is, for the message.

    Raises:
        InvalidArgument: JSON cannot carry it: no such type, NaN or infinity, a key that is no
            text, text that is not valid Unicode, or nested too deeply.
    """
    try:
        plain = msgspec.to_builtins(value)
        return json.dumps(
            plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode("utf-8")
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidArgument(
            f"{what} is not a JSON value: {error}",
            hint="use None, booleans, numbers, text, lists, and dicts with text for keys",
        ) from error
