"""DeepSeek V3, R1 and V3.1: calls between markers of their own, written with full-width bars."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import stream_arguments
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["DeepSeekV3Parser", "DeepSeekV31Parser"]


def _marker(words: str) -> str:
    bar, space = "\N{FULLWIDTH VERTICAL LINE}", "\N{LOWER ONE EIGHTH BLOCK}"
    return f"<{bar}{words.replace(' ', space)}{bar}>"


_SECTION, _SECTION_END = _marker("tool calls begin"), _marker("tool calls end")
_CALL, _CALL_END = _marker("tool call begin"), _marker("tool call end")
_SEPARATOR = Markers(_marker("tool sep"))
_LINE = Markers("\n")


class DeepSeekV31Parser(MarkedParser):
    """Each call is its name, a separator and the arguments."""

    opening = Markers(_SECTION, _CALL)

    def calls(self, marker: str) -> Steps[None]:
        """The calls of a section, or one without."""
        scanner = self.scanner
        if marker == _SECTION:
            yield from scanner.space()
            yield from scanner.expect(_CALL)
        while True:
            yield from self.call()
            yield from scanner.space()
            if (yield from scanner.accept(_CALL, _SECTION_END)) != _CALL:
                return

    def call(self) -> Steps[None]:
        """One call."""
        scanner = self.scanner
        name, _ = yield from scanner.short_until(_SEPARATOR)
        yield from stream_arguments(scanner, name.strip())
        scanner.end_call()
        yield from scanner.space()
        yield from scanner.accept(_CALL_END)


class DeepSeekV3Parser(DeepSeekV31Parser):
    """Each call is ``function``, a separator, its name, and the arguments in a code fence."""

    def call(self) -> Steps[None]:
        """One call; the fence may be missing."""
        scanner = self.scanner
        yield from scanner.short_until(_SEPARATOR)
        name, _ = yield from scanner.short_until(_LINE)
        yield from scanner.space()
        fenced = yield from scanner.accept("```")
        if fenced:
            yield from scanner.accept("json")
        yield from stream_arguments(scanner, name.strip())
        scanner.end_call()
        yield from scanner.space()
        if fenced and (yield from scanner.accept("```")):
            yield from scanner.space()
        yield from scanner.accept(_CALL_END)
