"""The contract every registry keeps.

A registry holds JSON records under keys. A key is a bucket (one of the four in ``records``) and a
path of segments joined with ``/``. Records belong to the process that registered them and live as
long as its lease: a process that dies without a word takes its records with it after the time to
live. Keys and record formats are those of Dynamo 1.6.1, so both systems can share one registry.

What every implementation promises, and ``tests/contract`` checks:

* ``instance_id`` is the identity of this process's lease, a u64, fixed from construction.
* ``list`` and ``watch`` never show a record whose lease has run out, whoever has to remove it.
* A prefix matches whole segments: ``a/b`` matches ``a/b`` and ``a/b/c``, not ``a/bc``; the empty
  prefix matches everything.
* ``watch`` gives a snapshot and then each change after it: no gap, and no change for what is as the
  snapshot said. Changes to one key may be merged when the reader is slow; the last state always
  arrives.
* A registry that is out of reach, restarted or emptied ends no watch and no process: watches keep
  what was seen last, records are written again under the same keys as soon as that is possible, and
  ``staleness`` says since when and why.
* A record that another process replaces is that process's from then on: the first one neither
  refreshes nor removes it, and its ``deregister`` raises.
* ``close`` removes this process's records and is idempotent; every other call after it raises
  ``DiscoveryError``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

__all__ = ["Change", "Discovery", "Staleness", "Watch", "prefix_matches"]


class Change(msgspec.Struct, frozen=True):
    """One key's new state: its record, or ``None`` when it is gone."""

    key: str
    value: bytes | None


class Staleness(msgspec.Struct, frozen=True):
    """The registry is out of reach: ``since`` (seconds since the epoch) nothing new is known."""

    since: float
    reason: str


class Watch(Protocol):
    """What was there when the watch began, then every change since."""

    @property
    def snapshot(self) -> dict[str, bytes]:
        """Records by key path at the beginning."""
        ...

    def __aiter__(self) -> AsyncIterator[Change]:
        """Changes after the snapshot, for ever; ends when the registry is closed."""
        ...


class Discovery(Protocol):
    """A registry."""

    @property
    def instance_id(self) -> int:
        """The u64 identity of this process's lease."""
        ...

    async def register(self, bucket: str, key: str, value: bytes, *, create: bool = False) -> None:
        """Write a record and keep it alive until it is deregistered or the registry is closed.

        Args:
            bucket: e.g. ``v1/instances``.
            key: Path of the record.
            value: Its JSON text.
            create: Refuse if a live record exists; otherwise it is replaced.

        Raises:
            ConflictError: ``create`` and the key holds a live record.
            DiscoveryError: The registry cannot be reached or written.
        """
        ...

    async def deregister(self, bucket: str, key: str) -> None:
        """Remove a record of this process.

        Raises:
            NotRegisteredError: This process has not registered it, or it is gone already.
            DiscoveryError: The registry cannot be reached or written; the record stays ours.
        """
        ...

    async def list(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Live records by key path, for keys under ``prefix``.

        Raises:
            DiscoveryError: The registry cannot be reached or read.
        """
        ...

    def watch(self, bucket: str, prefix: str = "") -> AbstractAsyncContextManager[Watch]:
        """Watch the keys under ``prefix``; see the promises above. Raises as ``list``."""
        ...

    def staleness(self) -> Staleness | None:
        """Since when, and why, the registry is out of reach; ``None`` while it is in reach.

        Watches then show what was seen last. From any thread, without waiting.
        """
        ...

    async def close(self) -> None:
        """Remove this process's records and stop; idempotent."""
        ...

    def close_now(self) -> None:
        """Remove this process's records without an event loop; for exit handlers. Idempotent."""
        ...


def prefix_matches(prefix: str, key: str) -> bool:
    """Whether ``key`` is ``prefix`` or lies under it, on segment borders."""
    return not prefix or key == prefix or key.startswith(prefix.rstrip("/") + "/")
