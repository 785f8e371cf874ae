"""GLM-4.5 to 4.7: a name, then ``<arg_key>key</arg_key><arg_value>value</arg_value>`` pairs."""

from __future__ import annotations

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.tagged import TaggedParser

__all__ = ["Glm45Parser"]

_AFTER_NAME = Markers("<arg_key>", "</tool_call>")
_KEY_END = Markers("</arg_key>")
_VALUE_END = Markers("</arg_value>")


class Glm45Parser(TaggedParser):
    """``<tool_call>name ... </tool_call>``; 4.7 writes no line breaks in between."""

    opening = Markers("<tool_call>")

    def calls(self, marker: str) -> Steps[None]:
        """One call."""
        scanner = self.scanner
        name, tag = yield from scanner.short_until(_AFTER_NAME)
        self.start(name.strip())
        while tag == "<arg_key>":
            key, _ = yield from scanner.short_until(_KEY_END)
            yield from scanner.space()
            yield from scanner.expect("<arg_value>")
            yield from self.argument(key.strip(), _VALUE_END, padded=False)
            yield from scanner.space()
            tag = yield from scanner.expect("<arg_key>", "</tool_call>")
        self.end()
