"""Qwen3-Coder: ``<tool_call><function=f><parameter=key>value</parameter></function></tool_call>``."""

from __future__ import annotations

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.tagged import TaggedParser

__all__ = ["Qwen3CoderParser"]

_BRACKET = Markers(">")
_VALUE_END = Markers("</parameter>")


class Qwen3CoderParser(TaggedParser):
    """The outer tags may be missing, as the model sometimes leaves them out."""

    opening = Markers("<tool_call>", "<function=")

    def calls(self, marker: str) -> Steps[None]:
        """One call."""
        scanner = self.scanner
        if marker == "<tool_call>":
            yield from scanner.space()
            yield from scanner.expect("<function=")
        name, _ = yield from scanner.short_until(_BRACKET)
        self.start(name.strip())
        while True:
            yield from scanner.space()
            if (yield from scanner.expect("<parameter=", "</function>")) == "</function>":
                break
            key, _ = yield from scanner.short_until(_BRACKET)
            yield from self.argument(key.strip(), _VALUE_END, padded=True)
        self.end()
        yield from scanner.space()
        yield from scanner.accept("</tool_call>")
