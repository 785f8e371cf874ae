"""Blocks of a reply as output items. Pure."""

from __future__ import annotations

from typing import Any

from muster.frontend.responses.objects import (
    FunctionCall,
    Message,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
)
from muster.frontend.surface.blocks import Block
from muster.frontend.surface.chunks import Logprobs

__all__ = ["Items", "read_logprobs"]

_PREFIXES = {"text": "msg", "reasoning": "rs", "tool": "fc"}


class Items:
    """Makes the items of one response.

    Args:
        request_id: The request's UUID; items are named after it and their position.
    """

    __slots__ = ("_suffix",)

    def __init__(self, request_id: str) -> None:
        self._suffix = request_id.replace("-", "")

    def id_of(self, block: Block) -> str:
        """The item's id; the same at each call."""
        return f"{_PREFIXES[block.kind]}_{self._suffix}{block.index:04x}"

    def item(self, block: Block, status: Status) -> OutputItem:
        """The block as an item, with all it has so far; ``in_progress`` ones are empty."""
        empty = status == "in_progress"
        item_id = self.id_of(block)
        if block.kind == "tool":
            call_id = block.call_id or item_id
            arguments = "" if empty else block.text
            return FunctionCall(
                id=item_id, status=status, call_id=call_id, name=block.name, arguments=arguments
            )
        if block.kind == "reasoning":
            texts = [] if empty else [ReasoningText(text=block.text)]
            return ReasoningItem(id=item_id, content=texts, status=status)
        parts = [] if empty else [OutputText(text=block.text, logprobs=block.logprobs)]
        return Message(id=item_id, status=status, content=parts)


def read_logprobs(logprobs: Logprobs | None) -> list[dict[str, Any]]:
    """The chat API's scores in the form of this one: the tokens, without ids."""
    content = logprobs.get("content") if logprobs is not None else None
    return [
        {
            "token": one["token"],
            "logprob": one["logprob"],
            "bytes": one["bytes"] or [],
            "top_logprobs": [
                {**top, "bytes": top.get("bytes") or []} for top in one.get("top_logprobs") or ()
            ],
        }
        for one in content or ()
    ]
