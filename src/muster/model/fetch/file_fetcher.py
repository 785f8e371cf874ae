"""One file's way into the store: the cache, then each place in turn, capped and hashed on the way."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from muster.clock import Clock
from muster.config.settings import FetchSettings
from muster.content.disk import store_errors
from muster.content.offload import run_to_end
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError, StoreError
from muster.model.fetch.http_source import HttpSource
from muster.model.fetch.local_source import LocalSource
from muster.model.fetch.plan import PlannedFile
from muster.model.fetch.resolved import FetchProgress, FetchState, ResolvedFile
from muster.model.fetch.source import FileSource, HttpPlace, Place, places

__all__ = ["FileFetcher", "OnProgress", "Reporter"]

OnProgress = Callable[[FetchProgress], None]


class _Blob(NamedTuple):
    path: Path
    size_bytes: int


class Reporter:
    """Tells how one file is getting on; times it from the first thing told."""

    def __init__(self, planned: PlannedFile, on_progress: OnProgress, clock: Clock) -> None:
        self._planned = planned
        self._on_progress = on_progress
        self._clock = clock
        self._started = clock.monotonic()
        self._done_bytes = 0
        self._place = ""

    def tell(
        self,
        state: FetchState,
        *,
        done_bytes: int | None = None,
        place: str | None = None,
        reason: str = "",
    ) -> None:
        """Report ``state``; bytes and place are the last known ones unless given."""
        self._done_bytes = self._done_bytes if done_bytes is None else done_bytes
        self._place = self._place if place is None else place
        self._on_progress(
            FetchProgress(
                name=self._planned.name,
                digest=self._planned.file.checksum,
                state=state,
                done_bytes=self._done_bytes,
                total_bytes=self._planned.file.size,
                seconds=self._clock.monotonic() - self._started,
                required=self._planned.required,
                place=self._place,
                reason=reason,
            )
        )


class FileFetcher:
    """Brings files into one store.

    Args:
        store: Where files are kept.
        settings: Deadlines and limits.
        model_path: Directory to take a file from, by name, when its own place does not give it.
    """

    def __init__(
        self, store: BlobStore, settings: FetchSettings, *, model_path: Path | None
    ) -> None:
        self._store = store
        self._settings = settings
        self._model_path = model_path
        self._http = HttpSource(settings)
        self._local = LocalSource(idle_timeout_s=settings.idle_timeout_s)
        self._downloads: weakref.WeakValueDictionary[tuple[Digest, Place], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._http.close()

    async def fetch(self, planned: PlannedFile, reporter: Reporter) -> ResolvedFile:
        """Get a file from the store, or from the first of its places that gives the right bytes.

        A place of a kind we cannot read matters only if the store has not got the file.

        Raises:
            ContentError: No place gave it; the message has every place's reason.
            StoreError: The store cannot be used.
        """
        blob = await run_to_end(self._look, planned.file.checksum)
        if blob is not None:
            reporter.tell(FetchState.CACHED, done_bytes=blob.size_bytes)
            return _resolved(planned, blob, fetched=False)
        errors: list[ContentError] = []
        for place in places(planned.file, model_path=self._model_path):
            try:
                blob = await self._once(place, planned, reporter)
            except StoreError:
                raise
            except ContentError as error:
                errors.append(error)
            else:
                reporter.tell(FetchState.VERIFIED, done_bytes=blob.size_bytes)
                return _resolved(planned, blob, fetched=True)
        raise _joined(errors)

    async def _once(self, place: Place, planned: PlannedFile, reporter: Reporter) -> _Blob:
        """Download, unless another task is getting the same from the same place: then wait for it.

        Per place, so that a slow place of one card cannot hold up another card's good one.
        """
        digest = planned.file.checksum
        lock = self._downloads.setdefault((digest, place), asyncio.Lock())
        waited = lock.locked()
        async with lock:
            if waited and (blob := await run_to_end(self._look, digest)) is not None:
                return blob
            return await self._download(place, planned, reporter)

    async def _download(self, place: Place, planned: PlannedFile, reporter: Reporter) -> _Blob:
        source: FileSource = self._http if isinstance(place, HttpPlace) else self._local
        cap_bytes = self._settings.max_file_bytes
        if planned.file.size is not None:
            cap_bytes = min(planned.file.size, cap_bytes)
        staged = self._store.stage(planned.file.checksum, cap_bytes=cap_bytes, source=str(place))
        reporter.tell(FetchState.FETCHING, done_bytes=0, place=str(place))
        try:
            async with source.open(place, cap_bytes=cap_bytes) as body:
                async for piece in body:
                    await run_to_end(staged.write, piece)
                    reporter.tell(FetchState.FETCHING, done_bytes=staged.size_bytes)
            return _Blob(await run_to_end(staged.commit), staged.size_bytes)
        finally:
            if not staged.has_ended:
                await run_to_end(staged.discard)

    def _look(self, digest: Digest) -> _Blob | None:
        """What the store has; blocks."""
        path = self._store.find(digest)
        if path is None:
            return None
        with store_errors(f"cannot read {path}"):
            return _Blob(path, path.stat().st_size)


def _resolved(planned: PlannedFile, blob: _Blob, *, fetched: bool) -> ResolvedFile:
    return ResolvedFile(
        name=planned.name,
        path=blob.path,
        digest=planned.file.checksum,
        size_bytes=blob.size_bytes,
        required=planned.required,
        fetched=fetched,
    )


def _joined(errors: list[ContentError]) -> ContentError:
    """The first error, with the others' messages added."""
    if len(errors) == 1:
        return errors[0]
    message = "; ".join(error.message for error in errors)
    return type(errors[0])(message, hint=errors[0].hint)
