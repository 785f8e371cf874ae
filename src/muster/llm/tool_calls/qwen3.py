"""Qwen 3: Hermes' calls, and Qwen3-Coder's, which later models of the family write."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_object
from muster.llm.tool_calls.qwen3_coder import Qwen3CoderParser
from muster.llm.tool_calls.scanner import Steps

__all__ = ["Qwen3Parser"]


class Qwen3Parser(Qwen3CoderParser):
    """What follows ``<tool_call>`` tells: an object, or tags."""

    def calls(self, marker: str) -> Steps[None]:
        """One call."""
        scanner = self.scanner
        if marker == "<tool_call>" and (yield from scanner.space()) == "{":
            yield from call_object(scanner)
            yield from scanner.space()
            yield from scanner.accept("</tool_call>")
        else:
            yield from super().calls(marker)
