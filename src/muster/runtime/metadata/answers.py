"""What the status server answers about files: by name, by digest, and a list of all.

Everything served is immutable, so one entity tag, ``"blake3:<hex>"``, says all there is to say about
a file's version. Transfers are limited in number; what does not fit is told when to come again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.errors import CardError, ContentError, InvalidArgument, SourceError
from muster.http.exchange import Exchange
from muster.http.file_transfer import read_piece
from muster.http.replies import refuse_method, reply_empty, reply_json, reply_text
from muster.http.writer import SlowReaderError
from muster.log import facts
from muster.runtime.metadata.conditional import (
    ByteRange,
    Unsatisfiable,
    entity_tag,
    is_unchanged,
    range_asked,
)
from muster.runtime.metadata.counts import MetadataCounts
from muster.runtime.metadata.file_list import list_files
from muster.runtime.metadata.registry import Artifact, MetadataArtifactRegistry, MetadataKey
from muster.runtime.metadata.route import METADATA_PREFIX, parse_path
from muster.runtime.metadata.small_files import SmallFiles

__all__ = ["BLOBS_PREFIX", "FILES_PATH", "MetadataAnswers"]

logger = logging.getLogger(__name__)

BLOBS_PREFIX = "/v1/blobs/"
"""Before 64 hexadecimal digits: the route of files by their digest."""
FILES_PATH = "/v1/muster/files"
"""The route of the list of served files."""

_ALLOW = "GET,HEAD"
_NOT_FOUND = "Not found"
_NO_ROUTE = "Route not found"
_UNREADABLE = "Failed to read file"
_CONTENT_TYPE = "application/octet-stream"
_RETRY_AFTER_S = 1
_SMALL_BYTES = 64 * 1024
"""Up to here a body leaves in one write with its headers."""
_STAGED_WAIT_S = 5.0
"""How long a request waits for a registration under way: the registry's word for its card."""
_STAGED_POLL_S = 0.02


