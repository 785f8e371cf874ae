from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.text_offsets import TextOffsets
from muster.llm.detokenizer import (
    ByteDetokenizer,
    Detokenizer,
    PieceDetokenizer,
    WholeDetokenizer,
)

BYTES: list[str | bytes] = [chr(n) if n < 128 else bytes([n]) for n in range(256)]


def byte_offsets(start: int = 0) -> TextOffsets:
    return TextOffsets(
        ByteDetokenizer(dict(enumerate(BYTES))), lambda token_id: bytes([token_id]), start
    )


@given(text=st.text(), start=st.integers(0, 9))
def test_each_byte_begins_where_its_character_does(text: str, start: int) -> None:
    offsets = byte_offsets(start)
    expected = [
        start + position for position, char in enumerate(text) for _ in range(len(char.encode()))
    ]
    assert [offsets.next(token_id) for token_id in text.encode()] == expected


def test_a_character_that_is_never_completed_is_one_replacement() -> None:
    offsets = byte_offsets()
    assert [offsets.next(token_id) for token_id in (0x61, 0xC3, 0x62, 0x63)] == [0, 1, 2, 3]


def test_a_piece_after_a_run_of_byte_tokens_begins_after_the_run() -> None:
    pieces: list[str | int | None] = ["a", 0xE6, 0xBC, 0xA2, "b", None]
    names = [b"a", b"\xe6", b"\xbc", b"\xa2", b"b", b""]
    offsets = TextOffsets(PieceDetokenizer(dict(enumerate(pieces)), None, "", 0), names.__getitem__)
    assert [offsets.next(token_id) for token_id in (0, 1, 2, 3, 4, 5, 0)] == [0, 1, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("start", [0, 4])
def test_without_text_before_the_end_tokens_are_as_long_as_they_are_alone(start: int) -> None:
    detokenizer: Detokenizer = WholeDetokenizer(lambda token_ids: "")
    offsets = TextOffsets(detokenizer, lambda token_id: b"xy" * token_id, start)
    assert [offsets.next(token_id) for token_id in (1, 0, 2, 1)] == [
        start,
        start + 2,
        start + 2,
        start + 6,
    ]
