"""What a source of files promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from muster.digest import Digest

__all__ = ["FileSource"]

PlaceT = TypeVar("PlaceT", contravariant=True)


class FileSource(Protocol[PlaceT]):
    """Reads the bytes of one kind of place."""

    def open(
        self, place: PlaceT, *, digest: Digest, start: int, cap_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open ``place`` and give its bytes from ``start`` on as they come, in pieces of up to 1 MiB.

        Ends only at the file's end: bytes that are known to be missing raise. More than
        ``cap_bytes`` may come where the length is not known before; the reader counts.

        Args:
            place: Where.
            digest: What the whole file is to hash to; names the version a part must be of.
            start: First byte wanted.
            cap_bytes: Most bytes the whole file may have.

        Raises:
            SourceBusyError: It has no place free, and said when to come again.
            SourceError: The place does not give the file, or stops giving it.
            TooLargeError: It says before the first byte that there are more than ``cap_bytes``.
        """
        ...
