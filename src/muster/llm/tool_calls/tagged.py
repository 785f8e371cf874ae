"""Formats that write each argument between tags: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser
from muster.llm.tool_calls.schema import ANYTHING, Schemas

__all__ = ["TaggedParser", "Tools"]

Tools = Sequence[Mapping[str, Any]]
"""A request's ``tools``, as the client wrote them."""


def _escaped(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


class TaggedParser(MarkedParser):
    """Builds the arguments' object. Strings are passed on as they come.

    Args:
        new_id: Makes ids.
        tools: The request's functions: only their schemas tell a number from a string of digits.
    """

    def __init__(self, new_id: NewId, tools: Tools = ()) -> None:
        self.schemas = Schemas(tools)
        self.function = ""
        self._keys: set[str] = set()
        super().__init__(new_id)

    def start(self, name: str) -> None:
        """Start a call and its object."""
        self.scanner.start_call(name)
        self.scanner.arguments("{")
        self.function = name
        self._keys = set()

    def end(self) -> None:
        """End the object and the call."""
        self.scanner.arguments("}")
        self.scanner.end_call()

    def key(self, key: str) -> None:
        """Write the key of the next argument.

        Raises:
            Malformed: If it is empty, or came before.
        """
        if not key or key in self._keys:
            raise Malformed
        comma = ", " if self._keys else ""
        self.scanner.arguments(f"{comma}{msgspec.json.encode(key).decode()}: ")
        self._keys.add(key)

    def argument(
        self, key: str, end: Markers, *, padded: bool, text: bool | None = None
    ) -> Steps[None]:
        """A key and its value, up to the marker ``end``.

        Args:
            key: The parameter.
            end: What the value ends with.
            padded: Whether one line break on either side is layout.
            text: Whether it is a string, where the format says so; ``None``: by the schema.

        Raises:
            Malformed: If there is no such marker, or the key came before.
        """
        scanner = self.scanner
        self.key(key)
        if padded:
            yield from scanner.accept("\r\n", "\n")
        if self.schemas.is_text(self.function, key) if text is None else text:
            scanner.arguments('"')
            held = ""

            def stream(piece: str) -> None:
                nonlocal held
                piece = held + piece
                kept = piece.removesuffix("\n") if padded else piece
                held = piece[len(kept) :]
                if kept:
                    scanner.arguments(_escaped(kept))

            if (yield from scanner.text_until(end, stream)) is None:
                raise Malformed
            scanner.arguments('"')
            return
        pieces: list[str] = []
        if (yield from scanner.text_until(end, pieces.append)) is None:
            raise Malformed
        value = "".join(pieces)
        value = value.removesuffix("\n") if padded else value
        if text is None:
            scanner.arguments(self.schemas.as_json(self.function, key, value))
        else:
            scanner.arguments(self.schemas.convert(ANYTHING, value))
