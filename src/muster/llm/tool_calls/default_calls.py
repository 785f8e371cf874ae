"""What Dynamo reads where a card names the parser ``default``: Nemotron's lists and Llama's objects."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_array, call_object
from muster.llm.tool_calls.llama3_json import Llama3JsonParser
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps

__all__ = ["DefaultParser"]


class DefaultParser(Llama3JsonParser):
    """``<TOOLCALL>[...]</TOOLCALL>``, an object after ``<|python_tag|>``, or one alone."""

    opening = Markers("<TOOLCALL>", "<|python_tag|>")

    def calls(self, marker: str) -> Steps[None]:
        """Calls with their separators."""
        if marker != "<TOOLCALL>":
            yield from super().calls(marker)
            return
        scanner = self.scanner
        if (yield from scanner.space()) == "[":
            yield from call_array(scanner)
        else:
            yield from call_object(scanner)
        yield from scanner.space()
        yield from scanner.accept("</TOOLCALL>")
