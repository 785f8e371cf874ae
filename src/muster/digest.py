"""The name of some bytes: a BLAKE3-256 digest."""

from __future__ import annotations

import re

import msgspec
from blake3 import blake3

from muster.errors import CardError

__all__ = ["Digest"]

_HEX = re.compile(r"[0-9a-f]{64}")


class Digest(msgspec.Struct, frozen=True, order=True):
    """A BLAKE3-256 digest. ``str(Digest.parse(text)) == text`` for every text that parses."""

    hex: str

    def __str__(self) -> str:
        return f"blake3:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``blake3:<64 lower-case hex>``.

        Raises:
            CardError: For another algorithm, another length, or upper-case digits. The text may
                come from anyone and names a file in the cache, so nothing is forgiven.
        """
        algorithm, colon, hexdigits = text.partition(":")
        if not colon or ":" in hexdigits:
            raise CardError(f"invalid checksum {text!r}: expected 'blake3:<64 hex digits>'")
        if algorithm != "blake3":
            raise CardError(f"invalid checksum algorithm {algorithm!r}: only blake3 is known")
        if not _HEX.fullmatch(hexdigits):
            raise CardError(f"invalid checksum {text!r}: expected 64 lower-case hexadecimal digits")
        return cls(hexdigits)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """The digest of ``data``."""
        return cls(blake3(data).hexdigest())
