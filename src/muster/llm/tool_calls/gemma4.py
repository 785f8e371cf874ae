"""Gemma 4: ``<|tool_call>call:f{key:<|"|>text<|"|>,n:1}<tool_call|>``.

Keys are bare, strings stand between ``<|"|>`` markers, the rest is as in JSON. Source: Google's
description of the model's prompt format, and what Dynamo 1.6.1 reads.
"""

from __future__ import annotations

import re

import msgspec

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import MAX_NAME, Malformed, Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["Gemma4Parser"]

_QUOTE = '<|"|>'
_TEXT_END = Markers(_QUOTE)
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_WORD = re.compile(r"[-+.0-9A-Za-z]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS = {"true": "true", "false": "false", "null": "null", "none": "null", "nil": "null"}
_LONGEST_WORD = 400
_DEEPEST = 64


class Gemma4Parser(MarkedParser):
    """One call a marker. Strings are passed on as they come."""

    opening = Markers("<|tool_call>")

    def calls(self, marker: str) -> Steps[None]:
        """One call."""
        scanner = self.scanner
        yield from scanner.space()
        yield from scanner.expect("call:")
        name = yield from self._run(_NAME, MAX_NAME)
        yield from scanner.expect("{")
        scanner.start_call(name)
        yield from self._object(0)
        scanner.end_call()
        yield from scanner.space()
        yield from scanner.accept("<tool_call|>")

    def _run(self, pattern: re.Pattern[str], most: int) -> Steps[str]:
        """All characters here that ``pattern`` matches.

        Raises:
            Malformed: If there are none, or more than ``most``.
        """
        found = ""
        while True:
            found += self.scanner.run(pattern, most + 1 - len(found))
            if len(found) > most:
                raise Malformed
            after = yield from self.scanner.peek(1)
            if not after or pattern.match(after) is None:
                break
        if not found:
            raise Malformed
        return found

    def _object(self, depth: int) -> Steps[None]:
        """An object whose brace has been taken."""
        scanner = self.scanner
        if depth > _DEEPEST:
            raise Malformed
        scanner.arguments("{")
        keys: set[str] = set()
        closed = (yield from scanner.space()) == "}"
        while not closed:
            yield from scanner.space()
            key = yield from self._key()
            if key in keys:
                raise Malformed
            yield from scanner.space()
            yield from scanner.expect(":")
            comma = ", " if keys else ""
            scanner.arguments(f"{comma}{msgspec.json.encode(key).decode()}: ")
            keys.add(key)
            yield from self._value(depth)
            yield from scanner.space()
            closed = (yield from scanner.peek(1)) == "}"
            if not closed:
                yield from scanner.expect(",")
        scanner.take(1)
        scanner.arguments("}")

    def _key(self) -> Steps[str]:
        if (yield from self.scanner.accept(_QUOTE)) is None:
            return (yield from self._run(_NAME, MAX_NAME))
        key, _ = yield from self.scanner.short_until(_TEXT_END)
        return key

    def _value(self, depth: int) -> Steps[None]:
        scanner = self.scanner
        char = yield from scanner.space()
        if char == "{":
            scanner.take(1)
            yield from self._object(depth + 1)
        elif char == "[":
            scanner.take(1)
            yield from self._array(depth + 1)
        elif (yield from scanner.accept(_QUOTE)) is not None:
            scanner.arguments('"')

            def stream(text: str) -> None:
                scanner.arguments(msgspec.json.encode(text).decode()[1:-1])

            if (yield from scanner.text_until(_TEXT_END, stream)) is None:
                raise Malformed
            scanner.arguments('"')
        elif char in (",", "}"):
            scanner.arguments('""')  # nothing is the empty string
        else:
            word = yield from self._run(_WORD, _LONGEST_WORD)
            written = _WORDS.get(word.lower())
            if written is None and _NUMBER.fullmatch(word) is None:
                raise Malformed
            scanner.arguments(written or word)

    def _array(self, depth: int) -> Steps[None]:
        """An array whose bracket has been taken."""
        scanner = self.scanner
        if depth > _DEEPEST:
            raise Malformed
        scanner.arguments("[")
        closed = (yield from scanner.space()) == "]"
        while not closed:
            yield from self._value(depth)
            yield from scanner.space()
            closed = (yield from scanner.peek(1)) == "]"
            if not closed:
                yield from scanner.expect(",")
                scanner.arguments(", ")
        scanner.take(1)
        scanner.arguments("]")
