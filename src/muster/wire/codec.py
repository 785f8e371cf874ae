"""The two codecs of the request plane: which they are, and what encoding and decoding raise; no I/O.

The body of a request and the items of its response are in the codec that the request's control
header names.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from muster.errors import ProtocolError

__all__ = ["NOT_DECODABLE", "NOT_ENCODABLE", "Codec", "decode_body", "encode_body"]

Codec = Literal["msgpack", "json"]

NOT_ENCODABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoding a value raises that has no encoding: of no known type, a text with lone surrogates,
a number of more than 64 bits, nested too deeply."""
NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; the last one for what is nested too deeply."""


def encode_body(value: Any, codec: Codec) -> bytes:
    """A request's body.

    Raises:
        Exception: One of ``NOT_ENCODABLE``, if a value in it has no encoding.
    """
    return msgspec.msgpack.encode(value) if codec == "msgpack" else msgspec.json.encode(value)


def decode_body(body: bytes, codec: Codec) -> Any:
    """Read a request's body into plain objects.

    Raises:
        ProtocolError: If it is not in that codec.
    """
    try:
        return msgspec.msgpack.decode(body) if codec == "msgpack" else msgspec.json.decode(body)
    except NOT_DECODABLE as error:
        raise ProtocolError(f"the request's body is not {codec}: {error}") from error
