"""The reader's end of a watch, for every backend.

A backend publishes from any thread; one reader takes changes on the event loop the feed was made
on. What is not yet read is merged per key, so a slow reader costs one entry a key and sees each
key's last state. The pending changes are touched on the loop only: there is no lock to wait for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping

from muster.discovery.base import Change, prefix_matches

__all__ = ["Feed"]


class Feed:
    """One watch: its snapshot, then changes. Implements ``Watch`` for a single reader.

    Args:
        prefix: Keys outside it are dropped.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._snapshot: dict[str, bytes] = {}
        # invariant: what the reader believes, so that what it knows already is never repeated
        self._shown: dict[str, bytes] = {}
        self._pending: OrderedDict[str, bytes | None] = OrderedDict()
        self._ready = asyncio.Event()
        self._ended = False
        self._finished = False

    @property
    def snapshot(self) -> dict[str, bytes]:
        """Records by key path at the beginning."""
        return self._snapshot

    @property
    def ended(self) -> bool:
        """Whether nothing more will be delivered, so that a publisher may forget the feed."""
        return self._ended

    def begin(self, records: Mapping[str, bytes]) -> None:
        """Set the snapshot. The publisher calls it once, before any change can be published."""
        self._snapshot = {k: v for k, v in records.items() if prefix_matches(self._prefix, k)}
        self._shown = dict(self._snapshot)

    def publish(self, changes: Iterable[Change]) -> None:
        """Hand over changes, in their order; from any thread. Nothing happens after the end."""
        mine = [change for change in changes if prefix_matches(self._prefix, change.key)]
        if mine and not self._ended:
            self._on_loop(mine)

    def end(self) -> None:
        """Let the reader take what is pending and then stop; from any thread, idempotent."""
        if not self._ended:
            self._ended = True
            self._on_loop(None)

    def _on_loop(self, changes: list[Change] | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._merge, changes)
        except RuntimeError:
            # The loop is closed: there is no reader any more.
            self._ended = True

    def _merge(self, changes: list[Change] | None) -> None:
        """Take changes over on the loop's thread; ``None`` is the end."""
        for change in changes or ():
            self._pending[change.key] = change.value
        self._finished = self._finished or changes is None
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while True:
            while self._pending:
                key, value = self._pending.popitem(last=False)
                if self._believe(key, value):
                    return Change(key, value)
            if self._finished:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()

    def _believe(self, key: str, value: bytes | None) -> bool:
        """Note the new state; ``False`` if it is what the reader has seen last."""
        if self._shown.get(key) == value:
            return False
        if value is None:
            del self._shown[key]
        else:
            self._shown[key] = value
        return True
