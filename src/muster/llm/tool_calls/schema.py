"""From text between tags to JSON, by what the function's schema says about the parameter."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["ANYTHING", "Schemas"]

ANYTHING: Mapping[str, Any] = {}
"""The schema of a value that may be of any type."""

_LONGEST_LITERAL = 10_000


class Schemas:
    """The parameters of a request's functions.

    Args:
        tools: The request's ``tools``, as the client wrote them.
    """

    __slots__ = ("_properties",)

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._properties: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function")
            if not isinstance(function, Mapping):
                continue
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            if isinstance(properties, Mapping):
                self._properties[str(function.get("name"))] = properties

    def is_text(self, function: str, parameter: str) -> bool:
        """Whether the parameter is a string whatever it looks like.

        Of a parameter nobody knows, nothing else can be said.
        """
        types = self._types(function, parameter)
        return not types or types == {"string"}

    def as_json(self, function: str, parameter: str, text: str) -> str:
        """The value of a parameter that need not be a string, as JSON; see ``convert``."""
        return self.convert(self.of(function, parameter), text)

    def convert(self, schema: Mapping[str, Any] | None, text: str) -> str:
        """A value as JSON. Without a schema it is a string.

        What does not fit the schema stays the string it is, so that the caller can see it.
        """
        types = _types_of(schema) if schema is not None else {"string"}
        if types == {"string"}:
            return msgspec.json.encode(text).decode()
        value = text.strip()
        lowered = value.lower()
        if lowered in ("null", "none"):
            return "null"
        if "boolean" in types and lowered in ("true", "false"):
            return lowered
        parsed = _parse(value)
        if parsed is not None and (_type_of(parsed[0]) & types or "any" in types):
            return parsed[1]
        return msgspec.json.encode(text).decode()

    def quoted(self, text: str) -> str | None:
        """``text`` if it is a string in JSON's quotes, without white space around; else ``None``."""
        value = text.strip()
        if not value.startswith('"'):
            return None
        parsed = _parse(value)
        return value if parsed is not None and isinstance(parsed[0], str) else None

    def of(self, function: str, parameter: str) -> Mapping[str, Any] | None:
        """The schema of a parameter; ``None`` if it has none that can be read."""
        properties = self._properties.get(function)
        schema = properties.get(parameter) if properties is not None else None
        return schema if isinstance(schema, Mapping) else None

    def _types(self, function: str, parameter: str) -> set[str]:
        schema = self.of(function, parameter)
        return _types_of(schema) if schema is not None else set()


def _types_of(schema: Mapping[str, Any]) -> set[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        if isinstance(options, list):
            nested = [_types_of(each) for each in options if isinstance(each, Mapping)]
            return set().union(*nested) or {"any"}
    values = schema.get("enum")
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return {"string"}
    return {"any"}


def _type_of(value: object) -> set[str]:
    match value:
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case dict():
            return {"object"}
        case list() | tuple():
            return {"array"}
        case _:
            return set()


def _parse(text: str) -> tuple[object, str] | None:
    """The value ``text`` stands for, and its JSON; Python literals are what some models write."""
    try:
        return msgspec.json.decode(text), text
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = ast.literal_eval(text)
        return value, msgspec.json.encode(value).decode()
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError):
        return None
