"""What holders of API keys have used, in memory that all processes of a frontend share.

A holder's limits hold for all processes together, whichever its connections come to. Each holder has
a record; a request takes the record's lock for some microseconds when it begins and when it ends.
The locks are POSIX record locks: the system lets go of those of a process that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Iterator

from blake3 import blake3

from muster.frontend.guard.keys import Holder, Limits
from muster.frontend.guard.limiter import Usage

__all__ = ["SharedUsage", "UsageTable"]

logger = logging.getLogger(__name__)

_RECORDS = 8192
_NAME = 16
_LIMITS = struct.Struct("=3q")
_LEVELS = struct.Struct("=4d")
_RUNNING = struct.Struct("=i")
_MOST_PROBES = 256
_PATIENCE_S = 0.05
"""Longer than a process that has the lock waits for a processor that others use."""
_PAUSE_S = 50e-6
_EMPTY = bytes(_NAME)


class UsageTable:
    """Records of holders, and how many requests each process has running for each.

    Args:
        descriptor: Of the memory; it stays the caller's to close.
        count: How many processes there are.
        process: Which of them this is; the supervisor passes none.
    """

    def __init__(self, descriptor: int, *, count: int, process: int = 0) -> None:
        self.descriptor = descriptor
        self._process = process
        self._count = count
        self._limits_at = _RECORDS * _NAME
        self._levels_at = self._limits_at + _RECORDS * _LIMITS.size
        self._running_at = self._levels_at + _RECORDS * _LEVELS.size
        size = self._running_at + count * _RECORDS * _RUNNING.size
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self._is_full = False

    @classmethod
    def create(cls, count: int) -> UsageTable:
        """A new table for ``count`` processes, in memory that is gone with the last of them."""
        return cls(os.memfd_create("muster-usage"), count=count)

    def close(self) -> None:
        """Unmap the memory. Idempotent."""
        self._memory.close()

    def forget_process(self, process: int) -> None:
        """A process has ended: nothing runs there any more."""
        start = self._running_at + process * _RECORDS * _RUNNING.size
        self._memory[start : start + _RECORDS * _RUNNING.size] = bytes(_RECORDS * _RUNNING.size)

    def usage(self, holder: Holder, now: float) -> Usage:
        """The holder's usage, shared; this process's own alone where the table is full."""
        record = self._find(blake3(holder.name.encode()).digest(_NAME))
        if record is None:
            if not self._is_full:
                self._is_full = True
                logger.warning("too many holders of keys; the limits of some are per process")
            return Usage(holder.limits, now)
        return SharedUsage(self, record, holder.limits, now)

    def _find(self, name: bytes) -> int | None:
        first = int.from_bytes(name[:8], "big") % _RECORDS
        for step in range(_MOST_PROBES):
            record = (first + step) % _RECORDS
            if self._name(record) == _EMPTY:
                with self.locked(record):
                    if self._name(record) == _EMPTY:
                        self._memory[record * _NAME : (record + 1) * _NAME] = name
            if self._name(record) == name:
                return record
        return None

    def _name(self, record: int) -> bytes:
        return self._memory[record * _NAME : (record + 1) * _NAME]

    @contextlib.contextmanager
    def locked(self, record: int) -> Iterator[None]:
        """Keep other processes from a record.

        A process that was stopped with the lock in its hand does not stop the others: after 50 ms
        they go on without, and at worst let one request too many through.
        """
        held = self._try_lock(record)
        if not held:
            until = time.monotonic() + _PATIENCE_S
            while not held and time.monotonic() < until:
                time.sleep(_PAUSE_S)
                held = self._try_lock(record)
        try:
            yield
        finally:
            if held:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, record)

    def _try_lock(self, record: int) -> bool:
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, record)
        except BlockingIOError:
            return False
        return True

    def limits(self, record: int) -> tuple[int, int, int]:
        """The limits the record's levels are of; zeros in a new one."""
        at = self._limits_at + record * _LIMITS.size
        requests, tokens, concurrent = _LIMITS.unpack_from(self._memory, at)
        return requests, tokens, concurrent

    def set_limits(self, record: int, limits: tuple[int, int, int]) -> None:
        """Change them."""
        _LIMITS.pack_into(self._memory, self._limits_at + record * _LIMITS.size, *limits)

    def levels(self, record: int) -> tuple[float, float, float, float]:
        """Level and time of the requests' bucket, and of the tokens'."""
        at = self._levels_at + record * _LEVELS.size
        requests, requests_at, tokens, tokens_at = _LEVELS.unpack_from(self._memory, at)
        return requests, requests_at, tokens, tokens_at

    def set_levels(self, record: int, levels: tuple[float, float, float, float]) -> None:
        """Change them."""
        _LEVELS.pack_into(self._memory, self._levels_at + record * _LEVELS.size, *levels)

    def running(self, record: int) -> int:
        """Requests under way in all processes."""
        return sum(self._running(record, process)[0] for process in range(self._count))

    def add_running(self, record: int, change: int) -> None:
        """Change how many are under way in this process."""
        count, at = self._running(record, self._process)
        _RUNNING.pack_into(self._memory, at, max(0, count + change))

    def _running(self, record: int, process: int) -> tuple[int, int]:
        at = self._running_at + (process * _RECORDS + record) * _RUNNING.size
        return _RUNNING.unpack_from(self._memory, at)[0], at


class SharedUsage(Usage):
    """One holder's usage, in a record of a table.

    Args:
        table: The table.
        record: The record's number.
        limits: The holder's limits; others than the record's begin anew.
        now: The time, of the clock that is the same in all processes.
    """

    __slots__ = ("_record", "_table")

    def __init__(self, table: UsageTable, record: int, limits: Limits, now: float) -> None:
        super().__init__(limits, now)
        self._table = table
        self._record = record
        wanted = (
            _number(limits.requests_per_minute),
            _number(limits.tokens_per_minute),
            _number(limits.concurrent),
        )
        with table.locked(record):
            if table.limits(record) != wanted:
                table.set_limits(record, wanted)
                self._store()

    def begin(self, now: float) -> None:
        """See ``Usage.begin``."""
        with self._table.locked(self._record):
            self._load()
            super().begin(now)
            self._table.add_running(self._record, 1)
            self._store()

    def end(self, tokens: int, now: float) -> None:
        """See ``Usage.end``."""
        with self._table.locked(self._record):
            self._load()
            super().end(tokens, now)
            self._table.add_running(self._record, -1)
            self._store()

    def headers(self, now: float) -> dict[str, str]:
        """See ``Usage.headers``."""
        self._load()
        return super().headers(now)

    def _load(self) -> None:
        requests, requests_at, tokens, tokens_at = self._table.levels(self._record)
        if self._requests is not None:
            self._requests.restore(requests, requests_at)
        if self._tokens is not None:
            self._tokens.restore(tokens, tokens_at)
        self.running = self._table.running(self._record)

    def _store(self) -> None:
        requests = self._requests.state if self._requests is not None else (0.0, 0.0)
        tokens = self._tokens.state if self._tokens is not None else (0.0, 0.0)
        self._table.set_levels(self._record, (*requests, *tokens))


def _number(limit: int | None) -> int:
    return -1 if limit is None else limit
