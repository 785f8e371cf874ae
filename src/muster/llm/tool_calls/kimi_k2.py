"""Kimi K2: calls between markers; each carries its id, ``functions.<name>:<number>``."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import stream_arguments
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["KimiK2Parser"]

_SECTIONS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
_SECTION_ENDS = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
_CALL, _CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
_ARGUMENTS = Markers("<|tool_call_argument_begin|>")


class KimiK2Parser(MarkedParser):
    """The ids are kept as they are, since the model's template reads names from them.

    The section's markers are sometimes written in the singular.
    """

    opening = Markers(*_SECTIONS, _CALL)

    def calls(self, marker: str) -> Steps[None]:
        """The calls of a section, or one without."""
        scanner = self.scanner
        if marker != _CALL:
            yield from scanner.space()
            yield from scanner.expect(_CALL)
        while True:
            text, _ = yield from scanner.short_until(_ARGUMENTS)
            call_id = text.strip()
            name, colon, number = call_id.rpartition(":")
            if not colon or not number.isdecimal():
                name, call_id = call_id, ""
            yield from stream_arguments(scanner, name.removeprefix("functions."), call_id or None)
            scanner.end_call()
            yield from scanner.space()
            yield from scanner.accept(_CALL_END)
            yield from scanner.space()
            if (yield from scanner.accept(_CALL, *_SECTION_ENDS)) != _CALL:
                return
