"""What goes before the items of a response: control header, handshake, prologue, acks; no I/O.

All of it is JSON. Unknown fields are ignored everywhere: the peer's formats grow.
"""

from __future__ import annotations

from typing import Any

import msgspec

from muster.errors import ProtocolError
from muster.wire.codec import NOT_DECODABLE, Codec
from muster.wire.errors import WireError
from muster.wire.frames import TwoPart, encode_two_part

__all__ = [
    "ACK_OVERLOADED",
    "ACK_UNAVAILABLE",
    "KILL",
    "STOP",
    "ControlMessage",
    "StreamInfo",
    "encode_control",
    "encode_handshake",
    "encode_prologue",
    "read_control",
    "read_handshake",
    "read_prologue",
]

STOP = b'"stop"'
"""Header by which a caller asks the worker to finish early."""
KILL = b'"kill"'
"""Header by which a caller tells the worker to drop the request."""
ACK_UNAVAILABLE = "Server unavailable: "
ACK_OVERLOADED = "Server overloaded: worker at capacity"


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
