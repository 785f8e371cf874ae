"""The named events of a streamed response. Pure.

A piece of text is one JSON string between two encoded parts; the other events come once a block.
"""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.responses.items import Items
from muster.frontend.responses.objects import OutputText, ReasoningText, Response
from muster.frontend.surface.blocks import Block
from muster.frontend.surface.chunks import Logprobs, StreamError

__all__ = ["EventWriter"]

_encode = msgspec.json.Encoder().encode

_DELTAS = {
    "text": b"response.output_text.delta",
    "reasoning": b"response.reasoning_text.delta",
    "tool": b"response.function_call_arguments.delta",
}


class EventWriter:
    """Writes events, numbered from 0; see ``BlockWriter``.

    Args:
        items: Makes the items.
    """

    __slots__ = ("_items", "_number", "_place", "cut_off")

    def __init__(self, items: Items) -> None:
        self._items = items
        self._number = 0
        self._place = b""
        self.cut_off = False
        """Whether the reply ended before it was complete, and so its open item."""

    def response(self, kind: str, response: Response) -> bytes:
        """An event that carries the whole response, as ``created`` and ``completed`` do."""
        return self._event(f"response.{kind}", response=response)

    def error(self, error: StreamError) -> bytes:
        """The event for an error."""
        code = str(error.code) if error.code is not None else error.type
        return self._event("error", code=code, message=error.message, param=error.param)

    def opened(self, block: Block) -> bytes:
        """The item, and its part if it has one."""
        item = self._items.item(block, "in_progress")
        out = self._event("response.output_item.added", output_index=block.index, item=item)
        place = b'"item_id":%b,"output_index":%d' % (_encode(item.id), block.index)
        if block.kind != "tool":
            place += b',"content_index":0'
            out += self._part_event("response.content_part.added", block, "")
        self._place = place
        return out

    def grew(self, block: Block, text: str, logprobs: list[Logprobs]) -> bytes:
        """More text of the item."""
        kind = _DELTAS[block.kind]
        number, self._number = self._number, self._number + 1
        scores = b',"logprobs":' + _encode(logprobs) if block.kind == "text" else b""
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b,"delta":%b%b}\n\n' % (
            kind,
            kind,
            number,
            self._place,
            _encode(text),
            scores,
        )

    def closed(self, block: Block) -> bytes:
        """The whole text, the part and the item."""
        place = {"item_id": self._items.id_of(block), "output_index": block.index}
        if block.kind == "tool":
            out = self._event(
                "response.function_call_arguments.done",
                **place,
                name=block.name,
                arguments=block.text,
            )
        else:
            out = self._text_done(block, {**place, "content_index": 0})
            out += self._part_event("response.content_part.done", block, block.text)
        item = self._items.item(block, "incomplete" if self.cut_off else "completed")
        return out + self._event("response.output_item.done", output_index=block.index, item=item)

    def _text_done(self, block: Block, place: dict[str, Any]) -> bytes:
        if block.kind == "reasoning":
            return self._event("response.reasoning_text.done", **place, text=block.text)
        return self._event(
            "response.output_text.done", **place, text=block.text, logprobs=block.logprobs
        )

    def _part_event(self, kind: str, block: Block, text: str) -> bytes:
        part: OutputText | ReasoningText
        if block.kind == "reasoning":
            part = ReasoningText(text=text)
        else:
            part = OutputText(text=text, logprobs=block.logprobs)
        return self._event(
            kind,
            item_id=self._items.id_of(block),
            output_index=block.index,
            content_index=0,
            part=part,
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        body = _encode({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)
