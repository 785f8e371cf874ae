"""Llama 3.x: ``{"name": ..., "parameters": {...}}``, bare or after ``<|python_tag|>``."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_object
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["Llama3JsonParser"]


class Llama3JsonParser(MarkedParser):
    """A reply that begins with an object may be calls; they are separated by ``;``.

    A bare object that has no name and no arguments is text: a reply in JSON is no call.
    """

    opening = Markers("<|python_tag|>")

    def steps(self) -> Steps[None]:
        """Bare calls are looked for at the beginning only."""
        self.scanner.begin()
        first = yield from self.scanner.space()
        self.scanner.abort()
        if first == "{":
            yield from self.attempt("")
        yield from super().steps()

    def calls(self, marker: str) -> Steps[None]:
        """Calls with their separators."""
        scanner = self.scanner
        yield from scanner.space()
        while True:
            yield from call_object(scanner, bare=not marker)
            yield from scanner.space()
            if (yield from scanner.accept(";")) is None and (yield from scanner.peek(1)) != "{":
                return
            if not (yield from scanner.space()):
                return
