"""Anthropic's stream events and content blocks. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.surface.blocks import Block
from muster.frontend.surface.chunks import Logprobs

__all__ = ["EventWriter", "content_block", "event"]

_encode = msgspec.json.Encoder().encode

_DELTAS = {
    "text": (b'"type":"text_delta","text":'),
    "reasoning": (b'"type":"thinking_delta","thinking":'),
    "tool": (b'"type":"input_json_delta","partial_json":'),
}


def event(kind: str, **fields: Any) -> bytes:
    """One event; its name is also its ``type``."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))


def content_block(block: Block) -> dict[str, Any]:
    """A whole block of a message.

    A call's input is its arguments parsed. Arguments that are no JSON object, which only a model
    that has gone astray writes, are kept as one text under ``arguments``: this API has no other
    place for them.
    """
    if block.kind == "text":
        return {"type": "text", "text": block.text}
    if block.kind == "reasoning":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {**_tool_use(block), "input": _input(block.text)}


def _tool_use(block: Block) -> dict[str, Any]:
    call_id = block.call_id or f"toolu_{block.index}"
    return {"type": "tool_use", "id": call_id, "name": block.name, "input": {}}


def _input(arguments: str) -> dict[str, Any]:
    if not arguments.strip():
        return {}
    try:
        parsed = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {"arguments": arguments}
    return parsed if isinstance(parsed, dict) else {"arguments": arguments}


class EventWriter:
    """Writes the events of blocks; see ``BlockWriter``."""

    __slots__ = ()

    def opened(self, block: Block) -> bytes:
        """The block, empty."""
        empty = {
            "text": {"type": "text", "text": ""},
            "reasoning": {"type": "thinking", "thinking": "", "signature": ""},
        }.get(block.kind) or _tool_use(block)
        return event("content_block_start", index=block.index, content_block=empty)

    def grew(self, block: Block, text: str, logprobs: list[Logprobs]) -> bytes:
        """More of the block."""
        return (
            b"event: content_block_delta\n"
            b'data: {"type":"content_block_delta","index":%d,"delta":{%b%b}}\n\n'
            % (block.index, _DELTAS[block.kind], _encode(text))
        )

    def closed(self, block: Block) -> bytes:
        """The block's end; a signature before it, which clients keep with thinking."""
        signature = b""
        if block.kind == "reasoning":
            delta = {"type": "signature_delta", "signature": ""}
            signature = event("content_block_delta", index=block.index, delta=delta)
        return signature + event("content_block_stop", index=block.index)
