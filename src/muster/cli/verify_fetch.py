"""Fetching for ``muster verify``: every file of a card, from where the card says, into a scratch store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from muster.config.settings import Settings
from muster.content.store import BlobStore
from muster.errors import CardError, ContentError, MusterError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.model.fetch.resolved import LeftOut, ResolvedCard, ResolvedFile
from muster.model.publish.hub_cache import hub_cache_root

__all__ = [
    "MAX_CARD_BYTES",
    "Fetched",
    "fetch_card",
    "fetch_files",
    "read_card",
]

MAX_CARD_BYTES: Final = 16 << 20
"""Cards take some kilobytes."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """How fetching went. ``error`` is what a frontend would refuse the card with.

    ``files`` and ``left_out`` together are all of the card's files: those that came, those that did
    not. ``resolved`` is the whole card here, or ``None``.
    """

    files: tuple[ResolvedFile, ...]
    left_out: tuple[LeftOut, ...]
    resolved: ResolvedCard | None = None
    error: MusterError | None = None


def read_card(text: str | bytes) -> ModelDeploymentCard:
    """The card in ``text``: a card's JSON, a registry record's, or what `muster card --json` says.

    Raises:
        CardError: It is none of these.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CardError(f"not a card: {error}") from error
    if isinstance(found, dict):
        for key in ("card_json", "card"):
            if isinstance(found.get(key), dict):
                return ModelDeploymentCard.from_json_str(json.dumps(found[key]))
    return ModelDeploymentCard.from_json_str(text)


async def fetch_card(
    card: ModelDeploymentCard, scratch: Path, settings: Settings, model_path: Path | None
) -> Fetched:
    """Fetch every file of ``card``, whatever becomes of the others, then resolve it as a whole."""
    async with _fetcher(scratch, settings, model_path) as fetcher:
        each = await _fetch_each(fetcher, [file for file, _ in card.iter_metadata_files()])
        try:
            resolved = await _resolve(fetcher, card)
        except ContentError as error:
            return msgspec.structs.replace(each, error=error)
    return msgspec.structs.replace(each, resolved=resolved)


async def fetch_files(files: Sequence[CheckedFile], scratch: Path, settings: Settings) -> Fetched:
    """Fetch files that belong to no card, or to several."""
    async with _fetcher(scratch, settings, None) as fetcher:
        return await _fetch_each(fetcher, files)


def _fetcher(scratch: Path, settings: Settings, model_path: Path | None) -> CardFetcher:
    """What a frontend with these settings fetches with, but for the cache."""
    hub = hub_cache_root(settings.metadata.hub_cache, settings.metadata.hf_home)
    return CardFetcher(
        BlobStore(scratch),
        settings.fetch,
        model_path=model_path,
        token=settings.metadata.token,
        hub_roots=() if hub is None else (hub,),
    )


async def _fetch_each(fetcher: CardFetcher, files: Sequence[CheckedFile]) -> Fetched:
    """Fetch each file as the extra file of a card of its own: so it may fail, or share a name."""
    bare = ModelDeploymentCard(display_name="file", slug="file")
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    _resolve(fetcher, msgspec.structs.replace(bare, extra_files=(file,)))
                )
                for file in dict.fromkeys(files)
            ]
    except ExceptionGroup as errors:  # not a file's fault: the scratch directory's
        raise errors.exceptions[0] from None
    found = [task.result() for task in tasks]
    return Fetched(
        files=tuple(file for each in found for file in each.files),
        left_out=tuple(left for each in found for left in each.left_out),
    )


async def _resolve(fetcher: CardFetcher, card: ModelDeploymentCard) -> ResolvedCard:
    return await fetcher.resolve([Replica(card=card)])