class MetadataAnswers:
    """Answers requests for metadata files.

    Args:
        registry: The files; read at every request.
        settings: The limit on transfers, and the token to ask for.
    """

    def __init__(self, registry: MetadataArtifactRegistry, settings: MetadataSettings) -> None:
        self._registry = registry
        self._small = SmallFiles(registry)
        self._places = settings.transfers
        self._token = settings.token
        self._counts = MetadataCounts(registry)

    def register_metrics(self, metrics: CollectorRegistry) -> None:
        """Show the counts in ``metrics``."""
        self._counts.register(metrics)

    def unregister_metrics(self, metrics: CollectorRegistry) -> None:
        """Show them no longer; a no-op if they are not shown."""
        self._counts.unregister(metrics)

    async def answer(self, exchange: Exchange, path: str) -> bool:
        """Answer a request for ``path``; ``False`` if it is not about files."""
        if self._answer_kept(exchange, path):
            return True
        if path.startswith(METADATA_PREFIX):
            try:
                key = parse_path(path)
            except InvalidArgument as error:
                self._refuse(exchange, 400, error.message, "bad_request")
                return True
            if key is None:
                self._refuse(exchange, 404, _NO_ROUTE, "not_found")
            elif not self._is_refused(exchange):
                await self._answer_key(exchange, key)
        elif path.startswith(BLOBS_PREFIX):
            if not self._is_refused(exchange):
                await self._answer_digest(exchange, path[len(BLOBS_PREFIX) :])
        elif path == FILES_PATH:
            if not self._is_refused(exchange):
                reply_json(exchange, 200, list_files(self._registry))
        else:
            return False
        return True

    def _is_refused(self, exchange: Exchange) -> bool:
        """Refuse, and say so, what is not answered whatever it asks for."""
        if exchange.method not in ("GET", "HEAD"):
            self._counts.request("bad_request")
            refuse_method(exchange, allow=_ALLOW)
            return True
        if self._token is None:
            return False
        given = exchange.headers.get(b"authorization", b"")
        if hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return False
        self._counts.request("unauthorized")
        reply_text(exchange, 401, "a token is needed", {"www-authenticate": "Bearer"})
        return True

    def _answer_kept(self, exchange: Exchange, path: str) -> bool:
        """Answer a plain request for a small file from what is kept of it; ``False`` if not."""
        kept = self._small.find(path)
        if kept is None or not self._places or not _is_plain(exchange):
            return False
        if not self._is_refused(exchange):
            exchange.fields += kept.fields
            exchange.respond(200, kept.body, content_type=_CONTENT_TYPE)
            self._counts.sent(len(kept.body))
            self._counts.request("served")
        return True

    async def _answer_key(self, exchange: Exchange, key: MetadataKey) -> None:
        artifact = self._registry.get(key)
        if artifact is None and self._registry.is_staged(key):
            artifact = await self._when_published(key)
        if artifact is None:
            self._refuse(exchange, 404, _NOT_FOUND, "not_found")
        else:
            # The name may stand for other bytes tomorrow, so a cache has to ask.
            await self._send(exchange, artifact, cache_control="no-cache")

    async def _when_published(self, key: MetadataKey) -> Artifact | None:
        """The file, once its registration is through; ``None`` if that fails or takes too long.

        The registry shows a card a moment before its files are shown; whoever is quick waits here.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STAGED_WAIT_S
        # The registry is told from any thread and wakes nobody, so it is asked again and again.
        while self._registry.is_staged(key) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_STAGED_POLL_S)
        return self._registry.get(key)

    async def _answer_digest(self, exchange: Exchange, hexdigits: str) -> None:
        try:
            artifact = self._registry.find_blob(Digest.parse(f"blake3:{hexdigits}"))
        except CardError:
            artifact = None
        if artifact is None:
            self._refuse(exchange, 404, _NOT_FOUND, "not_found")
        else:
            await self._send(
                exchange, artifact, cache_control="public, max-age=31536000, immutable"
            )

    async def _send(self, exchange: Exchange, artifact: Artifact, *, cache_control: str) -> None:
        tag, size_bytes = entity_tag(artifact.digest), artifact.size_bytes
        headers = {"etag": tag, "accept-ranges": "bytes", "cache-control": cache_control}
        asked = exchange.headers
        if is_unchanged(_text(asked, b"if-none-match"), tag):
            self._counts.request("not_modified")
            reply_empty(exchange, 304, headers)
            return
        part = range_asked(
            _text(asked, b"range"), _text(asked, b"if-range"), tag=tag, size_bytes=size_bytes
        )
        if isinstance(part, Unsatisfiable):
            self._counts.request("unsatisfiable")
            reply_empty(exchange, 416, {"content-range": f"bytes */{size_bytes}", "etag": tag})
            return
        if part is not None:
            headers["content-range"] = part.content_range(size_bytes)
        if exchange.method == "HEAD":
            length = size_bytes if part is None else part.size_bytes
            exchange.start_sized(200 if part is None else 206, length, headers=headers)
            self._counts.request("head")
        else:
            await self._transfer(exchange, artifact, part, headers)

    async def _transfer(
        self,
        exchange: Exchange,
        artifact: Artifact,
        part: ByteRange | None,
        headers: Mapping[str, str],
    ) -> None:
        if not self._places:
            self._counts.request("busy")
            text = "too many transfers at a time"
            reply_text(exchange, 503, text, {"retry-after": str(_RETRY_AFTER_S)})
            return
        outcome = "cut"
        self._places -= 1
        try:
            descriptor = artifact.snapshot.open_fd()
            try:
                await self._send_bytes(exchange, artifact, part, headers, descriptor)
            finally:
                os.close(descriptor)
            outcome = "served" if part is None else "partial"
        except (ConnectionError, SlowReaderError):
            pass  # the client has gone, or was cut off; the connection closes with the exchange
        except (ContentError, OSError) as error:
            outcome = self._report_unreadable(exchange, artifact, error)
        finally:
            self._places += 1
            self._counts.request(outcome)

    async def _send_bytes(
        self,
        exchange: Exchange,
        artifact: Artifact,
        part: ByteRange | None,
        headers: Mapping[str, str],
        descriptor: int,
    ) -> None:
        """Send a file, or a part of it; nothing has been sent if it cannot be read at all.

        Raises:
            SourceError: It cannot be read, or not to its end: then the connection is cut.
            ConnectionError: The client has gone.
            SlowReaderError: The client stalled.
        """
        start, stop = (0, artifact.size_bytes) if part is None else (part.start, part.stop)
        status, size = 200 if part is None else 206, stop - start
        first = await read_piece(descriptor, start, min(stop, start + _SMALL_BYTES))
        if size == len(first):
            if part is None:
                self._small.keep(exchange.path, artifact.digest, headers, first)
            exchange.respond(status, first, content_type=_CONTENT_TYPE, headers=headers)
            self._counts.sent(size)
            return
        body = exchange.start_sized(status, size, content_type=_CONTENT_TYPE, headers=headers)
        await body.send_file(descriptor, start, stop, on_sent=self._counts.sent)

    def _report_unreadable(
        self, exchange: Exchange, artifact: Artifact, error: ContentError | OSError
    ) -> str:
        """The copy failed: say so, if its headers are not out; return how it ended."""
        logger.warning(
            "a registered metadata file was not served whole",
            extra=facts(
                source=artifact.source,
                digest=str(artifact.digest),
                reason=error.message if isinstance(error, SourceError) else str(error),
            ),
        )
        if exchange.started:
            return "cut"
        reply_text(exchange, 500, _UNREADABLE)
        return "unreadable"

    def _refuse(self, exchange: Exchange, status: int, text: str, outcome: str) -> None:
        self._counts.request(outcome)
        reply_text(exchange, status, text)


def _is_plain(exchange: Exchange) -> bool:
    """Whether a request asks for the whole file, whatever its client has of it."""
    headers = exchange.headers
    return exchange.method == "GET" and b"range" not in headers and b"if-none-match" not in headers


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """A header's value, or ``None`` if it was not sent."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
