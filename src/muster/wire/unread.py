"""What a reader of frames keeps between two arrivals of data."""

from __future__ import annotations

__all__ = ["Unread"]


class Unread:
    """Bytes of an incomplete message, and how many are needed before it is worth looking again."""

    __slots__ = ("held", "need")

    def __init__(self) -> None:
        self.held = bytearray()
        self.need = 0

    def join(self, data: bytes) -> bytes | None:
        """All unread bytes if they may hold a complete message, else ``None`` (they are kept)."""
        if not self.held:
            return data
        self.held += data
        if len(self.held) < self.need:
            return None
        joined = bytes(self.held)
        self.held.clear()
        return joined

    def keep(self, data: bytes, offset: int, need: int) -> None:
        """Keep ``data[offset:]``; it is incomplete until it has ``need`` bytes."""
        if offset < len(data):
            self.held += memoryview(data)[offset:]
            self.need = need
