"""What a place for verified bytes offers, whether on the disk or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from muster.digest import Digest

__all__ = ["Staged", "Store"]


class Staged(Protocol):
    """One attempt to put one blob into a store. Blocking; one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether it was committed or discarded."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.

        Raises:
            TooLargeError: It would pass the cap; nothing of ``data`` is written.
            StoreError: There is no room, or the attempt has ended.
        """
        ...

    def commit(self, *, durable: bool = True) -> Path:
        """Check the digest, keep the bytes, and give a path to them.

        Args:
            durable: Keep them through a loss of power, too; for what cannot be had again.

        Raises:
            DigestMismatchError: The bytes are not the ones asked for; nothing is left behind.
            StoreError: They cannot be kept, or the attempt has ended; nothing is left behind.
        """
        ...

    def discard(self) -> None:
        """Drop the attempt; idempotent, and a no-op after ``commit``."""
        ...


class Store(Protocol):
    """Blobs by digest. Blocking; any thread."""

    def find(self, digest: Digest) -> Path | None:
        """A path to the blob's bytes, which are right; ``None`` if they are not here.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    def stage(self, digest: Digest, *, cap_bytes: int, source: str) -> Staged:
        """Start to put a blob here.

        Args:
            digest: What the bytes must hash to.
            cap_bytes: Most bytes accepted.
            source: Where they come from, for messages; must hold no secrets.
        """
        ...
