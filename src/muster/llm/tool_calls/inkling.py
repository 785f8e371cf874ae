"""Inkling: a reply of messages, each a block of one kind, ``<|content_text|>...<|end_message|>``.

``<|content_thinking|>`` is reasoning, ``<|content_invoke_tool_json|>`` a call. Source: the template
published with the model; vLLM and llama.cpp read the same.
"""

from __future__ import annotations

import re

from muster.llm.tool_calls.json_value import call_object
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import MAX_NAME, Malformed, NewId, Steps
from muster.llm.tool_calls.scanner_parser import ScannerParser
from muster.llm.tool_calls.tagged import Tools

__all__ = ["InklingParser"]

_MESSAGE, _END, _END_REPLY = (
    "<|message_model|>",
    "<|end_message|>",
    "<|content_model_end_sampling|>",
)
_TEXT, _THINKING, _CALL = (
    "<|content_text|>",
    "<|content_thinking|>",
    "<|content_invoke_tool_json|>",
)
_KINDS = (_TEXT, _THINKING, _CALL)
_ALL = Markers(_MESSAGE, _END, _END_REPLY, *_KINDS)
_BLOCK_END = Markers(_MESSAGE, _END, _END_REPLY)
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


class InklingParser(ScannerParser):
    """Reads reasoning, calls and text at once, since one syntax has them all.

    Args:
        new_id: Makes ids.
        tools: The request's functions; not needed, calls say all.
        calls: Whether calls are looked for. Without, they are shown as they were written.
        prompt_end: The last characters of the prompt; not needed.
    """

    def __init__(
        self, new_id: NewId, tools: Tools = (), *, calls: bool = True, prompt_end: str = ""
    ) -> None:
        self._calls = calls
        super().__init__(new_id)

    def steps(self) -> Steps[None]:
        """Blocks, until the end; text outside of them is kept."""
        scanner = self.scanner
        # The prompt has begun the first message, so that its marker is not here.
        marker: str | None = _MESSAGE
        raw: str | None = ""
        while marker is not None:
            if marker in (_END, _END_REPLY):
                marker = raw = yield from scanner.text_until(_ALL, scanner.content)
                continue
            scanner.begin(raw or "")
            try:
                marker = yield from self._block(marker)
            except Malformed:
                scanner.abort()
                marker = _END
            scanner.close()
            raw = marker

    def _block(self, marker: str) -> Steps[str | None]:
        """One block; returns the marker after it, which has been taken."""
        scanner = self.scanner
        if marker == _MESSAGE:
            yield from scanner.space()
            yield from self._header()
            marker = yield from scanner.expect(*_KINDS)
        if marker == _CALL:
            if not self._calls:
                raise Malformed
            yield from scanner.space()
            yield from call_object(scanner, arguments=("args", "arguments", "parameters"))
            yield from scanner.space()
            return (yield from scanner.accept(_END)) or _END
        scanner.close()
        thinks = marker == _THINKING
        after = yield from scanner.text_until(
            _BLOCK_END, scanner.reasoning if thinks else scanner.content
        )
        if thinks:
            scanner.end_reasoning()
        return after

    def _header(self) -> Steps[None]:
        """The name of the function, which the call repeats."""
        length = 0
        while True:
            length += len(self.scanner.run(_NAME, MAX_NAME + 1 - length))
            if length > MAX_NAME:
                raise Malformed
            after = yield from self.scanner.peek(1)
            if not after or _NAME.match(after) is None:
                return
