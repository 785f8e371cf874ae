"""Muse: a reply of messages to somebody, ``<|start|>assistant to=user<|message|>...<|eot|>``.

``to=self`` is reasoning, ``to=user`` text, ``to=<function>`` a call, written as ``atem`` tags whose
values are bare, or JSON. Source: the instructions in the model's own prompt, and what Dynamo 1.6.1
reads.
"""

from __future__ import annotations

import re

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.tagged import TaggedParser, Tools

__all__ = ["MuseParser"]

_START, _MESSAGE = "<|start|>", "<|message|>"
_BLOCK, _BLOCK_END = "<atem:function_calls>", "</atem:function_calls>"
_INVOKE, _INVOKE_END = '<atem:invoke name="', "</atem:invoke>"
_HEADER_END = Markers(_MESSAGE)
_ENDS = ("<|eom|>", "<|eot|>")
_OUTSIDE = Markers(_START, _BLOCK, _INVOKE, *_ENDS)
_INSIDE = Markers(_START, *_ENDS)
_QUOTE = Markers('"')
_VALUE_END = Markers("</atem:parameter>")
_HEADER = re.compile(r"\s*(?:assistant)?\s*to=(\S+)\s*")
_LONGEST_HEADER = 300


class MuseParser(TaggedParser):
    """Reads reasoning, calls and text at once, since one syntax has them all.

    Args:
        new_id: Makes ids.
        tools: The request's functions: their schemas tell text from JSON.
        calls: Whether calls are looked for. Without, they are shown as they were written.
        prompt_end: The last characters of the prompt; not needed.
    """

    def __init__(
        self, new_id: NewId, tools: Tools = (), *, calls: bool = True, prompt_end: str = ""
    ) -> None:
        self._calls = calls
        super().__init__(new_id, tools)

    def steps(self) -> Steps[None]:
        """Messages, until the end; text outside of them is kept."""
        scanner = self.scanner
        marker: str | None = None
        scanner.begin()
        yield from scanner.space()
        begun = (yield from scanner.accept("to=")) is not None
        if begun:
            # The prompt has begun the first message: only the rest of its header is here.
            marker = yield from self._attempt("to=", scanned=True)
        else:
            scanner.abort()
            scanner.close()
        while True:
            if marker is None:
                marker = yield from scanner.text_until(_OUTSIDE, scanner.content)
            if marker is None:
                return
            if marker in _ENDS:
                marker = None
            else:
                marker = yield from self._attempt(marker)

    def _attempt(self, marker: str, *, scanned: bool = False) -> Steps[str | None]:
        """A message or calls; what is none becomes text. Returns the next message's marker."""
        scanner = self.scanner
        after: str | None = None
        if not scanned:
            scanner.begin(marker)
        try:
            if marker in (_BLOCK, _INVOKE):
                yield from self._atem(marker)
            else:
                after = yield from self._message("to=" if scanned else "")
        except Malformed:
            scanner.abort()
        scanner.close()
        return after

    def _message(self, taken: str) -> Steps[str | None]:
        scanner = self.scanner
        rest, _ = yield from scanner.short_until(_HEADER_END, _LONGEST_HEADER)
        header = _HEADER.fullmatch(taken + rest)
        if header is None:
            raise Malformed
        if header[1] not in ("self", "user"):
            yield from scanner.space()
            yield from self._atem((yield from scanner.expect(_BLOCK, _INVOKE)))
            return None
        scanner.close()
        thinks = header[1] == "self"
        end = yield from scanner.text_until(
            _INSIDE, scanner.reasoning if thinks else scanner.content
        )
        if thinks:
            scanner.end_reasoning()
        return end if end == _START else None

    def _atem(self, marker: str) -> Steps[None]:
        """Calls, whose first marker has been taken."""
        scanner = self.scanner
        if not self._calls:
            raise Malformed
        if marker == _BLOCK:
            yield from scanner.space()
            yield from scanner.expect(_INVOKE)
        while True:
            name, _ = yield from scanner.short_until(_QUOTE)
            yield from scanner.expect(">")
            self.start(name)
            while True:
                yield from scanner.space()
                found = yield from scanner.expect('<atem:parameter name="', _INVOKE_END)
                if found == _INVOKE_END:
                    break
                key, _ = yield from scanner.short_until(_QUOTE)
                yield from scanner.expect(">")
                yield from self._value(key)
            self.end()
            yield from scanner.space()
            if (yield from scanner.accept(_INVOKE, _BLOCK_END)) != _INVOKE:
                break
        yield from scanner.space()
        yield from scanner.accept(*_ENDS)

    def _value(self, key: str) -> Steps[None]:
        """A value: a string stands bare, or in quotes as in JSON."""
        pieces: list[str] = []
        self.key(key)
        if (yield from self.scanner.text_until(_VALUE_END, pieces.append)) is None:
            raise Malformed
        text = "".join(pieces)
        self.scanner.arguments(
            self.schemas.quoted(text) or self.schemas.as_json(self.function, key, text)
        )
