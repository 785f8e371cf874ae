"""A registry that fails when told to."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from muster.discovery.base import Discovery, Staleness, Watch
from muster.errors import DiscoveryError

__all__ = ["FragileDiscovery"]


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

    def watch(self, bucket: str, prefix: str = "") -> AbstractAsyncContextManager[Watch]:
        """As the inner registry, unless ``watch`` is broken."""
        self._check("watch", bucket)
        return self._inner.watch(bucket, prefix)

    def staleness(self) -> Staleness | None:
        """The inner registry's."""
        return self._inner.staleness()

    async def close(self) -> None:
        """Close the inner registry."""
        await self._inner.close()

    def close_now(self) -> None:
        """Close the inner registry without a loop."""
        self._inner.close_now()
