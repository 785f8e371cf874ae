"""This process's records in etcd: what should be there, and what to do about what is.

``plan`` decides from the keys that live by our lease. While a record is being written or removed
nothing is decided at all (``Gate``): an answer from before that would be out of date.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import msgspec

__all__ = ["Claims", "Gate", "Plan"]


class Plan(msgspec.Struct, frozen=True):
    """What the registry lacks of ours, and what it has of ours that should not be there."""

    missing: tuple[bytes, ...]
    orphans: tuple[bytes, ...]


class Claims:
    """Records by their key in etcd."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._replaced: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: bytes, value: bytes) -> None:
        """The record is ours."""
        self._values[key] = value
        self._replaced.discard(key)

    def drop(self, key: bytes) -> None:
        """The record is not ours any more."""
        self._values.pop(key, None)
        self._replaced.discard(key)

    def value(self, key: bytes) -> bytes | None:
        """What we keep there; ``None`` if the key is none of ours."""
        return self._values.get(key)

    def replace(self, key: bytes) -> bool:
        """Another process has written the key; whether that is news."""
        if key in self._replaced or key not in self._values:
            return False
        self._replaced.add(key)
        return True

    def restored(self, key: bytes) -> None:
        """The key holds our record again."""
        self._replaced.discard(key)

    def plan(self, attached: Iterable[bytes]) -> Plan:
        """Compare with the keys that live by our lease."""
        there = set(attached)
        return Plan(
            missing=tuple(key for key in self._values if key not in there),
            orphans=tuple(sorted(there - self._values.keys())),
        )


class Gate:
    """Many may change records at a time, or one compares them with the registry; not both."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()
        self._changing = 0
        self._comparing = False

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """A record is being written or removed."""
        async with self._condition:
            await self._condition.wait_for(lambda: not self._comparing)
            self._changing += 1
        try:
            yield
        finally:
            async with self._condition:
                self._changing -= 1
                self._condition.notify_all()

    @contextlib.asynccontextmanager
    async def comparing(self) -> AsyncIterator[None]:
        """Nothing changes meanwhile; who wants to change something waits from now on."""
        async with self._condition:
            await self._condition.wait_for(lambda: not self._comparing)
            self._comparing = True
            await self._condition.wait_for(lambda: not self._changing)
        try:
            yield
        finally:
            async with self._condition:
                self._comparing = False
                self._condition.notify_all()
