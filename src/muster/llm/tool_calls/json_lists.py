"""Formats that are an array of ``{"name": ..., "arguments": {...}}`` between two markers."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_array, call_object
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["JambaParser", "NemotronDeciParser"]


class _ListParser(MarkedParser):
    closing: str

    def calls(self, marker: str) -> Steps[None]:
        """An array of calls, or one alone."""
        scanner = self.scanner
        if (yield from scanner.space()) == "[":
            yield from call_array(scanner)
        else:
            yield from call_object(scanner)
        yield from scanner.space()
        yield from scanner.accept(self.closing)


class JambaParser(_ListParser):
    """``<tool_calls>[...]</tool_calls>``."""

    opening = Markers("<tool_calls>")
    closing = "</tool_calls>"


class NemotronDeciParser(_ListParser):
    """``<TOOLCALL>[...]</TOOLCALL>``."""

    opening = Markers("<TOOLCALL>")
    closing = "</TOOLCALL>"
