"""From a card to its files on this host: look in the cache, fetch, verify, keep, link.

Every file goes the same way whatever its place. What is in the store needs no network at all. What
is not is streamed into it, capped and hashed on the way, and is never used before its digest is
right. Typed slots must arrive; an extra file that cannot is reported and left out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import FetchSettings
from muster.content.offload import run_to_end
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError, SourceError, StoreError
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.candidates import Offer, Surroundings, offers_of
from muster.model.fetch.file_fetcher import FileFetcher
from muster.model.fetch.line import Blob
from muster.model.fetch.plan import FetchPlan, PlannedFile, left_out_for, plan_fetch
from muster.model.fetch.replica import Replica
from muster.model.fetch.reporter import OnProgress, Reporter
from muster.model.fetch.resolved import (
    FetchProgress,
    FetchState,
    LeftOut,
    ResolvedCard,
    ResolvedFile,
)

__all__ = ["CardFetcher"]

logger = logging.getLogger(__name__)

_Outcome = ResolvedFile | LeftOut


class CardFetcher:
    """Fetches cards into one store. One event loop; any number of cards at a time.

    Use with ``async with``, or ``close`` it.

    Args:
        store: Where files are kept.
        settings: Deadlines, limits and trust.
        model_path: Directory to take a file from, by name, when its own place does not give it.
        token: Sent to workers, and to nobody else.
        hub_roots: Caches of a model hub on this host, for files the card says are on the hub.
        clock: Times what is reported.
        chance: Shuffles equal sources.

    Raises:
        ConfigError: A setting of whom to trust makes no sense.
    """

    def __init__(
        self,
        store: BlobStore,
        settings: FetchSettings,
        *,
        model_path: Path | None = None,
        token: str | None = None,
        hub_roots: Sequence[Path] = (),
        clock: Clock = SYSTEM_CLOCK,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._files = FileFetcher(
            store,
            settings,
            Surroundings(
                model_path=model_path, hub_roots=tuple(hub_roots), hub_url=settings.hub_url
            ),
            token=token,
            clock=clock,
            chance=chance or random.Random(),  # noqa: S311 - spreads load, keeps no secret
        )

    async def __aenter__(self) -> CardFetcher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def warm_up(self) -> None:
        """Load what fetching over http takes: for who will fetch sooner or later and has time now."""
        await self._files.warm_up()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._files.close()

    async def resolve(
        self, replicas: Sequence[Replica], on_progress: OnProgress | None = None
    ) -> ResolvedCard:
        """Bring all files of the first replica's card here.

        Files come in parallel, up to the setting, and all within the card's deadline; each from
        whichever replica gives it. When it is cancelled or fails, files that are complete stay in
        the store and nothing else is left. Resolving one card in several tasks or processes at once
        is safe, and fetches each file once.

        Args:
            replicas: The card to resolve, as read from the registry, then others whose files may
                do; at least one.
            on_progress: Called in the event loop at each step of each file; must not raise.

        Raises:
            ContentError: A typed slot's file cannot be had (``SourceError``), may not be fetched
                from where the cards say (``UntrustedSourceError``), is not what the card says
                (``DigestMismatchError``, ``TooLargeError``), or has an unsafe name.
        """
        started = self._clock.monotonic()
        card = replicas[0].card
        plan = plan_fetch(card, self._settings)
        outcomes = await self._fetch_all(plan.files, replicas, on_progress or _ignore)
        mdcsum = card.mdcsum()
        local_dir = await self._link(card, plan, outcomes)
        files = _present(plan, outcomes, local_dir)
        resolved = ResolvedCard(
            card=_localised(card, plan, files),
            mdcsum=mdcsum,
            local_dir=local_dir,
            files=files,
            left_out=(*plan.left_out, *(each for each in outcomes if isinstance(each, LeftOut))),
            seconds=self._clock.monotonic() - started,
        )
        _log(card, resolved)
        return resolved

    async def _link(
        self, card: ModelDeploymentCard, plan: FetchPlan, outcomes: Sequence[_Outcome]
    ) -> Path | None:
        """The view of the files that are here; ``None`` if the disk has not got them all."""
        present = [each for each in outcomes if isinstance(each, ResolvedFile)]
        if any(each.path != self._store.blob_path(each.digest) for each in present):
            return None
        try:
            return await run_to_end(
                self._store.link_view,
                card.slug,
                card.mdcsum(),
                _links(plan, outcomes),
                listed=plan.listed,
            )
        except StoreError as error:
            logger.warning(
                "no view of a model's files can be made; they are used as they lie",
                extra=facts(model=card.display_name, reason=error.message),
            )
            return None

    async def _fetch_all(
        self, files: Sequence[PlannedFile], replicas: Sequence[Replica], on_progress: OnProgress
    ) -> list[_Outcome]:
        """Fetch ``files``; the first typed slot that fails stops the rest."""
        gate = asyncio.Semaphore(self._settings.parallel)
        deadline = asyncio.get_running_loop().time() + self._settings.card_timeout_s
        cached = await self._files.find_cached(files)
        offers = offers_of(replicas) if len(cached) < len(files) else []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._fetch(
                            each,
                            cached.get(each.file.checksum),
                            offers,
                            gate,
                            deadline,
                            Reporter(each, on_progress, self._clock),
                        )
                    )
                    for each in files
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _fetch(
        self,
        planned: PlannedFile,
        cached: Blob | None,
        offers: Sequence[Offer],
        gate: asyncio.Semaphore,
        deadline: float,
        reporter: Reporter,
    ) -> _Outcome:
        if cached is not None:
            reporter.tell(FetchState.CACHED, done_bytes=cached.size_bytes)
            return _resolved(planned, cached, fetched=False)
        try:
            blob, is_ours = await self._in_time(planned, offers, gate, deadline, reporter)
            return _resolved(planned, blob, fetched=is_ours)
        except ContentError as error:
            reporter.tell(FetchState.FAILED, code=error.code, reason=error.message)
            if planned.required:
                raise
            return left_out_for(planned.file, error)

    async def _in_time(
        self,
        planned: PlannedFile,
        offers: Sequence[Offer],
        gate: asyncio.Semaphore,
        deadline: float,
        reporter: Reporter,
    ) -> tuple[Blob, bool]:
        try:
            async with asyncio.timeout_at(deadline), gate:
                return await self._files.fetch(planned, offers, reporter)
        except TimeoutError as error:
            limit = self._settings.card_timeout_s
            raise SourceError(
                f"{planned.name!r} was not here after {limit:g} s, the limit for a card",
                hint="see whether its worker is slow; MUSTER_FETCH_CARD_SECS sets the limit",
            ) from error


def _resolved(planned: PlannedFile, blob: Blob, *, fetched: bool) -> ResolvedFile:
    return ResolvedFile(
        name=planned.name,
        path=blob.path,
        digest=planned.file.checksum,
        size_bytes=blob.size_bytes,
        role=planned.role,
        fetched=fetched,
    )


def _ignore(progress: FetchProgress) -> None:
    """Report to nobody."""


def _links(plan: FetchPlan, outcomes: Sequence[_Outcome]) -> dict[str, Digest]:
    """What each name in the view stands for."""
    return {
        planned.name: outcome.digest
        for planned, outcome in zip(plan.files, outcomes, strict=True)
        if planned.linked and isinstance(outcome, ResolvedFile)
    }


def _present(
    plan: FetchPlan, outcomes: Sequence[_Outcome], local_dir: Path | None
) -> tuple[ResolvedFile, ...]:
    """The files that are here, by their paths in the view if they have one."""
    return tuple(
        msgspec.structs.replace(outcome, path=local_dir / planned.name)
        if planned.linked and local_dir is not None
        else outcome
        for planned, outcome in zip(plan.files, outcomes, strict=True)
        if isinstance(outcome, ResolvedFile)
    )


def _localised(
    card: ModelDeploymentCard, plan: FetchPlan, files: Sequence[ResolvedFile]
) -> ModelDeploymentCard:
    """``card`` with every file that is here at its local path, and without the others."""
    paths = {(file.name, file.digest): file.path for file in files}
    places = {
        planned.file: path
        for planned in plan.files
        if (path := paths.get((planned.name, planned.file.checksum))) is not None
    }
    extra_files = tuple(file for file in card.extra_files if file in places)
    present = msgspec.structs.replace(card, extra_files=extra_files)
    return present.replace_files(lambda file: file.with_path(places[file]))


def _log(card: ModelDeploymentCard, resolved: ResolvedCard) -> None:
    for left in resolved.left_out:
        logger.warning(
            "extra file left out",
            extra=facts(
                model=card.display_name, file=left.name, code=left.code, reason=left.message
            ),
        )
    logger.info(
        "model files resolved",
        extra=facts(
            model=card.display_name,
            mdcsum=resolved.mdcsum,
            files=len(resolved.files),
            fetched=sum(file.fetched for file in resolved.files),
            left_out=len(resolved.left_out),
            directory=resolved.local_dir or "none",
            seconds=round(resolved.seconds, 3),
        ),
    )
