"""A reply as a sequence of blocks: reasoning, text, tool calls. Pure.

Chat chunks say what is added, and leave it open where one thing ends and the next begins. The other
APIs say that in events of their own: one block is open at a time.
"""

from __future__ import annotations

from typing import Literal, Protocol

from muster.frontend.surface.chunks import Delta, Logprobs, ToolDelta

__all__ = ["Block", "BlockWriter", "Blocks", "Kind"]

Kind = Literal["reasoning", "text", "tool"]


class Block:
    """One block.

    Attributes:
        index: Its position in the reply.
        kind: What it is.
        pieces: Its text, or a call's arguments, as it came.
        logprobs: Scores of its tokens, as the chat API gives them.
        call_id: Of a tool call: its id.
        name: Of a tool call: the function.
    """

    __slots__ = ("call_id", "index", "kind", "logprobs", "name", "pieces", "tool_index")

    def __init__(
        self, index: int, kind: Kind, tool: ToolDelta | None = None, tool_index: int = -1
    ) -> None:
        self.index = index
        self.kind = kind
        self.pieces: list[str] = []
        self.logprobs: list[Logprobs] = []
        self.tool_index = tool_index
        self.call_id = (tool.id or "") if tool is not None else ""
        self.name = (tool.function.name or "") if tool is not None else ""

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.pieces)


class BlockWriter(Protocol):
    """Writes an API's events for blocks."""

    def opened(self, block: Block) -> bytes:
        """A block has begun; nothing is in it yet."""
        ...

    def grew(self, block: Block, text: str, logprobs: list[Logprobs]) -> bytes:
        """``text`` has been added, and maybe scores."""
        ...

    def closed(self, block: Block) -> bytes:
        """A block is complete."""
        ...


class Blocks:
    """Cuts a reply into blocks.

    A chunk's reasoning comes before its text, and that before its tool calls. A call whose index
    differs from the open one's begins a block; so the pieces of a call must come together, as they
    do from ``/v1/chat/completions``.

    Args:
        writer: Writes the events.

    Attributes:
        all: The blocks, the open one last.
    """

    __slots__ = ("_open", "_writer", "all")

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._open: Block | None = None
        self.all: list[Block] = []

    def take(self, delta: Delta, logprobs: list[Logprobs] | None = None) -> bytes:
        """The events for what a chunk adds."""
        out = b""
        if thought := delta.thought:
            out += self._grow("reasoning", thought, [])
        if delta.content or logprobs:
            out += self._grow("text", delta.content or "", logprobs or [])
        for position, tool in enumerate(delta.tool_calls or ()):
            out += self._grow_tool(tool, position if tool.index is None else tool.index)
        return out

    def open_text(self) -> bytes:
        """Begin an empty text."""
        return self._begin(Block(len(self.all), "text"))

    def close(self) -> bytes:
        """The events that complete the open block, if there is one."""
        block, self._open = self._open, None
        return b"" if block is None else self._writer.closed(block)

    def _grow(self, kind: Kind, text: str, logprobs: list[Logprobs]) -> bytes:
        block, out = self._open, b""
        if block is None or block.kind != kind:
            block = Block(len(self.all), kind)
            out = self._begin(block)
        block.pieces.append(text)
        block.logprobs += logprobs
        return out + self._writer.grew(block, text, logprobs)

    def _grow_tool(self, tool: ToolDelta, index: int) -> bytes:
        block, out = self._open, b""
        if block is None or block.tool_index != index:
            block = Block(len(self.all), "tool", tool, index)
            out = self._begin(block)
        arguments = tool.function.arguments
        if not arguments:
            return out
        block.pieces.append(arguments)
        return out + self._writer.grew(block, arguments, [])

    def _begin(self, block: Block) -> bytes:
        out = self.close()
        self._open = block
        self.all.append(block)
        return out + self._writer.opened(block)
