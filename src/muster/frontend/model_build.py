"""Make a registered model ready to answer requests: fetch and verify its files, and load them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from muster.errors import CardError, ContentError
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.decision import Build
from muster.model.catalog.group import Member
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.resolved import FetchProgress, FetchState, ResolvedCard
from muster.model.model_type import ModelInput, ModelType

__all__ = ["BuildProgress", "BuiltModel", "build_model"]

logger = logging.getLogger(__name__)


class BuildProgress(msgspec.Struct, frozen=True):
    """How far a build is: so many of its files are settled; with all of them there, it loads."""

    files_done: int
    files_total: int
    loading: bool = False


class BuiltModel(msgspec.Struct, frozen=True):
    """A card and what was loaded from its files."""

    card: ModelDeploymentCard
    preprocessor: Preprocessor


async def build_model(
    build: Build, fetcher: CardFetcher, note: Callable[[BuildProgress], None]
) -> BuiltModel:
    """Fetch the card's files from the first member that gives them, and load them off the loop.

    Args:
        build: What to build.
        fetcher: Fetches and verifies.
        note: Called on the event loop as the build gets on.

    Raises:
        CardError: Nothing can be served from this card, or one of its files makes no sense.
        ContentError: No member's files can be had; says why the first one's cannot.
    """
    card = build.members[0].card
    if card.model_input is not ModelInput.Tokens:
        raise CardError(
            f"workers that take {card.model_input.name} are not served by this version",
            hint="register the model with ModelInput.Tokens",
        )
    if not card.model_type & (ModelType.Chat | ModelType.Completions):
        raise CardError(f"no surface served here: {card.model_type or 'none'}")
    resolved = await _resolve(build, fetcher, note)
    total = sum(1 for _ in resolved.card.iter_metadata_files())
    note(BuildProgress(total, total, loading=True))
    preprocessor = await asyncio.to_thread(
        Preprocessor.load, _files(resolved), context_length=card.context_length
    )
    return BuiltModel(card, preprocessor)


async def _resolve(
    build: Build, fetcher: CardFetcher, note: Callable[[BuildProgress], None]
) -> ResolvedCard:
    failure: ContentError | None = None
    for member in build.members:
        try:
            return await _resolve_from(build.group.model, member, fetcher, note)
        except ContentError as error:
            failure = failure or error
            logger.info(
                "a replica's files cannot be had; trying the next",
                extra=facts(model=build.group.model, key=member.key, reason=error.message),
            )
    assert failure is not None  # noqa: S101 - a build has members
    raise failure


async def _resolve_from(
    model: str, member: Member, fetcher: CardFetcher, note: Callable[[BuildProgress], None]
) -> ResolvedCard:
    done: set[str] = set()
    total = sum(1 for _ in member.card.iter_metadata_files())

    def progressed(progress: FetchProgress) -> None:
        _log(model, progress)
        if progress.state is not FetchState.FETCHING:
            done.add(progress.name)
        note(BuildProgress(len(done), total))

    return await fetcher.resolve(member.card, progressed)


def _files(resolved: ResolvedCard) -> ModelFiles:
    """Where the loader finds each file."""
    card = resolved.card
    if card.tokenizer is None or card.tokenizer.file.path is None:
        raise CardError(
            f"the card of {card.display_name!r} names no tokenizer",
            hint="the model's directory needs a tokenizer.json",
        )

    def path(slot: object) -> Path | None:
        location = getattr(getattr(slot, "file", None), "path", None)
        return Path(location) if location is not None else None

    return ModelFiles(
        tokenizer=Path(card.tokenizer.file.path),
        config=path(card.model_info),
        tokenizer_config=path(card.prompt_formatter),
        chat_template=path(card.chat_template_file),
        generation_config=path(card.gen_config),
        directory=resolved.local_dir,
    )


def _log(model: str, progress: FetchProgress) -> None:
    if progress.state is FetchState.FETCHING:
        return
    values = {
        "model": model,
        "file": progress.name,
        "bytes": progress.done_bytes,
        "digest": str(progress.digest),
        "seconds": round(progress.seconds, 3),
        "place": progress.place,
    }
    if progress.state is FetchState.FAILED:
        logger.warning("file not fetched", extra=facts(**values, reason=progress.reason))
    else:
        logger.info("file %s", progress.state.value, extra=facts(**values))
