"""Server-sent events that are made once for all who watch, and kept for those who come back.

A watcher has a position and nothing else: whoever is further behind than what is kept, by choice or
because its network is slow, gets the present state instead. So the memory does not depend on how
many watch, or how slowly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Feed"]

_KEPT_BYTES = 256 << 10


class Feed:
    """Events with ascending numbers, of one producer. The event loop's thread only.

    Args:
        epoch: Tells this feed's numbers from those of others, in event ids ``<epoch>-<number>``.
        snapshot: Gives the present state as JSON in one line; asked at most once an event.
        kept_bytes: How much of the latest events is kept.
    """

    def __init__(
        self, epoch: str, snapshot: Callable[[], bytes], *, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._epoch = epoch
        self._make_snapshot = snapshot
        self._kept_bytes = kept_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._snapshot = b""
        self._moved: asyncio.Future[None] | None = None
        self._closed = False
        self.position = 0

    @property
    def is_closed(self) -> bool:
        """Whether there will be no more events."""
        return self._closed

    def publish(self, data: bytes) -> None:
        """Add an event ``change`` and wake all who wait for one."""
        self.position += 1
        frame = self._frame("change", data)
        self._frames.append(frame)
        self._size += len(frame)
        while self._size > self._kept_bytes and self._frames:
            self._size -= len(self._frames.popleft())
        self._snapshot = b""
        self._wake()

    def close(self) -> None:
        """There are no more events: whoever waits is told so. Idempotent."""
        self._closed = True
        self._wake()

    def position_of(self, event_id: str) -> int | None:
        """Where the reader of that event goes on; ``None`` if it has to begin anew."""
        epoch, _, number = event_id.rpartition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdigit():
            return None
        position = int(number) if len(number) < 16 else -1
        return position if self._has(position) else None

    def after(self, position: int | None) -> bytes:
        """What brings a reader at ``position`` up to date: events, or the present state.

        ``None`` stands for a reader that has nothing yet.
        """
        if position is None or not self._has(position):
            if not self._snapshot:
                self._snapshot = self._frame("snapshot", self._make_snapshot())
            return self._snapshot
        missing = self.position - position
        return b"".join(self._frames[index] for index in range(-missing, 0))

    async def moved(self, position: int) -> bool:
        """Wait for an event after ``position``; ``False`` if there will be none."""
        while self.position <= position and not self._closed:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._moved)
        return self.position > position

    def _has(self, position: int) -> bool:
        return self.position - len(self._frames) <= position <= self.position

    def _frame(self, event: str, data: bytes) -> bytes:
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (
            self._epoch.encode(), self.position, event.encode(), data,
        )  # fmt: skip

    def _wake(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None and not moved.done():
            moved.set_result(None)
