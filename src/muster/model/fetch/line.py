"""One staged file, and the places that fill it one after another until it is complete and right."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from muster.clock import Clock
from muster.config.settings import FetchSettings
from muster.content.claim import Claim
from muster.content.offload import SharedThreads
from muster.content.store_protocol import Staged
from muster.digest import Digest
from muster.errors import (
    ContentError,
    DigestMismatchError,
    SourceBusyError,
    SourceError,
    StoreError,
    TooLargeError,
)
from muster.model.fetch.candidates import Candidate
from muster.model.fetch.gate import TrustGate
from muster.model.fetch.http_source import HttpSource
from muster.model.fetch.local_source import LocalSource
from muster.model.fetch.pace import Pace
from muster.model.fetch.place import HttpPlace, LocalPlace
from muster.model.fetch.plan import PlannedFile
from muster.model.fetch.reporter import Reporter
from muster.model.fetch.resolved import FetchState
from muster.model.fetch.scoreboard import Scoreboard

__all__ = ["Blob", "Line", "Sources", "StageFile", "Turn"]

_RESUMES = 3
"""How often one place that broke off is asked to go on."""
_BUSY_ROUNDS = 5
"""How often one place that is busy is asked again."""


class Blob(NamedTuple):
    """Verified bytes on this host."""

    path: Path
    size_bytes: int


class StageFile(Protocol):
    """Starts to store a blob; see ``BlobStore.stage``."""

    def __call__(self, digest: Digest, *, cap_bytes: int, source: str) -> Staged:
        """Start; nothing is written yet."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What all downloads of a fetcher share."""

    http: HttpSource
    local: LocalSource
    gate: TrustGate
    scores: Scoreboard
    disk: SharedThreads
    settings: FetchSettings
    clock: Clock


@dataclasses.dataclass(slots=True, eq=False)
class Turn:
    """A place waiting to be asked. ``alone``: into an empty file only."""

    candidate: Candidate
    alone: bool = False
    resumes: int = 0
    refusals: int = 0
    not_before: float = 0.0


