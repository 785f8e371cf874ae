"""What the messages of the request plane say; no I/O.

The control header is always JSON; a request's body and the items of its response are in the codec
the header names. Unknown fields are ignored everywhere: the peer's formats grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from muster.errors import MusterError, ProtocolError
from muster.wire.errors import WireError, exception_from
from muster.wire.frames import TwoPart, encode_two_part

__all__ = [
    "ACK_OVERLOADED",
    "ACK_UNAVAILABLE",
    "ITEM_ENCODERS",
    "KILL",
    "NOT_DECODABLE",
    "NOT_ENCODABLE",
    "SENTINEL",
    "STOP",
    "Annotated",
    "Codec",
    "ControlMessage",
    "FrameDecoder",
    "ItemEncoder",
    "ItemFrame",
    "StreamInfo",
    "decode_body",
    "encode_body",
    "encode_control",
    "encode_handshake",
    "encode_prologue",
    "read_control",
    "read_handshake",
    "read_prologue",
]

T = TypeVar("T")

Codec = Literal["msgpack", "json"]

SENTINEL = b'"sentinel"'
"""Header of the last message of a response that ended well."""
STOP = b'"stop"'
"""Header by which a caller asks the worker to finish early."""
KILL = b'"kill"'
"""Header by which a caller tells the worker to drop the request."""
ACK_UNAVAILABLE = "Server unavailable: "
ACK_OVERLOADED = "Server overloaded: worker at capacity"

NOT_ENCODABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What encoding a value raises that has no encoding: of no known type, a text with lone surrogates,
a number of more than 64 bits, nested too deeply."""
NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; the last one for what is nested too deeply."""


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a worker connects back to, and as what.

    ``muster`` is ours, and ignored by 1.6.1: ``{"shared": true}`` says that the caller takes many
    responses over one connection (see ``muster.wire.tcp.chunks``).
    """

    address: str
    subject: str
    context: str = ""
    stream_type: str = ""
    muster: Any = None

    @property
    def shared(self) -> bool:
        """Whether the response may come over a shared connection."""
        return isinstance(self.muster, dict) and self.muster.get("shared") is True


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How responses travel; ``info`` is JSON inside a string."""

    transport: str
    info: str


class ControlMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The header of a request."""

    id: str
    request_type: str
    response_type: str
    payload_codec: str = "json"
    connection_info: ConnectionInfo
    metadata: dict[str, Any] = {}


class _Handshake(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    stream_type: str = "response"


class _Prologue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    error: str | None
    typed_error: WireError | None = None


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


_SHARED = {"shared": True}
_control_encoder = msgspec.json.Encoder()
_control_decoder = msgspec.json.Decoder(ControlMessage)
_info_decoder = msgspec.json.Decoder(StreamInfo)
_handshake_decoder = msgspec.json.Decoder(_Handshake)
_prologue_decoder = msgspec.json.Decoder(_Prologue)


def encode_control(
    *,
    request_id: str,
    codec: Codec,
    address: str,
    subject: str,
    metadata: dict[str, Any],
    shared: bool = False,
) -> bytes:
    """The control header of a single request with a streamed response."""
    info = StreamInfo(
        address=address,
        subject=subject,
        context=request_id,
        stream_type="response",
        muster=_SHARED if shared else None,
    )
    control = {
        "id": request_id,
        "request_type": "single_in",
        "response_type": "many_out",
        "payload_codec": codec,
        "connection_info": {
            "transport": "tcp_server",
            "info": _control_encoder.encode(info).decode(),
        },
    }
    if metadata:
        control["metadata"] = metadata
    return _control_encoder.encode(control)


def read_control(message: TwoPart) -> tuple[ControlMessage, StreamInfo]:
    """Read a request's control header and where it wants its response.

    Raises:
        ProtocolError: If it has none, it is not the JSON it should be, or it asks for a codec or a
            transport of responses that is not spoken here.
    """
    if not message.header:
        raise ProtocolError("the request has no control header")
    try:
        control = _control_decoder.decode(message.header)
        info = _info_decoder.decode(control.connection_info.info)
    except NOT_DECODABLE as error:
        raise ProtocolError(f"bad control header: {error}") from error
    if control.payload_codec not in ("msgpack", "json"):
        raise ProtocolError(f"unknown payload_codec {control.payload_codec!r}")
    if control.connection_info.transport != "tcp_server":
        raise ProtocolError(f"unknown response transport {control.connection_info.transport!r}")
    return control, info


def encode_handshake(subject: str) -> bytes:
    """The first message of a response connection."""
    header = msgspec.json.encode({"subject": subject, "stream_type": "response"})
    return encode_two_part(header, b"")


def read_handshake(message: TwoPart) -> str:
    """The subject a worker connects back for.

    Raises:
        ProtocolError: If the message is not a handshake.
    """
    try:
        return _handshake_decoder.decode(message.header).subject
    except NOT_DECODABLE as error:
        raise ProtocolError(f"bad handshake: {error}") from error


def encode_prologue(error: WireError | None = None) -> bytes:
    """The second message: the request runs, or why it does not."""
    if error is None:
        return _PROLOGUE_OK
    header = msgspec.json.encode({"error": error.message, "typed_error": error})
    return encode_two_part(header, b"")


_PROLOGUE_OK = encode_two_part(b'{"error":null}', b"")


def read_prologue(message: TwoPart) -> WireError | None:
    """The failure a prologue reports, or ``None``.

    Text alone, as of processes older than typed errors, is an unavailable worker, as for the peer.

    Raises:
        ProtocolError: If the message is not a prologue.
    """
    try:
        prologue = _prologue_decoder.decode(message.header)
    except NOT_DECODABLE as error:
        raise ProtocolError(f"bad prologue: {error}") from error
    if prologue.error is None:
        return None
    return prologue.typed_error or WireError(error_type="Unavailable", message=prologue.error)


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
