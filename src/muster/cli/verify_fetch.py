"""Fetching for ``muster verify``: every file of a card, from where the card says, into a scratch store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from muster.config.settings import FetchSettings, Settings
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.discovery.open import open_discovery
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import CardError, ContentError, DiscoveryError, MusterError, SourceError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.resolved import LeftOut, ResolvedCard, ResolvedFile
from muster.model.fetch.source import redact

__all__ = [
    "MAX_CARD_BYTES",
    "Fetched",
    "cards_served_at",
    "fetch_card",
    "fetch_file",
    "get_card",
    "host_of",
    "is_base",
    "read_card",
]

MAX_CARD_BYTES: Final = 16 << 20
"""Cards take some kilobytes."""
_PORTS = {"http": 80, "https": 443}


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


async def get_card(url: str, settings: FetchSettings) -> ModelDeploymentCard:
    """The card at ``url``; no redirects, nothing from the environment.

    Raises:
        SourceError: Nothing came.
        CardError: What came is no card.
    """
    if urlsplit(url).username is not None:
        raise SourceError(
            f"refusing to fetch {redact(url)}: its URL carries a user name or password"
        )
    timeout = aiohttp.ClientTimeout(
        total=settings.card_timeout_s,
        connect=settings.connect_timeout_s,
        sock_read=settings.idle_timeout_s,
    )
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=settings.use_proxy) as session,
            session.get(url, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise SourceError(f"{redact(url)} answered with status {reply.status}")
            body = bytearray()
            async for piece in reply.content.iter_chunked(1 << 16):
                body += piece
                if len(body) > MAX_CARD_BYTES:
                    raise SourceError(f"{redact(url)} gives more than {MAX_CARD_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SourceError(f"cannot fetch {redact(url)}: {type(error).__name__}") from error
    return read_card(bytes(body))


async def cards_served_at(url: str, settings: Settings) -> list[ModelDeploymentCard]:
    """The cards in the registry that name a file at the server of ``url``.

    Raises:
        DiscoveryError: The registry cannot be read, or has none.
    """
    discovery = open_discovery(settings.discovery)
    try:
        records = await discovery.list(MODELS)
    finally:
        await discovery.close()
    found = []
    for value in records.values():
        try:
            card = ModelDeploymentCard.from_json_str(bytes(ModelRecord.from_json(value).card_json))
        except MusterError:
            continue  # `muster ls` tells of cards nobody can read
        if any(_server(file.url) == _server(url) for file, _ in card.iter_metadata_files()):
            found.append(card)
    if not found:
        raise DiscoveryError(
            f"no card in the registry names a file at {redact(url)}",
            hint="see `muster ls`; for one file give its URL and --digest",
        )
    return found


async def fetch_card(
    card: ModelDeploymentCard, scratch: Path, settings: FetchSettings, model_path: Path | None
) -> Fetched:
    """Fetch every file of ``card``, whatever becomes of the others, then resolve it as a whole."""
    store = BlobStore(scratch)
    unique = {file: None for file, _ in card.iter_metadata_files()}
    async with CardFetcher(store, settings, model_path=model_path) as fetcher:
        each = await _resolve(fetcher, _loose(card, tuple(unique)))
        try:
            resolved = await _resolve(fetcher, card)
        except ContentError as error:
            return Fetched(files=each.files, left_out=each.left_out, error=error)
    return Fetched(files=each.files, left_out=each.left_out, resolved=resolved)


async def fetch_file(url: str, digest: Digest, scratch: Path, settings: FetchSettings) -> Fetched:
    """Fetch the one file at ``url``."""
    file = CheckedFile.at(url, digest)
    bare = ModelDeploymentCard(display_name="file", slug="file")
    async with CardFetcher(BlobStore(scratch), settings) as fetcher:
        each = await _resolve(fetcher, _loose(bare, (file,)))
    return Fetched(files=each.files, left_out=each.left_out)


async def _resolve(fetcher: CardFetcher, card: ModelDeploymentCard) -> ResolvedCard:
    return await fetcher.resolve(card)


def _loose(card: ModelDeploymentCard, files: tuple[CheckedFile, ...]) -> ModelDeploymentCard:
    """A card on which ``files`` may all fail: none has a slot."""
    return msgspec.structs.replace(
        card,
        model_info=None,
        tokenizer=None,
        prompt_formatter=None,
        chat_template_file=None,
        gen_config=None,
        extra_files=files,
    )


def host_of(url: str) -> str | None:
    """The host an http(s) URL names, without a port; ``None`` if it names none."""
    server = _server(url)
    return server[1] if server is not None else None


def is_base(url: str) -> bool:
    """Whether the URL names a server and nothing on it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.path in ("", "/") and not parts.query


def _server(url: str | None) -> tuple[str, str | None, int | None] | None:
    """What names a server in a URL; ``None`` if nothing does."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS:
        return None
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port
