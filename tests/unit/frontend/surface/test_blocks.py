from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.surface.blocks import Block, Blocks
from muster.frontend.surface.chunks import Delta, FunctionDelta, Logprobs, ToolDelta


class Script:
    """Writes one letter an event, and checks that one block is open at a time."""

    def __init__(self) -> None:
        self.open: Block | None = None

    def opened(self, block: Block) -> bytes:
        assert self.open is None
        assert block.pieces == []
        self.open = block
        return b"<"

    def grew(self, block: Block, text: str, logprobs: list[Logprobs]) -> bytes:
        assert self.open is block
        return text.encode()

    def closed(self, block: Block) -> bytes:
        assert self.open is block
        self.open = None
        return b">"


def tool(index: int, arguments: str = "", **named: Any) -> Delta:
    function = FunctionDelta(named.get("name"), arguments)
    return Delta(tool_calls=[ToolDelta(index, named.get("id"), function)])


def test_a_block_is_closed_where_another_kind_begins() -> None:
    blocks = Blocks(Script())
    events = [
        blocks.take(Delta(reasoning_content="a")),
        blocks.take(Delta(reasoning_content="b", content="c")),
        blocks.take(Delta(content="d")),
        blocks.take(tool(0, id="x", name="f")),
        blocks.take(tool(0, "{}")),
        blocks.take(tool(1, "[]", id="y", name="g")),
        blocks.close(),
        blocks.close(),
    ]
    assert events == [b"<a", b"b><c", b"d", b"><", b"{}", b"><[]", b">", b""]
    assert [(b.index, b.kind, b.text) for b in blocks.all] == [
        (0, "reasoning", "ab"),
        (1, "text", "cd"),
        (2, "tool", "{}"),
        (3, "tool", "[]"),
    ]
    assert [(b.call_id, b.name) for b in blocks.all[2:]] == [("x", "f"), ("y", "g")]


def test_calls_of_a_whole_message_are_told_apart_by_their_order() -> None:
    blocks = Blocks(Script())
    calls = [ToolDelta(id=name, function=FunctionDelta(name, "{}")) for name in "ab"]
    assert blocks.take(Delta(content="t", tool_calls=calls)) == b"<t><{}><{}"
    assert [block.name for block in blocks.all] == ["", "a", "b"]


def test_nothing_makes_no_block() -> None:
    blocks = Blocks(Script())
    assert blocks.take(Delta()) == blocks.take(Delta(content="")) == blocks.close() == b""
    assert blocks.all == []


DELTAS = st.lists(
    st.one_of(
        st.builds(Delta, content=st.text()),
        st.builds(Delta, reasoning_content=st.text()),
        st.builds(lambda n, text: tool(n, text), st.integers(0, 2), st.text()),
    )
)


@given(DELTAS)
def test_text_is_neither_lost_nor_reordered(deltas: list[Delta]) -> None:
    blocks = Blocks(Script())
    for delta in deltas:
        blocks.take(delta)
    sent = "".join(
        (delta.content or "")
        + (delta.reasoning_content or "")
        + "".join(call.function.arguments or "" for call in delta.tool_calls or ())
        for delta in deltas
    )
    assert "".join(block.text for block in blocks.all) == sent
    assert [block.index for block in blocks.all] == [*range(len(blocks.all))]
