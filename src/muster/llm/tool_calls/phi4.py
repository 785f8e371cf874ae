"""Phi-4: ``functools[{"name": ..., "arguments": {...}}, ...]``; Phi-4-mini has markers instead."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_array
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["Phi4Parser"]


class Phi4Parser(MarkedParser):
    """An array after ``functools`` or between ``<|tool_call|>`` and ``<|/tool_call|>``."""

    opening = Markers("functools[", "<|tool_call|>")

    def calls(self, marker: str) -> Steps[None]:
        """An array of calls."""
        scanner = self.scanner
        if marker == "functools[":
            yield from call_array(scanner, opened=True)
            return
        yield from scanner.space()
        yield from call_array(scanner)
        yield from scanner.space()
        yield from scanner.accept("<|/tool_call|>")
