"""What some bytes are promised to be: a digest and a largest size, held against them as they pass."""

from __future__ import annotations

from blake3 import blake3

from muster.digest import Digest
from muster.errors import DigestMismatchError, TooLargeError

__all__ = ["Promise"]


class Promise:
    """Counts and hashes bytes on their way into a store.

    Args:
        digest: What they must hash to.
        cap_bytes: Most bytes accepted.
        source: Where they come from, for messages; must hold no secrets.
    """

    __slots__ = ("_cap_bytes", "_hash", "_source", "digest", "size_bytes")

    def __init__(self, digest: Digest, *, cap_bytes: int, source: str) -> None:
        self.digest = digest
        self.size_bytes = 0
        self._cap_bytes = cap_bytes
        self._source = source
        self._hash = blake3()

    def admit(self, data: bytes | bytearray | memoryview) -> None:
        """Let ``data`` pass if it still fits; it counts only when it is ``taken``.

        Raises:
            TooLargeError: It would pass the cap.
        """
        if self.size_bytes + len(data) > self._cap_bytes:
            raise TooLargeError(
                f"{self._source} body exceeds cap {self._cap_bytes}",
                hint="the file is larger than the card says, or than MUSTER_FETCH_MAX_BYTES allows",
            )

    def taken(self, data: bytes | bytearray | memoryview) -> None:
        """``data`` is stored."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def check(self) -> None:
        """See that everything taken is what was promised.

        Raises:
            DigestMismatchError: It is not.
        """
        if self._hash.hexdigest() != self.digest.hex:
            # What they hash to is not said: a card could be made to ask what others have.
            raise DigestMismatchError(
                f"checksum mismatch for {self._source}: expected {self.digest}",
                hint="the file changed after the model was registered; register it again",
            )