class Line:
    """One staged file, and who has filled it so far."""

    def __init__(
        self,
        planned: PlannedFile,
        sources: Sources,
        stage: StageFile,
        reporter: Reporter,
        claim: Claim | None,
    ) -> None:
        self._file = planned.file
        self._sources = sources
        self._stage = stage
        self._reporter = reporter
        self._claim = claim
        self._staged: Staged | None = None
        self._last = b""  # what completes the file: written when it is committed, in one step
        self._givers: list[Turn] = []
        self._pace = Pace(sources.clock.monotonic(), min_rate=sources.settings.min_rate)
        settings_cap = sources.settings.max_file_bytes
        size = planned.file.size
        self._cap_bytes = settings_cap if size is None else min(size, settings_cap)

    def is_lagging(self) -> bool:
        """See ``Pace.is_lagging``."""
        size, staged = self._file.size, self._staged
        missing = None if size is None or staged is None else size - self._size_bytes
        return self._pace.is_lagging(
            self._sources.clock.monotonic(),
            patience_s=self._sources.settings.hedge_s or 3.0,
            missing_bytes=missing,
        )

    async def run(
        self, turns: collections.deque[Turn], errors: list[ContentError]
    ) -> Blob | StoreError | None:
        """The file, ``None`` if nobody is left to ask, or why storing it failed."""
        try:
            while turns:
                turn = turns.popleft()
                await self._wait_for(turn)
                blob = await self._ask(turn, turns, errors)
                if blob is not None:
                    return blob
        except StoreError as error:
            return error
        finally:
            await self._drop()
        return None

    async def _wait_for(self, turn: Turn) -> None:
        pause_s = turn.not_before - self._sources.clock.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    async def _ask(
        self, turn: Turn, turns: collections.deque[Turn], errors: list[ContentError]
    ) -> Blob | None:
        """One place's turn: the file, if that completes it."""
        source = turn.candidate.place.source
        before = 0 if turn.alone else self._size_bytes
        now = self._sources.clock.monotonic
        began = now()
        try:
            place = await self._sources.gate.admit(turn.candidate)
            await self._pull(place, turn)
            blob = await self._commit()
        except StoreError:
            raise
        except SourceBusyError as error:
            self._sources.scores.failed(source, now=now(), retry_after_s=error.retry_after_s)
            turn.refusals += 1
            turn.not_before = now() + error.retry_after_s
            if turn.refusals <= _BUSY_ROUNDS:
                turns.append(turn)
            if turn.refusals == 1 or turn.refusals > _BUSY_ROUNDS:
                errors.append(error)
        except ContentError as error:
            gave = turn in self._givers
            if isinstance(error, DigestMismatchError) or (
                gave and isinstance(error, TooLargeError)
            ):
                await self._blame(turns, errors, error)
                return None
            self._sources.scores.failed(source, now=now())
            errors.append(error)
            if self._is_full():  # all its bytes are here, however it ended
                return await self._settle(turns, errors)
            if gave and turn.resumes < _RESUMES:
                turn.resumes += 1
                turns.append(turn)
        else:
            self._sources.scores.succeeded(
                source, size_bytes=blob.size_bytes - before, seconds=now() - began
            )
            return blob
        return None

    async def _pull(self, place: HttpPlace | LocalPlace, turn: Turn) -> None:
        """Append what ``place`` has from where the staged file ends."""
        if turn.alone:
            await self._drop()
        if self._staged is None:
            self._staged = self._stage(
                self._file.checksum, cap_bytes=self._cap_bytes, source=str(place)
            )
        staged = self._staged
        now = self._sources.clock.monotonic
        self._pace = Pace(now(), min_rate=self._sources.settings.min_rate)
        self._reporter.tell(FetchState.FETCHING, done_bytes=staged.size_bytes, place=str(place))
        async with self._open(place, staged.size_bytes) as body:
            async for piece in body:
                if turn not in self._givers:
                    self._givers.append(turn)
                await self._append(staged, piece)
                self._pace.note(len(piece), now())
                if self._claim is not None:
                    self._claim.beat()
                self._reporter.tell(FetchState.FETCHING, done_bytes=self._size_bytes)
                if self._pace.is_too_slow(now()):
                    least = self._sources.settings.min_rate
                    turn.resumes = _RESUMES  # asking it to go on would be as slow
                    raise SourceError(
                        f"{place} gave less than {least} bytes a second",
                        hint="MUSTER_FETCH_MIN_RATE sets the least",
                    )

    async def _append(self, staged: Staged, piece: bytes) -> None:
        """Write ``piece``, or keep it for the commit if it is the last one."""
        before, self._last = self._last, b""
        if before:  # more comes than the card says
            await self._sources.disk.run_to_end(staged.write, before)
        if staged.size_bytes + len(piece) == self._file.size and self._file.size <= self._cap_bytes:
            self._last = piece
        else:
            await self._sources.disk.run_to_end(staged.write, piece)

    @property
    def _size_bytes(self) -> int:
        """Bytes that are here."""
        return 0 if self._staged is None else self._staged.size_bytes + len(self._last)

    def _open(
        self, place: HttpPlace | LocalPlace, start: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        wanted = self._file.checksum
        if isinstance(place, HttpPlace):
            return self._sources.http.open(
                place, digest=wanted, start=start, cap_bytes=self._cap_bytes
            )
        return self._sources.local.open(
            place, digest=wanted, start=start, cap_bytes=self._cap_bytes
        )

    async def _commit(self) -> Blob:
        staged = self._staged
        assert staged is not None  # noqa: S101 - something was pulled into it
        size_bytes, last = self._size_bytes, self._last
        self._last = b""
        self._reporter.tell(FetchState.VERIFYING, done_bytes=size_bytes)

        def finish() -> Path:
            if last:
                staged.write(last)
            # What was fetched can be fetched again; a sync takes longer than many a file's way here.
            path = staged.commit(durable=False)
            if self._claim is not None:
                self._claim.release()
            return path

        return Blob(await self._sources.disk.run_to_end(finish), size_bytes)

    def _is_full(self) -> bool:
        """Whether as many bytes are here as the card says the file has."""
        return self._staged is not None and self._size_bytes == self._file.size

    async def _settle(
        self, turns: collections.deque[Turn], errors: list[ContentError]
    ) -> Blob | None:
        """The file, if what is staged is right as it is."""
        try:
            return await self._commit()
        except DigestMismatchError as error:
            await self._blame(turns, errors, error)
            return None

    async def _blame(
        self, turns: collections.deque[Turn], errors: list[ContentError], error: ContentError
    ) -> None:
        """Wrong bytes: the one who gave them all is bad; of several, each has to show it alone."""
        givers = list(self._givers)
        await self._drop()
        if len(givers) > 1:
            for giver in givers:
                giver.alone = True
                turns.append(giver)
            return
        for giver in givers:
            now = self._sources.clock.monotonic()
            self._sources.scores.failed(giver.candidate.place.source, now=now)
        errors.append(error)

    async def _drop(self) -> None:
        """Throw away what is staged."""
        staged, self._staged, self._last = self._staged, None, b""
        self._givers.clear()
        if staged is not None and not staged.has_ended:
            await self._sources.disk.run_to_end(staged.discard)
