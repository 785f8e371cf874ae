"""The items of a response: what they look like to callers and on the wire; no I/O.

Each is the body of one two-part message, in the codec of its request. Unknown fields are ignored:
the peer's formats grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from muster.errors import MusterError
from muster.wire.codec import NOT_ENCODABLE, Codec
from muster.wire.errors import WireError, exception_from
from muster.wire.frames import encode_two_part

__all__ = [
    "ITEM_ENCODERS",
    "SENTINEL",
    "Annotated",
    "FrameDecoder",
    "ItemEncoder",
    "ItemFrame",
]

T = TypeVar("T")

SENTINEL = b'"sentinel"'
"""Header of the last message of a response that ended well."""


class Annotated(msgspec.Struct, Generic[T], omit_defaults=True, gc=False):
    """One item of a response: its data, or an event beside the data.

    Read with the methods of Dynamo's bindings: ``item.data()``.
    """

    payload: T | None = msgspec.field(default=None, name="data")
    item_id: str | None = msgspec.field(default=None, name="id")
    item_event: str | None = msgspec.field(default=None, name="event")
    comments: list[str] | None = msgspec.field(default=None, name="comment")
    failure: WireError | None = msgspec.field(default=None, name="error")

    def data(self) -> T | None:
        """The value the handler yielded."""
        return self.payload

    def id(self) -> str | None:
        """The item's id, if it has one."""
        return self.item_id

    def event(self) -> str | None:
        """The item's event name; ``None`` for plain data."""
        return self.item_event

    def comment(self) -> list[str] | None:
        """The item's comments."""
        return self.comments

    def is_error(self) -> bool:
        """Whether the item reports a failure."""
        return self.item_event == "error"


class ItemFrame(msgspec.Struct, Generic[T], gc=False):
    """The body of one response message: an item, or the mark that it was the last."""

    data: Annotated[T] | None = None
    complete_final: bool = False


class ItemEncoder:
    """Encodes the messages of one response in its codec.

    An item costs the encoding of its value and one concatenation: what surrounds the value never
    changes and is encoded once here.
    """

    __slots__ = ("_after", "_before", "_codec", "_encode", "_fixed", "final")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._encode: Callable[[Any], bytes]
        if codec == "msgpack":
            self._encode = msgspec.msgpack.Encoder().encode
            self._before = b"\x82\xa4data\x81\xa4data"
            self._after = b"\xaecomplete_final\xc2"
        else:
            self._encode = msgspec.json.Encoder().encode
            self._before = b'{"data":{"data":'
            self._after = b'},"complete_final":false}'
        self._fixed = len(self._before) + len(self._after)
        self.final = encode_two_part(b"", self._encode({"complete_final": True})) + encode_two_part(
            SENTINEL, b""
        )
        """The final frame and the sentinel: how a response ends well."""

    def item(self, value: Any) -> bytes:
        """The message that carries ``value``.

        Raises:
            Unknown: If ``value`` has no encoding: for the client a failure of the engine, as of a
                worker of the peer, not of its request.
        """
        try:
            body = self._encode(value)
        except NOT_ENCODABLE as error:
            raise _unsendable(self._codec, error) from error
        length = (self._fixed + len(body)).to_bytes(8, "big")
        return b"".join((_EMPTY_HEADER, length, _NO_CHECKSUM, self._before, body, self._after))

    def failure(self, error: WireError) -> bytes:
        """The message that reports a failure."""
        item = {"event": "error", "error": error}
        try:
            body = self._encode({"data": item, "complete_final": False})
        except NOT_ENCODABLE as reason:
            failure = _unsendable(self._codec, reason).failure
            return self.failure(failure)
        return encode_two_part(b"", body)


def _unsendable(codec: Codec, error: Exception) -> MusterError:
    text = f"what the handler gave has no encoding as {codec}: {type(error).__name__}: {error}"
    message = text.encode("utf-8", "backslashreplace").decode()
    return exception_from(WireError(error_type="Unknown", message=message, diagnostic=message))


_EMPTY_HEADER = bytes(8)
_NO_CHECKSUM = bytes(8)

ITEM_ENCODERS: dict[Codec, ItemEncoder] = {
    "msgpack": ItemEncoder("msgpack"),
    "json": ItemEncoder("json"),
}
"""The encoder of each codec; they keep no state between items."""


class FrameDecoder(Generic[T]):
    """Decodes response items whose data is a ``T``, in either codec."""

    __slots__ = ("json", "msgpack")

    def __init__(self, kind: Any) -> None:
        frame = ItemFrame[kind]
        self.msgpack: Callable[[bytes], ItemFrame[T]] = msgspec.msgpack.Decoder(frame).decode
        self.json: Callable[[bytes], ItemFrame[T]] = msgspec.json.Decoder(frame).decode

    def of(self, codec: Codec) -> Callable[[bytes], ItemFrame[T]]:
        """The decoding function of a codec; it raises one of ``NOT_DECODABLE``."""
        return self.msgpack if codec == "msgpack" else self.json
