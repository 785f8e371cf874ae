"""Hermes and Qwen 2.5/3: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_object
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["HermesParser"]


class HermesParser(MarkedParser):
    """One object a marker. A closing marker that is missing, as at a stop, does no harm."""

    opening = Markers("<tool_call>")

    def calls(self, marker: str) -> Steps[None]:
        """One call."""
        yield from self.scanner.space()
        yield from call_object(self.scanner)
        yield from self.scanner.space()
        yield from self.scanner.accept("</tool_call>")
