"""Make a registered model ready to answer requests: fetch and verify its files, and load them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from muster.errors import CardError
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.tokenizer_pool import TokenizerPool
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.model.fetch.resolved import FetchProgress, FetchState, ResolvedCard
from muster.model.model_type import ModelInput, ModelType

__all__ = ["BuildWatcher", "BuiltModel", "build_model"]

logger = logging.getLogger(__name__)

_GENERATING = ModelType.Chat | ModelType.Completions
_SERVED = _GENERATING | ModelType.Embedding


class BuildWatcher(Protocol):
    """Is told how a build gets on; on the event loop."""

    def file_moved(self, progress: FetchProgress) -> None:
        """A file is a step further."""
        ...

    def files_here(self, resolved: ResolvedCard) -> None:
        """All files are here that will be; they are being loaded."""
        ...


class BuiltModel(msgspec.Struct, frozen=True):
    """A card, its files, and what was loaded from them."""

    card: ModelDeploymentCard
    resolved: ResolvedCard
    preprocessor: Preprocessor


async def build_model(
    replicas: Sequence[Replica],
    fetcher: CardFetcher,
    watcher: BuildWatcher,
    tokenizers: TokenizerPool | None = None,
) -> BuiltModel:
    """Fetch the first replica's files from whichever replica gives them, and load them off the loop.

    Args:
        replicas: The group's members; at least one.
        fetcher: Fetches and verifies.
        watcher: Told how it gets on.
        tokenizers: Where models share tokenizers, if they do.

    Raises:
        CardError: Nothing can be served from this card, or one of its files makes no sense.
        ContentError: A file that must be there cannot be had from anybody.
    """
    card = replicas[0].card
    embeds_text = card.model_input is ModelInput.Text and not card.model_type & _GENERATING
    if card.model_input is not ModelInput.Tokens and not embeds_text:
        raise CardError(
            f"workers that take {card.model_input.name} are not served by this version",
            hint="register the model with ModelInput.Tokens",
        )
    if not card.model_type & _SERVED:
        raise CardError(f"no surface served here: {card.model_type or 'none'}")

    def progressed(progress: FetchProgress) -> None:
        _log(card.display_name, progress)
        watcher.file_moved(progress)

    resolved = await fetcher.resolve(replicas, progressed)
    watcher.files_here(resolved)
    preprocessor = await asyncio.to_thread(
        Preprocessor.load,
        _files(resolved),
        context_length=card.context_length,
        tokenizers=tokenizers,
    )
    return BuiltModel(card, resolved, preprocessor)


def _files(resolved: ResolvedCard) -> ModelFiles:
    """Where the loader finds each file."""
    card = resolved.card
    slot = card.tokenizer.file.path if card.tokenizer is not None else None
    # cards have no place of its own for this one: it is among the extra files
    tokenizer = slot if slot is not None else resolved.find_file("tokenizer.model")
    if tokenizer is None:
        raise CardError(
            f"the card of {card.display_name!r} names no tokenizer",
            hint="the model's directory needs a tokenizer.json, a tiktoken file or a tokenizer.model",
        )

    def path(slot: object) -> Path | None:
        location = getattr(getattr(slot, "file", None), "path", None)
        return Path(location) if location is not None else None

    return ModelFiles(
        tokenizer=Path(tokenizer),
        config=path(card.model_info),
        tokenizer_config=path(card.prompt_formatter),
        chat_template=path(card.chat_template_file),
        generation_config=path(card.gen_config),
        special_tokens_map=resolved.find_file("special_tokens_map.json"),
    )


def _log(model: str, progress: FetchProgress) -> None:
    if progress.state in (FetchState.FETCHING, FetchState.VERIFYING):
        return
    values = {
        "model": model,
        "file_name": progress.name,
        "bytes": progress.done_bytes,
        "digest": str(progress.digest),
        "seconds": round(progress.seconds, 3),
        "place": progress.place,
    }
    if progress.state is FetchState.FAILED:
        logger.warning(
            "file not fetched", extra=facts(**values, code=progress.code, reason=progress.reason)
        )
    else:
        logger.info("file %s", progress.state.value, extra=facts(**values))
