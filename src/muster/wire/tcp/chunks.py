"""Bytes of a shared connection: pieces of many streams, one after the other; no I/O.

Muster's own, between two of its processes; the peer never sees it. A connection begins with a
greeting: ``MUSTER`` and a version in two bytes, then the 24 characters that all subjects of one
caller begin with. After it come chunks in both directions, big-endian: ``u8`` kind, ``u64`` number
of the stream, ``u32`` length, bytes. Who connected numbers the streams, upwards.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from muster.errors import ProtocolError
from muster.wire.unread import Unread

__all__ = [
    "CLOSE",
    "DATA",
    "GREETING_BYTES",
    "MAGIC",
    "OPEN",
    "PAUSE",
    "PREFIX_CHARACTERS",
    "RESUME",
    "Chunk",
    "ChunkReader",
    "chunk_head",
    "encode_greeting",
]

MAGIC = b"MUSTER\x00\x01"
"""No two-part message begins so: it would have a header of 2**62 bytes."""
PREFIX_CHARACTERS = 24
GREETING_BYTES = len(MAGIC) + PREFIX_CHARACTERS

OPEN = 0
"""A new stream; its bytes are the first of it, a handshake at least."""
DATA = 1
"""Bytes of a stream."""
CLOSE = 2
"""Nothing more comes or is taken; it is not answered."""
PAUSE = 3
"""The reader of a stream is behind: send it nothing more for now."""
RESUME = 4
"""It has caught up."""

_HEAD = struct.Struct(">BQI")
_SIZE = _HEAD.size

chunk_head = _HEAD.pack
"""Everything of a chunk before its bytes, of its kind, number and length."""


Chunk: TypeAlias = tuple[int, int, bytes]
"""A piece of a stream, or a word about it: kind, number, bytes. Plain, as there are so many."""


def encode_greeting(prefix: str) -> bytes:
    """The first bytes of a shared connection to the caller whose subjects begin with ``prefix``."""
    return MAGIC + prefix.encode()


class ChunkReader:
    """Reads a stream of chunks of at most ``limit`` bytes each."""

    __slots__ = ("_limit", "_unread", "error")

    def __init__(self, limit: int) -> None:
        self._unread = Unread()
        self._limit = limit
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks completed by ``data``, in order."""
        chunks: list[Chunk] = []
        unread = self._unread.join(data) if self.error is None else None
        if unread is None:
            return chunks
        offset, end, need = 0, len(unread), _SIZE
        unpack = _HEAD.unpack_from
        while end - offset >= _SIZE:
            kind, number, length = unpack(unread, offset)
            need = _SIZE + length
            if length > self._limit or kind > RESUME:
                self.error = ProtocolError(
                    f"not a chunk of a shared connection: kind {kind}, {length} bytes "
                    f"(max: {self._limit} bytes)"
                )
                return chunks
            if end - offset < need:
                break
            begins = offset + _SIZE
            offset += need
            chunks.append((kind, number, unread[begins:offset]))
            need = _SIZE
        self._unread.keep(unread, offset, need)
        return chunks
