"""What ``muster verify`` asks of servers and the registry, before it fetches files."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp
import msgspec

from muster.cli.verify_fetch import MAX_CARD_BYTES, read_card
from muster.config.settings import FetchSettings, Settings
from muster.digest import Digest
from muster.discovery.open import open_discovery
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import DiscoveryError, MusterError, SourceError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.place import redact
from muster.runtime.metadata.answers import FILES_PATH
from muster.runtime.metadata.registry import MetadataKey
from muster.runtime.metadata.route import format_path

__all__ = ["cards_served_at", "get_card", "host_of", "is_base", "listed_files"]

_PORTS = {"http": 80, "https": 443}


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of an entry in a worker's list of files."""

    namespace: str
    component: str
    endpoint: str
    slug: str
    suffix: str
    name: str
    digest: str
    size: int


async def get_card(url: str, settings: FetchSettings) -> ModelDeploymentCard:
    """The card at ``url``.

    Raises:
        SourceError: Nothing came.
        CardError: What came is no card.
    """
    return read_card(await _get(url, settings, token=None))


async def listed_files(base: str, settings: Settings) -> list[CheckedFile]:
    """The files that the worker at ``base`` says it serves, at their URLs.

    Raises:
        SourceError: It does not say, or not in the form of Muster's workers.
        CardError: It names a digest that is none.
    """
    base = base.rstrip("/")
    body = await _get(base + FILES_PATH, settings.fetch, token=settings.metadata.token)
    try:
        listed = msgspec.json.decode(body, type=list[_Listed])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{redact(base)} lists no files: {error}") from error
    return [
        CheckedFile.at(
            base
            + format_path(
                MetadataKey(
                    each.namespace,
                    each.component,
                    each.endpoint,
                    each.slug,
                    each.suffix,
                    each.name,
                )
            ),
            Digest.parse(each.digest),
            max(each.size, 0),
        )
        for each in listed
    ]


async def cards_served_at(url: str, settings: Settings) -> list[ModelDeploymentCard]:
    """The cards in the registry that name a file at the server of ``url``.

    Raises:
        DiscoveryError: The registry cannot be read, or has none.
    """
    discovery = open_discovery(settings.discovery, settings.etcd)
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


async def _get(url: str, settings: FetchSettings, *, token: str | None) -> bytes:
    """The body at ``url``: no redirects, no credentials in URLs, nothing endless."""
    if urlsplit(url).username is not None:
        raise SourceError(
            f"refusing to fetch {redact(url)}: its URL carries a user name or password"
        )
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(
        total=settings.card_timeout_s,
        connect=settings.connect_timeout_s,
        sock_read=settings.idle_timeout_s,
    )
    body = bytearray()
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=settings.use_proxy) as session,
            session.get(url, headers=headers, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise SourceError(f"{redact(url)} answered with status {reply.status}")
            async for piece in reply.content.iter_chunked(1 << 16):
                body += piece
                if len(body) > MAX_CARD_BYTES:
                    raise SourceError(f"{redact(url)} gives more than {MAX_CARD_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise SourceError(f"cannot fetch {redact(url)}: {type(error).__name__}") from error
    return bytes(body)
