"""Formats that write each argument between tags: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser
from muster.llm.tool_calls.schema import Schemas

__all__ = ["TaggedParser"]


def _escaped(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


class TaggedParser(MarkedParser):
    """Builds the arguments' object. Strings are passed on as they come.

    Args:
        new_id: Makes ids.
        tools: The request's functions: only their schemas tell a number from a string of digits.
    """

    def __init__(self, new_id: NewId, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._schemas = Schemas(tools)
        self._function = ""
        self._keys: set[str] = set()
        super().__init__(new_id)

    def start(self, name: str) -> None:
        """Start a call and its object."""
        self.scanner.start_call(name)
        self.scanner.arguments("{")
        self._function = name
        self._keys = set()

    def end(self) -> None:
        """End the object and the call."""
        self.scanner.arguments("}")
        self.scanner.end_call()

    def argument(self, key: str, end: Markers, *, padded: bool) -> Steps[None]:
        """A value up to the marker ``end``.

        Args:
            key: The parameter.
            end: What the value ends with.
            padded: Whether one line break on either side is layout.

        Raises:
            Malformed: If there is no such marker, or the key came before.
        """
        if not key or key in self._keys:
            raise Malformed
        scanner = self.scanner
        scanner.arguments(f"{', ' if self._keys else ''}{msgspec.json.encode(key).decode()}: ")
        self._keys.add(key)
        if padded:
            yield from scanner.accept("\r\n", "\n")
        if self._schemas.is_text(self._function, key):
            scanner.arguments('"')
            held = ""

            def stream(text: str) -> None:
                nonlocal held
                text = held + text
                kept = text.removesuffix("\n") if padded else text
                held = text[len(kept) :]
                if kept:
                    scanner.arguments(_escaped(kept))

            if (yield from scanner.text_until(end, stream)) is None:
                raise Malformed
            scanner.arguments('"')
        else:
            pieces: list[str] = []
            if (yield from scanner.text_until(end, pieces.append)) is None:
                raise Malformed
            text = "".join(pieces)
            text = text.removesuffix("\n") if padded else text
            scanner.arguments(self._schemas.as_json(self._function, key, text))
