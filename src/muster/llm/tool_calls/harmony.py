"""Harmony (gpt-oss): a reply of messages, each with a channel and perhaps a recipient.

``<|channel|>analysis<|message|>...<|end|>`` is reasoning, ``commentary`` with ``to=functions.name``
a call, all else text. Source: OpenAI's description of the format, ``openai-harmony``.
"""

from __future__ import annotations

import re

from muster.llm.tool_calls.json_value import stream_arguments
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.scanner_parser import ScannerParser
from muster.llm.tool_calls.tagged import Tools

__all__ = ["HarmonyParser"]

_HEADER = Markers("<|start|>", "<|channel|>")
_MESSAGE = Markers("<|message|>")
_END = Markers("<|end|>", "<|call|>", "<|return|>", "<|start|>")
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CHANNEL = re.compile(r"<\|channel\|>\s*([A-Za-z_]+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_LONGEST_HEADER = 512


class HarmonyParser(ScannerParser):
    """Reads reasoning, calls and text at once, since one syntax has them all.

    Args:
        new_id: Makes ids.
        tools: The request's functions; not needed, arguments are JSON.
        calls: Whether the request has functions. Without, a call is shown as it was written.
        prompt_end: The last characters of the prompt; not needed.
    """

    def __init__(
        self, new_id: NewId, tools: Tools = (), *, calls: bool = True, prompt_end: str = ""
    ) -> None:
        self._calls = calls
        super().__init__(new_id)

    def steps(self) -> Steps[None]:
        """Messages, until the end; text outside of them is kept."""
        scanner = self.scanner
        marker: str | None = None
        while True:
            if marker is None:
                marker = yield from scanner.text_until(_HEADER, scanner.content)
            if marker is None:
                return
            scanner.begin(marker)
            try:
                marker = yield from self._message(marker)
            except Malformed:
                scanner.abort()
                marker = None
            scanner.close()

    def _message(self, marker: str) -> Steps[str | None]:
        """One message; returns the marker of the next if that was taken."""
        scanner = self.scanner
        rest, _ = yield from scanner.short_until(_MESSAGE, _LONGEST_HEADER)
        header = marker + rest
        channel = _CHANNEL.search(header)
        recipient = _RECIPIENT.search(header)
        name = recipient[1].removeprefix("functions.") if recipient is not None else ""
        if name and name != "assistant":
            if not self._calls:
                raise Malformed
            if (yield from scanner.accept(*_ENDS)):
                scanner.start_call(name)
                scanner.arguments("{}")
                scanner.end_call()
                return None
            yield from scanner.space()
            yield from stream_arguments(scanner, name)
            scanner.end_call()
            yield from scanner.space()
            yield from scanner.accept(*_ENDS)
            return None
        scanner.close()
        thinks = channel is not None and channel[1] == "analysis"
        end = yield from scanner.text_until(_END, scanner.reasoning if thinks else scanner.content)
        if thinks:
            scanner.end_reasoning()
        return end if end == "<|start|>" else None
