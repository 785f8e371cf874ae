"""One file's way here: the cache, else somebody else's download of it, else a download of our own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from muster.clock import Clock
from muster.config.settings import FetchSettings
from muster.content.claim import Claim
from muster.content.disk import store_errors
from muster.content.memory_store import MemoryStore
from muster.content.offload import SharedThreads, run_to_end
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError, SourceError, StoreError
from muster.log import facts
from muster.model.checked_file import CheckedFile
from muster.model.fetch.candidates import (
    Candidate,
    Offer,
    Surroundings,
    find_candidates,
    in_order,
)
from muster.model.fetch.download import Download
from muster.model.fetch.gate import TrustGate
from muster.model.fetch.http_source import HttpSource
from muster.model.fetch.line import Blob, Sources, StageFile
from muster.model.fetch.local_source import LocalSource
from muster.model.fetch.plan import PlannedFile
from muster.model.fetch.reporter import Reporter
from muster.model.fetch.resolved import FetchState
from muster.model.fetch.scoreboard import Scoreboard

__all__ = ["FileFetcher"]

logger = logging.getLogger(__name__)

_OTHERS_S = 15.0
"""How long another process is left to download a file before it is downloaded here, too."""
_POLL_S = 0.05
_ANOTHER_PROCESS = "another process of this host"


class FileFetcher:
    """Brings files into one store, or into memory where the store's disk does not take them.

    Args:
        store: Where files are kept.
        settings: Deadlines, limits and trust.
        around: This process's own directories and hub.
        token: Sent to workers.
        clock: Times scores and reports.
        chance: Shuffles equal sources.
    """

    def __init__(
        self,
        store: BlobStore,
        settings: FetchSettings,
        around: Surroundings,
        *,
        token: str | None,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        own_roots = [path for path in (around.model_path, *around.hub_roots) if path is not None]
        self._store = store
        self._memory = MemoryStore()
        self._around = around
        self._chance = chance
        self._disk = SharedThreads()
        self._sources = Sources(
            http=HttpSource(settings, token=token, clock=clock),
            local=LocalSource(idle_timeout_s=settings.idle_timeout_s),
            gate=TrustGate(settings, own_roots, clock=clock),
            scores=Scoreboard(),
            disk=self._disk,
            settings=settings,
            clock=clock,
        )
        self._flights: dict[Digest, _Flight] = {}

    async def warm_up(self) -> None:
        """See ``HttpSource.warm_up`` and ``TrustGate.warm_up``."""
        await self._sources.http.warm_up()
        await self._sources.gate.warm_up()

    async def close(self) -> None:
        """Close all connections and forget what is in memory; idempotent."""
        await self._sources.http.close()
        self._memory.close()

    async def find_cached(self, files: Sequence[PlannedFile]) -> dict[Digest, Blob]:
        """Those of ``files`` that are here already, verified; one hop to a thread for all."""

        def look() -> dict[Digest, Blob]:
            found = ((each.file.checksum, self._find(each.file.checksum)) for each in files)
            return {digest: blob for digest, blob in found if blob is not None}

        return await run_to_end(look)

    async def fetch(
        self, planned: PlannedFile, offers: Sequence[Offer], reporter: Reporter
    ) -> tuple[Blob, bool]:
        """Get a file that is not here from the first of its places that gives the right bytes.

        Places that may not be asked, or that we cannot read, matter only if nobody else has it.
        Of several tasks and processes of this host that want it, one reports it as verified; it was
        in the cache for the others, which have waited for that.

        Returns:
            The file, and whether it was downloaded here.

        Raises:
            ContentError: Nobody gave it; the message has every place's reason.
            StoreError: It can be kept neither on the disk nor in memory.
        """
        blob, place, is_ours = await self._have_fetched(planned, offers, reporter)
        state = FetchState.VERIFIED if is_ours else FetchState.CACHED
        reporter.tell(state, done_bytes=blob.size_bytes, place=place)
        return blob, is_ours

    async def _have_fetched(
        self, planned: PlannedFile, offers: Sequence[Offer], reporter: Reporter
    ) -> tuple[Blob, str, bool]:
        """The file, where it came from, and whether by us: whoever of this host is first does it."""
        digest = planned.file.checksum
        flight = self._flights.get(digest)
        if flight is not None:
            # What another card's places give is as good, as long as they are not slow.
            await flight.wait_while_it_moves()
            blob = await self._look(digest)
            if blob is not None:
                return blob, flight.place, False
            if digest in self._flights:
                turn = await self._disk.run_to_end(self._without_claim, planned.file)
                blob = await self._download(planned, offers, reporter, _Flight(), turn)
                return blob, reporter.place, True
        flight = self._flights[digest] = _Flight()
        try:
            async with self._wait_turn(planned.file) as turn:
                if turn.blob is not None:
                    flight.place = _ANOTHER_PROCESS
                    return turn.blob, flight.place, False
                blob = await self._download(planned, offers, reporter, flight, turn)
                flight.place = reporter.place
                return blob, flight.place, True
        finally:
            del self._flights[digest]
            flight.done.set()

    @asynccontextmanager
    async def _wait_turn(self, file: CheckedFile) -> AsyncIterator[_Turn]:
        """Wait while another process of this host downloads it: for its blob, or for our turn."""
        deadline = self._sources.clock.monotonic() + _OTHERS_S
        held: list[Claim] = []  # filled in the thread: a cancelled task must release it, too

        def claim_and_look() -> _Turn | None:
            """Claim it if nobody has, then look whether somebody was faster; blocks."""
            claim = self._store.claim(file.checksum)
            if claim is not None:
                held.append(claim)
            blob = self._find(file.checksum)
            if blob is not None:
                return _Turn(blob=blob)
            return _Turn(claim=claim, no_room=self._no_room(file)) if claim is not None else None

        try:
            turn = await self._disk.run_to_end(claim_and_look)
            while turn is None and self._sources.clock.monotonic() < deadline:
                await asyncio.sleep(_POLL_S)
                turn = await self._disk.run_to_end(claim_and_look)
            if turn is None:
                turn = await self._disk.run_to_end(self._without_claim, file)
            yield turn
        finally:
            for claim in held:
                if not claim.is_released:
                    await self._disk.run_to_end(claim.release)

    def _without_claim(self, file: CheckedFile) -> _Turn:
        """To download what somebody else is downloading, too slowly; blocks."""
        return _Turn(no_room=self._no_room(file))

    def _no_room(self, file: CheckedFile) -> StoreError | None:
        """Make room for it; blocks."""
        try:
            self._store.make_room(file.size or 0)
        except StoreError as error:
            return error
        return None

    async def _download(
        self,
        planned: PlannedFile,
        offers: Sequence[Offer],
        reporter: Reporter,
        flight: _Flight,
        turn: _Turn,
    ) -> Blob:
        found = find_candidates(planned.file, offers, self._around)
        candidates = await self._ordered(found.places)

        async def attempt(stage: StageFile) -> Blob:
            download = Download(planned, candidates, self._sources, stage, reporter, turn.claim)
            flight.download = download
            blob = await download.run()
            if blob is None:
                raise _joined([*download.errors, *found.refused], planned)
            return blob

        try:
            if turn.no_room is not None:
                raise turn.no_room
            return await attempt(self._store.stage)
        except StoreError as error:
            logger.warning(
                "the cache cannot take a file; it is kept in memory",
                extra=facts(file_name=planned.name, reason=error.message),
            )
            return await attempt(self._memory.stage)

    async def _ordered(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        near = {each.place: await self._sources.gate.is_near(each.place) for each in candidates}
        now = self._sources.clock.monotonic()
        return in_order(
            candidates,
            is_resting=lambda source: self._sources.scores.is_resting(source, now),
            is_near=lambda each: near[each.place],
            chance=self._chance,
        )

    async def _look(self, digest: Digest) -> Blob | None:
        return await self._disk.run_to_end(self._find, digest)

    def _find(self, digest: Digest) -> Blob | None:
        """What the store or, failing that, memory has; blocks."""
        try:
            path = self._store.find(digest)
        except StoreError as error:
            logger.debug("the cache cannot be read", extra=facts(reason=error.message))
            path = None
        path = path or self._memory.find(digest)
        if path is None:
            return None
        with store_errors(f"cannot read {path}"):
            return Blob(path, path.stat().st_size)


class _Turn(NamedTuple):
    """To download a file: with a claim on it, or without. Or the file, if it has come meanwhile."""

    blob: Blob | None = None
    claim: Claim | None = None
    no_room: StoreError | None = None


class _Flight:
    """A download that others of this process wait for."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.download: Download | None = None
        self.place = ""

    async def wait_while_it_moves(self) -> None:
        """Return when it is over, or lags."""
        while not self.done.is_set():
            try:
                async with asyncio.timeout(_POLL_S):
                    await self.done.wait()
            except TimeoutError:
                if self.download is not None and self.download.is_lagging():
                    return


def _joined(errors: Sequence[ContentError], planned: PlannedFile) -> ContentError:
    """The first error, with the others' messages added."""
    if not errors:
        return SourceError(f"nobody has {planned.name!r} ({planned.file.checksum})")
    if len(errors) == 1:
        return errors[0]
    message = "; ".join(dict.fromkeys(error.message for error in errors))
    first = errors[0]
    joined = type(first).__new__(type(first))  # its class and what belongs to it stay
    joined.__dict__.update(first.__dict__)
    joined.message = message
    joined.args = (message,)
    joined.hint = next((error.hint for error in errors if error.hint), "")
    return joined
