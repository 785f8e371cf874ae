"""Bodies in either codec."""

from __future__ import annotations

import pytest

from muster.errors import ProtocolError
from muster.wire.codec import Codec, decode_body

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_MSGPACK = b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize(("codec", "body"), [("json", DEEP), ("msgpack", DEEP_MSGPACK)])
def test_a_body_nested_too_deeply_is_a_body_that_cannot_be_read(codec: Codec, body: bytes) -> None:
    with pytest.raises(ProtocolError, match=f"the request's body is not {codec}"):
        decode_body(body, codec)
