"""The registry of one machine: a directory of small files, shared with Dynamo 1.6.1's processes.

A record is a file (see ``directory``), its lease the file's time, which a thread of the owner
refreshes (``owned``, ``lease``). Every live process removes the files of dead ones and, while it
watches, hears of changes from the operating system (``view``, ``watcher``, ``notifier``). Blocking
work runs in threads; the event loop is never made to wait for the disk.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import secrets
import threading
from collections.abc import AsyncIterator

from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import DiscoverySettings
from muster.discovery.base import Staleness, Watch
from muster.discovery.directory import RecordDirectory
from muster.discovery.feed import Feed
from muster.discovery.keys import check_bucket, check_record
from muster.discovery.lease import LeaseKeeper, refresh_interval
from muster.discovery.owned import OwnedRecords
from muster.discovery.view import BucketView
from muster.discovery.watcher import ViewWatcher
from muster.errors import DiscoveryError, NotRegisteredError
from muster.names import encode_file_name

__all__ = ["DEFAULT_DIRECTORY", "FileDiscovery"]

DEFAULT_DIRECTORY = "dynamo_store_kv"
"""Name of the registry in the temporary directory: where Dynamo 1.6.1 looks too."""
_MAX_NAME_BYTES = 255


class FileDiscovery:
    """One process on a directory; see ``Discovery`` for the contract.

    Making it costs nothing: threads start and directories appear with the first call. From then on
    until it is closed, a normal end of the interpreter (also by an unhandled exception) removes
    this process's records; a forked child neither refreshes nor removes them.

    Args:
        settings: ``file_root`` (absolute or relative to the working directory; by default
            ``dynamo_store_kv`` in ``temporary_directory``), ``file_ttl_s`` and ``poll_interval_s``.
        clock: The times.
    """

    def __init__(self, settings: DiscoverySettings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._instance_id = secrets.randbelow((1 << 64) - 1) + 1
        # Re-entrant, because an exit handler may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._views: dict[str, BucketView] = {}
        self._owned = OwnedRecords()
        self._keeper = LeaseKeeper(
            self._owned.refresh, interval_s=refresh_interval(settings.file_ttl_s)
        )
        self._watcher = ViewWatcher(poll_interval_s=settings.poll_interval_s, clock=clock)
        self._owner_pid = 0
        self._closed = False

    @property
    def instance_id(self) -> int:
        """The u64 identity of this lease, never 0."""
        return self._instance_id

    async def register(self, bucket: str, key: str, value: bytes, *, create: bool = False) -> None:
        """Write a record; see ``Discovery.register``.

        A key whose file name is over 255 bytes (each byte but ASCII letters and digits takes three)
        is refused with a ``DiscoveryError``.
        """
        check_record(key, value)
        name = _file_name(key)
        await asyncio.to_thread(self._register, check_bucket(bucket), name, value, create)

    def _register(self, bucket: str, name: str, value: bytes, create: bool) -> None:
        view = self._view(bucket)
        if create:
            # A leftover whose lease has run out is removed by looking at it.
            view.look([name])
        self._owned.claim(view.directory, name, value, create=create)
        view.look([name])

    async def deregister(self, bucket: str, key: str) -> None:
        """Remove a record of this process; see ``Discovery.deregister``."""
        check_bucket(bucket)
        await asyncio.to_thread(self._deregister, bucket, key)

    def _deregister(self, bucket: str, key: str) -> None:
        view = self._view(bucket)
        try:
            name = _file_name(key)
        except DiscoveryError as error:
            raise NotRegisteredError(f"{key!r} was not registered by this process") from error
        try:
            self._owned.release(view.directory, name)
        finally:
            view.look([name])

    async def list(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Live records by key; see ``Discovery.list``."""
        check_bucket(bucket)
        return await asyncio.to_thread(lambda: self._view(bucket).records(prefix))

    @contextlib.asynccontextmanager
    async def watch(self, bucket: str, prefix: str = "") -> AsyncIterator[Watch]:
        """Watch the keys under ``prefix``; see ``Discovery.watch``."""
        check_bucket(bucket)
        feed = Feed(prefix)
        try:
            await asyncio.to_thread(self._subscribe, bucket, feed)
            yield feed
        finally:
            feed.end()

    def _subscribe(self, bucket: str, feed: Feed) -> None:
        self._view(bucket).subscribe(feed)
        self._watcher.wake()

    def staleness(self) -> Staleness | None:
        """Since when, and why, the directory cannot be read; see ``Discovery.staleness``."""
        return self._watcher.staleness

    async def close(self) -> None:
        """Remove this process's records and stop; idempotent."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Remove this process's records and stop, without an event loop.

        Idempotent and safe from any thread; a second caller waits until the first is done. May be
        called by a signal handler, also one that interrupts this very call.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._owner_pid != os.getpid():
                # Never used, or a forked child: the records are the parent's.
                return
            atexit.unregister(self.close_now)
            self._owned.release_all()
            self._keeper.stop()
            self._watcher.stop()
            for view in self._views.values():
                view.end()

    def _view(self, bucket: str) -> BucketView:
        """The bucket's view; the first one starts the threads.

        Raises:
            DiscoveryError: If the registry is closed.
        """
        with self._lock:
            if self._closed:
                raise DiscoveryError("the registry is closed")
            view = self._views.get(bucket)
            if view is None:
                view = self._views[bucket] = BucketView(
                    RecordDirectory(f"{self._root()}/{bucket}"),
                    ttl_s=self._settings.file_ttl_s,
                    clock=self._clock,
                    is_own=self._owned.owns,
                )
                self._watcher.add(view)
            if not self._owner_pid:
                self._start()
            return view

    def _start(self) -> None:
        self._owner_pid = os.getpid()
        atexit.register(self.close_now)
        self._keeper.start()
        self._watcher.start()

    def _root(self) -> str:
        settings = self._settings
        root = settings.file_root or settings.temporary_directory / DEFAULT_DIRECTORY
        return str(root.absolute())


def _file_name(key: str) -> str:
    """The file name of a key we may write.

    Raises:
        DiscoveryError: If it is too long for a file name, or the key is not valid Unicode.
    """
    try:
        name = encode_file_name(key)
    except UnicodeEncodeError as error:
        raise DiscoveryError(f"the key {key!r} is not valid Unicode: {error}") from error
    if len(name) > _MAX_NAME_BYTES:
        raise DiscoveryError(
            f"the key {key!r} makes a file name of {len(name)} bytes; {_MAX_NAME_BYTES} is the limit",
            hint="use shorter names, or another registry",
        )
    return name
