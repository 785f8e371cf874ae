"""Items of responses: the peer's exact JSON and MessagePack, and tolerance of what it may add."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.wire.codec import Codec
from muster.wire.errors import WireError
from muster.wire.frames import TwoPartReader
from muster.wire.items import FrameDecoder, ItemEncoder


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_items_are_what_an_encoder_of_the_whole_frame_would_write(codec: Any) -> None:
    encoder = ItemEncoder(codec)
    value = {"token_ids": [1, 2], "text": "é"}
    (message,) = TwoPartReader(1000).feed(encoder.item(value))
    whole = msgspec.msgpack if codec == "msgpack" else msgspec.json
    assert message.header == b""
    assert message.body == whole.encode({"data": {"data": value}, "complete_final": False})
    frame = FrameDecoder[Any](Any).of(codec)(message.body)
    assert frame.data is not None
    assert frame.data.data() == value
    assert not frame.complete_final


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_final_is_the_frame_and_then_the_sentinel(codec: Any) -> None:
    final, sentinel = TwoPartReader(1000).feed(ItemEncoder(codec).final)
    whole = msgspec.msgpack if codec == "msgpack" else msgspec.json
    assert final == (b"", whole.encode({"complete_final": True}))
    assert sentinel == (b'"sentinel"', b"")


def test_an_item_with_event_and_comment_reads_as_dynamo_shows_it() -> None:
    body = msgspec.msgpack.encode(
        {"data": {"event": "note", "comment": ["a"], "id": "7", "new": 1}, "complete_final": False}
    )
    item = FrameDecoder[Any](Any).msgpack(body).data
    assert item is not None
    assert (item.data(), item.event(), item.comment(), item.id()) == (None, "note", ["a"], "7")
    assert not item.is_error()


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_failure_that_cannot_be_encoded_is_told_as_one(codec: Codec) -> None:
    failure = WireError(error_type="Unknown", message="m", public={"x": object()})
    (message,) = TwoPartReader(1 << 20).feed(ItemEncoder(codec).failure(failure))
    told = FrameDecoder[Any](Any).of(codec)(message.body)
    assert told.data is not None
    assert told.data.failure is not None
    assert told.data.failure.class_ == "Internal"
    assert f"no encoding as {codec}" in (told.data.failure.message or "")
