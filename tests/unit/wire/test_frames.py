"""Readers give the same messages however the bytes are cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import ProtocolError
from muster.wire.frames import (
    AckReader,
    RequestFrame,
    RequestReader,
    TwoPart,
    TwoPartReader,
    encode_ack,
    encode_request_head,
    encode_two_part,
    split_two_part,
)

parts = st.binary(max_size=40)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def test_two_part_bytes_are_the_format() -> None:
    assert encode_two_part(b"ab", b"c") == struct.pack(">QQQ", 2, 1, 0) + b"abc"


def test_request_frame_bytes_are_the_format() -> None:
    head = encode_request_head(b"1f/n/c/e", b"{}", 5)
    assert head == b"\x00\x081f/n/c/e\x00\x02{}\x00\x00\x00\x05"


@given(st.lists(st.tuples(parts, parts), max_size=8), st.lists(st.integers(0, 30), max_size=12))
def test_two_part_reader_is_indifferent_to_cuts(
    messages: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(encode_two_part(header, body) for header, body in messages)
    reader = TwoPartReader(1000)
    found = [message for piece in cut(stream, sizes) for message in reader.feed(piece)]
    assert found == [TwoPart(*message) for message in messages]
    assert reader.error is None


@given(
    st.lists(st.tuples(parts, parts, parts), max_size=6), st.lists(st.integers(0, 30), max_size=12)
)
def test_request_reader_is_indifferent_to_cuts(
    requests: list[tuple[bytes, bytes, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(
        encode_request_head(path, headers, len(payload)) + payload
        for path, headers, payload in requests
    )
    reader = RequestReader(1000)
    found = [frame for piece in cut(stream, sizes) for frame in reader.feed(piece)]
    assert found == [RequestFrame(*request) for request in requests]


@given(st.lists(parts, max_size=8), st.lists(st.integers(0, 20), max_size=12))
def test_ack_reader_is_indifferent_to_cuts(acks: list[bytes], sizes: list[int]) -> None:
    reader = AckReader(1000)
    stream = b"".join(encode_ack(text) for text in acks)
    assert [text for piece in cut(stream, sizes) for text in reader.feed(piece)] == acks


def test_a_message_over_the_limit_is_named_with_both_sizes_and_ends_reading() -> None:
    reader = RequestReader(4096)
    good = encode_request_head(b"p", b"{}", 3) + b"abc"
    bad = encode_request_head(b"p", b"{}", 5556)
    assert len(reader.feed(good + bad)) == 1
    assert str(reader.error) == "message too large: 5567 bytes (max: 4096 bytes)"
    assert reader.feed(good) == []


@pytest.mark.parametrize("reader", [TwoPartReader(64), AckReader(64)])
def test_other_readers_have_limits_too(reader: TwoPartReader | AckReader) -> None:
    assert reader.feed(b"\xff" * 24) == []
    assert "too large" in str(reader.error)


def test_a_large_message_in_many_pieces_is_joined_once() -> None:
    body = bytes(range(256)) * 8192
    stream = encode_two_part(b"h", body)
    reader = TwoPartReader(1 << 24)
    found = [m for at in range(0, len(stream), 1000) for m in reader.feed(stream[at : at + 1000])]
    assert found == [TwoPart(b"h", body)]


@pytest.mark.parametrize(
    "payload", [b"", b"x" * 23, encode_two_part(b"a", b"b") + b"!", b"\xff" * 24]
)
def test_a_payload_that_is_not_one_message_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="two-part message"):
        split_two_part(payload)


@given(parts, parts)
def test_split_reads_what_encode_wrote(header: bytes, body: bytes) -> None:
    assert split_two_part(encode_two_part(header, body)) == (header, body)
