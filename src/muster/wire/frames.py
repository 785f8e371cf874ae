"""Bytes of the request plane, in and out; no I/O.

Three framings of Dynamo 1.6.1, all big-endian:

* request frame: ``u16`` path length, path, ``u16`` header length, header JSON, ``u32`` payload
  length, payload (one two-part message);
* acknowledgement: ``u32`` length, bytes;
* two-part message: ``u64`` header length, ``u64`` body length, ``u64`` checksum (0), header, body.

A reader is fed whatever arrived and gives the complete messages in it. Bytes are parsed where they
lie; only an incomplete rest is kept, and it is not looked at again before it can be complete.
After a violation ``error`` is set, and the reader gives nothing more: framing is lost.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from muster.errors import ProtocolError
from muster.wire.unread import Unread

__all__ = [
    "AckReader",
    "RequestFrame",
    "RequestReader",
    "TwoPart",
    "TwoPartReader",
    "encode_ack",
    "encode_request_head",
    "encode_two_part",
    "split_two_part",
]

_TWO_PART = struct.Struct(">QQQ")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_PREFIX = _TWO_PART.size


class TwoPart(NamedTuple):
    """A two-part message; either part may be empty."""

    header: bytes
    body: bytes


class RequestFrame(NamedTuple):
    """A request as it arrives at a worker. ``headers`` is the JSON text of a string map."""

    path: bytes
    headers: bytes
    payload: bytes


def encode_two_part(header: bytes, body: bytes) -> bytes:
    """The message; its checksum is 0, as in every release build of the peer."""
    return _TWO_PART.pack(len(header), len(body), 0) + header + body


def encode_request_head(path: bytes, headers: bytes, payload_length: int) -> bytes:
    """Everything of a request frame that comes before its payload."""
    return b"".join(
        (
            _U16.pack(len(path)),
            path,
            _U16.pack(len(headers)),
            headers,
            _U32.pack(payload_length),
        )
    )


def encode_ack(text: bytes = b"") -> bytes:
    """An acknowledgement; empty means accepted."""
    return _U32.pack(len(text)) + text


def split_two_part(payload: bytes) -> TwoPart:
    """Read a payload that must be exactly one two-part message.

    Raises:
        ProtocolError: If it is shorter or longer than it says.
    """
    if len(payload) < _PREFIX:
        raise ProtocolError(f"a two-part message has at least {_PREFIX} bytes, got {len(payload)}")
    header_length, body_length, _ = _TWO_PART.unpack_from(payload)
    if _PREFIX + header_length + body_length != len(payload):
        raise ProtocolError(
            f"two-part message of {len(payload)} bytes says it has "
            f"{_PREFIX}+{header_length}+{body_length}"
        )
    middle = _PREFIX + header_length
    return TwoPart(payload[_PREFIX:middle], payload[middle:])


class TwoPartReader:
    """Reads a stream of two-part messages of at most ``limit`` bytes each."""

    __slots__ = ("_limit", "_rest", "error")

    def __init__(self, limit: int) -> None:
        self._rest = Unread()
        self._limit = limit
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[TwoPart]:
        """The messages completed by ``data``, in order."""
        messages: list[TwoPart] = []
        unread = self._rest.join(data) if self.error is None else None
        if unread is None:
            return messages
        offset, end, need = 0, len(unread), _PREFIX
        unpack, limit, add = _TWO_PART.unpack_from, self._limit, messages.append
        new, kind = tuple.__new__, TwoPart  # half the price of ``TwoPart(...)``, once a token
        while end - offset >= _PREFIX:
            header_length, body_length, _ = unpack(unread, offset)
            need = _PREFIX + header_length + body_length
            if need > limit:
                self.error = ProtocolError(f"message too large: {need} bytes (max: {limit} bytes)")
                return messages
            if end - offset < need:
                break
            middle = offset + _PREFIX + header_length
            offset += need
            header = unread[middle - header_length : middle] if header_length else b""
            add(new(kind, (header, unread[middle:offset])))
            need = _PREFIX
        if offset < end:
            self._rest.keep(unread, offset, need)
        return messages


class RequestReader:
    """Reads a stream of request frames of at most ``limit`` bytes each."""

    __slots__ = ("_limit", "_rest", "error")

    def __init__(self, limit: int) -> None:
        self._rest = Unread()
        self._limit = limit
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[RequestFrame]:
        """The frames completed by ``data``, in order."""
        frames: list[RequestFrame] = []
        unread = self._rest.join(data) if self.error is None else None
        if unread is None:
            return frames
        offset = 0
        while True:
            spans = _request_spans(unread, offset)
            if isinstance(spans, int):
                need = spans
                break
            path_end, headers_at, headers_end, payload_at, frame_end = spans
            need = frame_end - offset
            if need > self._limit:
                self.error = ProtocolError(
                    f"message too large: {need} bytes (max: {self._limit} bytes)"
                )
                return frames
            if frame_end > len(unread):
                break
            frames.append(
                RequestFrame(
                    unread[offset + 2 : path_end],
                    unread[headers_at:headers_end],
                    unread[payload_at:frame_end],
                )
            )
            offset = frame_end
        self._rest.keep(unread, offset, need)
        return frames


def _request_spans(data: bytes, offset: int) -> tuple[int, int, int, int, int] | int:
    """Where the parts of the frame at ``offset`` lie, or how many bytes it takes to know more."""
    end = len(data)
    if end - offset < 2:
        return 2
    path_end = offset + 2 + int(_U16.unpack_from(data, offset)[0])
    if end < path_end + 2:
        return path_end + 2 - offset
    headers_at = path_end + 2
    headers_end = headers_at + int(_U16.unpack_from(data, path_end)[0])
    if end < headers_end + 4:
        return headers_end + 4 - offset
    payload_at = headers_end + 4
    frame_end = payload_at + int(_U32.unpack_from(data, headers_end)[0])
    return path_end, headers_at, headers_end, payload_at, frame_end


class AckReader:
    """Reads a stream of acknowledgements of at most ``limit`` bytes each."""

    __slots__ = ("_limit", "_rest", "error")

    def __init__(self, limit: int) -> None:
        self._rest = Unread()
        self._limit = limit
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The acknowledgements completed by ``data``, in order."""
        acks: list[bytes] = []
        unread = self._rest.join(data) if self.error is None else None
        if unread is None:
            return acks
        offset, end, need = 0, len(unread), 4
        while end - offset >= 4:
            need = 4 + int(_U32.unpack_from(unread, offset)[0])
            if need > self._limit:
                self.error = ProtocolError(
                    f"acknowledgement too large: {need} bytes (max: {self._limit} bytes)"
                )
                return acks
            if end - offset < need:
                break
            acks.append(unread[offset + 4 : offset + need])
            offset += need
            need = 4
        self._rest.keep(unread, offset, need)
        return acks
