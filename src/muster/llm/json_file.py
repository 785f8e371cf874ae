"""Small JSON files of a model directory, read as forgivingly as the tools that wrote them.

Model authors' files hold ``NaN`` and ``Infinity`` (Python's json writes them), comments and
trailing commas (JSON5), and byte-order marks. All are accepted, nothing else is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from muster.errors import CardError

__all__ = ["MAX_JSON_BYTES", "read_json_object", "read_text"]

MAX_JSON_BYTES = 64 << 20
"""Larger files than this are refused; a tokenizer.json is not read by this module."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[\]}}])", re.DOTALL)


def read_text(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> str:
    """The text of a file.

    Raises:
        CardError: If it cannot be read, is larger than ``max_bytes`` or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise CardError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise CardError(f"{path} is larger than {max_bytes} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CardError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CardError: If the file cannot be read, is not JSON even with the liberties above, or its top
            level is not an object. The message names the file and the place in it.
    """
    text = read_text(path)
    try:
        value = _parse(text)
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CardError(f"{path} holds {type(value).__name__}, expected a JSON object")
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        relaxed = _TRAILING_COMMA.sub(_keep_string, _COMMENT.sub(_keep_string, text))
        if relaxed == text:
            raise
        return json.loads(relaxed)


def _keep_string(match: re.Match[str]) -> str:
    return match[1] or ""
