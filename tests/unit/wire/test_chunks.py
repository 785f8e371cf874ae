"""Chunks of a shared connection, as bytes."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from muster.wire.tcp.chunks import (
    CLOSE,
    DATA,
    GREETING_BYTES,
    MAGIC,
    Chunk,
    ChunkReader,
    chunk_head,
    encode_greeting,
)

chunks = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=12
)


@given(chunks, st.lists(st.integers(0, 4000), max_size=8))
def test_chunks_come_out_as_they_went_in_however_they_arrive(
    sent: list[Chunk], cuts: list[int]
) -> None:
    whole = b"".join(chunk_head(kind, number, len(data)) + data for kind, number, data in sent)
    reader, found = ChunkReader(300), []
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    for begin, end in itertools.pairwise(edges):
        if begin < end:
            found += reader.feed(whole[begin:end])
    assert found == sent
    assert reader.error is None


def test_a_head_is_kind_number_and_length_big_endian() -> None:
    assert chunk_head(CLOSE, 7, 0) == struct.pack(">BQI", 2, 7, 0)


def test_a_chunk_over_the_limit_ends_the_reading() -> None:
    reader = ChunkReader(10)
    assert reader.feed(chunk_head(DATA, 1, 11) + bytes(11)) == []
    assert "11 bytes (max: 10 bytes)" in str(reader.error)
    assert reader.feed(chunk_head(DATA, 1, 0)) == []


def test_an_unknown_kind_ends_the_reading_after_what_came_before() -> None:
    reader = ChunkReader(10)
    assert reader.feed(chunk_head(DATA, 1, 2) + b"ok" + chunk_head(9, 1, 0)) == [(DATA, 1, b"ok")]
    assert "kind 9" in str(reader.error)


def test_a_greeting_cannot_begin_a_two_part_message() -> None:
    greeting = encode_greeting("0" * 24)
    assert len(greeting) == GREETING_BYTES
    (header_length,) = struct.unpack(">Q", greeting[: len(MAGIC)])
    assert header_length > 2**62
