"""A registry that fails when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from muster.discovery.base import Change, Discovery, Staleness, Watch
from muster.errors import DiscoveryError

__all__ = ["FragileDiscovery"]


class _CutWatch:
    """A watch that fails when it is cut."""

    def __init__(self, inner: Watch) -> None:
        self._inner = inner
        self._cut = asyncio.Event()

    @property
    def snapshot(self) -> dict[str, bytes]:
        return self._inner.snapshot

    def cut(self) -> None:
        self._cut.set()

    async def __aiter__(self) -> AsyncIterator[Change]:
        changes = aiter(self._inner)
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            while True:
                change = asyncio.ensure_future(anext(changes, None))
                try:
                    await asyncio.wait([change, cut], return_when=asyncio.FIRST_COMPLETED)
                    if cut.done():
                        raise DiscoveryError("the watch was cut")
                    found = change.result()
                finally:
                    change.cancel()
                if found is None:
                    return
                yield found
        finally:
            cut.cancel()


class FragileDiscovery:
    """Passes calls on to another registry, but refuses those named in ``broken``.

    While ``hanging`` is set, ``register`` does not return.

    Args:
        inner: The registry that works.
    """

    def __init__(self, inner: Discovery) -> None:
        self._inner = inner
        self.broken: set[str] = set()
        self.hanging = asyncio.Event()
        self._let_go = asyncio.Event()
        self._watches: set[_CutWatch] = set()

    def let_go(self) -> None:
        """Let calls of ``register`` that hang do their work, and no later one hang."""
        self.hanging.clear()
        self._let_go.set()

    def _check(self, call: str, bucket: str) -> None:
        if call in self.broken or f"{call} {bucket}" in self.broken:
            raise DiscoveryError(f"{call} of {bucket} was told to fail")

    @property
    def instance_id(self) -> int:
        """The inner registry's."""
        return self._inner.instance_id

    async def register(self, bucket: str, key: str, value: bytes, *, create: bool = False) -> None:
        """As the inner registry, unless ``register`` (or ``register <bucket>``) is broken."""
        self._check("register", bucket)
        if self.hanging.is_set():
            await self._let_go.wait()
        await self._inner.register(bucket, key, value, create=create)

    async def deregister(self, bucket: str, key: str) -> None:
        """As the inner registry, unless ``deregister`` is broken."""
        self._check("deregister", bucket)
        await self._inner.deregister(bucket, key)

    async def list(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """As the inner registry, unless ``list`` is broken."""
        self._check("list", bucket)
        return await self._inner.list(bucket, prefix)

    def cut(self) -> None:
        """Let every watch that is open fail."""
        for feed in self._watches:
            feed.cut()

    @asynccontextmanager
    async def watch(self, bucket: str, prefix: str = "") -> AsyncIterator[Watch]:
        """As the inner registry, unless ``watch`` is broken, until it is ``cut``."""
        self._check("watch", bucket)
        async with self._inner.watch(bucket, prefix) as watch:
            feed = _CutWatch(watch)
            self._watches.add(feed)
            try:
                yield feed
            finally:
                self._watches.discard(feed)

    def staleness(self) -> Staleness | None:
        """The inner registry's."""
        return self._inner.staleness()

    async def close(self) -> None:
        """Close the inner registry."""
        await self._inner.close()

    def close_now(self) -> None:
        """Close the inner registry without a loop."""
        self._inner.close_now()
