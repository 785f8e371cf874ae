"""What a conditional or partial request asks for: RFC 9110, sections 13 and 14, as pure decisions.

Only what one immutable file needs: a strong entity tag, one byte range. What is malformed, or asks
for several ranges, is answered as if it were not there, as the RFC allows.
"""

from __future__ import annotations

import re

import msgspec

from muster.digest import Digest

__all__ = ["ByteRange", "Unsatisfiable", "entity_tag", "is_unchanged", "range_asked"]

_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes ``start`` to ``stop`` (exclusive), at least one."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    def content_range(self, size_bytes: int) -> str:
        """The ``Content-Range`` of this part of ``size_bytes`` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size_bytes}"


class Unsatisfiable(msgspec.Struct, frozen=True):
    """A range that begins after the end: to be answered with 416."""


def entity_tag(digest: Digest) -> str:
    """``"blake3:<hex>"``, quotes included: the tag of exactly these bytes."""
    return f'"{digest}"'


def is_unchanged(if_none_match: str | None, tag: str) -> bool:
    """Whether a client that sent this ``If-None-Match`` has what ``tag`` names (304)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return tag in _TAG.findall(if_none_match)


def range_asked(
    range_header: str | None, if_range: str | None, *, tag: str, size_bytes: int
) -> ByteRange | Unsatisfiable | None:
    """Which part is asked for; ``None`` for all of it.

    Args:
        range_header: The ``Range`` header. ``bytes=a-b``, ``bytes=a-`` and ``bytes=-n`` count.
        if_range: The ``If-Range`` header: a range counts only if it is exactly ``tag``.
        tag: The file's tag.
        size_bytes: The file's size.
    """
    if range_header is None or (if_range is not None and if_range.strip() != tag):
        return None
    match = _RANGE.fullmatch(range_header.strip())
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        wanted = min(int(last), size_bytes)  # none of an empty file
        return ByteRange(size_bytes - wanted, size_bytes) if wanted else Unsatisfiable()
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        return Unsatisfiable()
    stop = min(int(last) + 1, size_bytes) if last else size_bytes
    return ByteRange(start, stop)
