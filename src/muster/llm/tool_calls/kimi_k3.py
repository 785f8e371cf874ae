"""Kimi K3: a reply of channels, ``<|open|>response<|sep|>...<|close|>response<|sep|>``.

``think`` is reasoning, ``response`` text, ``tools`` has calls, whose arguments each say their type.
Source: the template published with the model, and what Dynamo 1.6.1 reads.
"""

from __future__ import annotations

import html
import re

from muster.llm.tool_calls.json_value import json_value
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.tagged import TaggedParser, Tools

__all__ = ["KimiK3Parser"]

_OPEN, _CLOSE, _END = "<|open|>", "<|close|>", "<|end_of_msg|>"
_MARKERS = Markers(_OPEN, _CLOSE, _END)
_SEP = Markers("<|sep|>")
_ATTRIBUTE = re.compile(r'([a-z]+)="([^"]*)"')
_VALUE_END = Markers("<|close|>argument<|sep|>")
_CHANNELS = ("think", "response", "tools", "message")
_LONGEST_HEADER = 1024


class KimiK3Parser(TaggedParser):
    """Reads reasoning, calls and text at once, since one syntax has them all.

    Args:
        new_id: Makes ids.
        tools: The request's functions.
        calls: Whether calls are looked for. Without, they are shown as they were written.
        prompt_end: The last characters of the prompt, which may have opened a channel.
    """

    def __init__(
        self, new_id: NewId, tools: Tools = (), *, calls: bool = True, prompt_end: str = ""
    ) -> None:
        self._calls = calls
        self._thinks = prompt_end.rstrip().endswith("<|open|>think<|sep|>")
        super().__init__(new_id, tools)

    def steps(self) -> Steps[None]:
        """Channels, until the end; text outside of them is kept."""
        scanner = self.scanner
        while True:
            sink = scanner.reasoning if self._thinks else scanner.content
            marker = yield from scanner.text_until(_MARKERS, sink)
            if marker is None:
                return
            if marker == _END:
                continue
            scanner.begin(marker)
            try:
                yield from self._channel(marker)
            except Malformed:
                scanner.abort()
            scanner.close()

    def _channel(self, marker: str) -> Steps[None]:
        header = yield from self._header()
        if header not in _CHANNELS:
            raise Malformed
        if header == "tools" and marker == _OPEN and not self._calls:
            raise Malformed
        if self._thinks:
            self.scanner.end_reasoning()
        self._thinks = header == "think" and marker == _OPEN
        if header == "tools" and marker == _OPEN:
            yield from self._tools()

    def _header(self) -> Steps[str]:
        header, _ = yield from self.scanner.short_until(_SEP, _LONGEST_HEADER)
        return header

    def _tools(self) -> Steps[None]:
        scanner = self.scanner
        while True:
            yield from scanner.space()
            yield from scanner.expect("<|open|>call ")
            name = _attributes((yield from self._header())).get("tool", "")
            yield from self._call(name)
            yield from scanner.space()
            if (yield from scanner.accept("<|close|>tools<|sep|>")) is not None:
                return
            if (yield from scanner.peek(1)) != "<":
                return

    def _call(self, name: str) -> Steps[None]:
        scanner = self.scanner
        if (yield from scanner.accept("<|open|>json")) is not None:
            yield from self._header()
            if (yield from scanner.space()) != "{":
                raise Malformed
            scanner.start_call(name)
            yield from json_value(scanner, scanner.arguments)
            yield from scanner.expect("<|close|>json<|sep|>")
            yield from scanner.expect("<|close|>call<|sep|>")
            scanner.end_call()
            return
        self.start(name)
        argument, done = "<|open|>argument ", "<|close|>call<|sep|>"
        while True:
            yield from scanner.space()
            if (yield from scanner.expect(argument, done)) == done:
                break
            attributes = _attributes((yield from self._header()))
            yield from self.argument(
                attributes.get("key", ""),
                _VALUE_END,
                padded=False,
                text=attributes.get("type", "string") == "string",
            )
        self.end()


def _attributes(text: str) -> dict[str, str]:
    return {key: html.unescape(value) for key, value in _ATTRIBUTE.findall(text)}
