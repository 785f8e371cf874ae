"""Values to compact JSON text, byte for byte as ``serde_json`` writes them."""

from __future__ import annotations

import json

from muster.errors import CardError
from muster.model.strictjson.node import Json
from muster.model.strictjson.number import float_text

__all__ = ["dump", "sort_keys"]

_encode_string = json.JSONEncoder(ensure_ascii=False).encode


def dump(value: Json) -> str:
    """The compact text of ``value``: no spaces, members in their order, non-ASCII as it is.

    Raises:
        CardError: If a text in it has half a surrogate pair (a file name that is not UTF-8 has).
    """
    text = _dump(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text[max(0, error.start - 20) : error.start]
        raise CardError(f"cannot be written as JSON: not UTF-8 after {shown!r}") from error
    return text


def _dump(value: Json) -> str:
    if isinstance(value, str):
        return _encode_string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        members = (f"{_encode_string(key)}:{_dump(item)}" for key, item in value.items())
        return "{" + ",".join(members) + "}"
    return "[" + ",".join(map(_dump, value)) + "]"


def sort_keys(value: Json) -> Json:
    """The same value with the members of every object in the order of their keys' UTF-8 bytes."""
    if isinstance(value, dict):
        return {key: sort_keys(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [sort_keys(item) for item in value]
    return value
