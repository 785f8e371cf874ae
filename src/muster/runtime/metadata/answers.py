"""What the status server answers about files: by name, by digest, and a list of all.

Everything served is immutable, so one entity tag, ``"blake3:<hex>"``, says all there is to say about
a file's version. Transfers are limited in number; what does not fit is told when to come again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.errors import CardError, ContentError, InvalidArgument, SourceError
from muster.log import facts
from muster.runtime.metadata.conditional import (
    ByteRange,
    Unsatisfiable,
    entity_tag,
    is_unchanged,
    range_asked,
)
from muster.runtime.metadata.file_body import OpenFile, send_body
from muster.runtime.metadata.registry import Artifact, MetadataArtifactRegistry, MetadataKey
from muster.runtime.metadata.route import METADATA_PREFIX, parse_path

__all__ = ["BLOBS_PREFIX", "FILES_PATH", "MetadataAnswers"]

logger = logging.getLogger(__name__)

BLOBS_PREFIX = "/v1/blobs/"
"""Before 64 hexadecimal digits: the route of files by their digest."""
FILES_PATH = "/v1/muster/files"
"""The route of the list of served files."""

_ALLOW = {hdrs.ALLOW: "GET,HEAD"}
_NOT_FOUND = "Not found"
_NO_ROUTE = "Route not found"
_UNREADABLE = "Failed to read file"
_RETRY_AFTER_S = 1
_SMALL_BYTES = 64 * 1024
"""Up to here a body leaves together with its headers, which costs half as much as a stream."""
_STAGED_WAIT_S = 5.0
"""How long a request waits for a registration under way: the registry's word for its card."""
_STAGED_POLL_S = 0.02


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One served file in the list."""

    namespace: str
    component: str
    endpoint: str
    slug: str
    suffix: str
    name: str
    digest: str
    size: int
    source: str
    drifted: bool


class MetadataAnswers:
    """Answers requests for metadata files.

    Args:
        registry: The files; read at every request.
        settings: The limit on transfers, and the token to ask for.
    """

    def __init__(self, registry: MetadataArtifactRegistry, settings: MetadataSettings) -> None:
        self._registry = registry
        self._places = settings.transfers
        self._token = settings.token
        self._outcomes = Counter(
            "muster_metadata_requests",
            "Requests for metadata files by outcome.",
            ["outcome"],
            registry=None,
        )
        self._bytes = Counter(
            "muster_metadata_bytes", "Bytes of metadata files sent.", registry=None
        )
        self._drifted = Gauge(
            "muster_metadata_drifted_files",
            "Served files whose source has other bytes by now.",
            registry=None,
        )
        self._drifted.set_function(lambda: len(registry.drifted))

    def register_metrics(self, metrics: CollectorRegistry) -> None:
        """Show the counts in ``metrics``."""
        for metric in (self._outcomes, self._bytes, self._drifted):
            metrics.register(metric)

    def unregister_metrics(self, metrics: CollectorRegistry) -> None:
        """Show them no longer; a no-op if they are not shown."""
        for metric in (self._outcomes, self._bytes, self._drifted):
            try:
                metrics.unregister(metric)
            except KeyError:
                return

    async def answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse | None:
        """The answer to a request for ``path``, or ``None`` if it is not about files."""
        if path.startswith(METADATA_PREFIX):
            try:
                key = parse_path(path)
            except InvalidArgument as error:
                return self._refuse(400, error.message, "bad_request")
            if key is None:
                return self._refuse(404, _NO_ROUTE, "not_found")
            return self._refusal(request) or await self._by_key(request, key)
        if path.startswith(BLOBS_PREFIX):
            return self._refusal(request) or await self._by_digest(
                request, path[len(BLOBS_PREFIX) :]
            )
        if path == FILES_PATH:
            return self._refusal(request) or self._list()
        return None

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Why a request is not answered whatever it asks for; ``None`` if it is."""
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            self._count("bad_request")
            return web.Response(status=405, headers=_ALLOW)
        if self._token is None:
            return None
        given = request.headers.get(hdrs.AUTHORIZATION, "")
        wanted = f"Bearer {self._token}"
        if hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode()):
            return None
        self._count("unauthorized")
        return web.Response(
            status=401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"}, text="a token is needed"
        )

    async def _by_key(self, request: web.BaseRequest, key: MetadataKey) -> web.StreamResponse:
        artifact = self._registry.get(key)
        if artifact is None and self._registry.is_staged(key):
            artifact = await self._when_published(key)
        if artifact is None:
            return self._refuse(404, _NOT_FOUND, "not_found")
        # The name may stand for other bytes tomorrow, so a cache has to ask.
        return await self._send(request, artifact, cache_control="no-cache")

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

    async def _by_digest(self, request: web.BaseRequest, hexdigits: str) -> web.StreamResponse:
        try:
            artifact = self._registry.find_blob(Digest.parse(f"blake3:{hexdigits}"))
        except CardError:
            artifact = None
        if artifact is None:
            return self._refuse(404, _NOT_FOUND, "not_found")
        return await self._send(
            request, artifact, cache_control="public, max-age=31536000, immutable"
        )

    async def _send(
        self, request: web.BaseRequest, artifact: Artifact, *, cache_control: str
    ) -> web.StreamResponse:
        tag, size_bytes = entity_tag(artifact.digest), artifact.size_bytes
        headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            hdrs.ETAG: tag,
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.CACHE_CONTROL: cache_control,
        }
        if is_unchanged(request.headers.get(hdrs.IF_NONE_MATCH), tag):
            self._count("not_modified")
            del headers[hdrs.CONTENT_TYPE]
            return web.Response(status=304, headers=headers)
        part = range_asked(
            request.headers.get(hdrs.RANGE),
            request.headers.get(hdrs.IF_RANGE),
            tag=tag,
            size_bytes=size_bytes,
        )
        if isinstance(part, Unsatisfiable):
            self._count("unsatisfiable")
            return web.Response(
                status=416, headers={hdrs.CONTENT_RANGE: f"bytes */{size_bytes}", hdrs.ETAG: tag}
            )
        if part is not None:
            headers[hdrs.CONTENT_RANGE] = part.content_range(size_bytes)
        response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
        if request.method == hdrs.METH_HEAD:
            response.content_length = size_bytes if part is None else part.size_bytes
            await response.prepare(request)
            self._count("head")
            return response
        return await self._transfer(request, response, artifact, part)

    async def _transfer(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        artifact: Artifact,
        part: ByteRange | None,
    ) -> web.StreamResponse:
        if not self._places:
            self._count("busy")
            return web.Response(
                status=503,
                headers={hdrs.RETRY_AFTER: str(_RETRY_AFTER_S)},
                text="too many transfers at a time",
            )
        start, stop = (0, artifact.size_bytes) if part is None else (part.start, part.stop)
        self._places -= 1
        try:
            file = OpenFile(artifact.snapshot.open_fd(), start, stop)
            if stop - start <= _SMALL_BYTES:
                response = await _in_one_write(file, response)
                self._bytes.inc(stop - start)
            else:
                await send_body(request, response, file, self._bytes.inc)
        except (ContentError, OSError) as error:
            if isinstance(error, ConnectionError):  # the client went away; aiohttp ends the request
                self._count("cut")
                raise
            return self._unreadable(request, artifact, error)
        finally:
            self._places += 1
        self._count("served" if part is None else "partial")
        return response

    def _unreadable(
        self, request: web.BaseRequest, artifact: Artifact, error: ContentError | OSError
    ) -> web.StreamResponse:
        """The copy failed: say so, or, if its headers are out, end on the closed connection."""
        logger.warning(
            "a registered metadata file was not served whole",
            extra=facts(
                source=artifact.source,
                digest=str(artifact.digest),
                reason=error.message if isinstance(error, SourceError) else str(error),
            ),
        )
        if request.transport is None or request.transport.is_closing():
            self._count("cut")
            return web.Response(status=500)
        return self._refuse(500, _UNREADABLE, "unreadable")

    def _list(self) -> web.Response:
        drifted = self._registry.drifted
        entries = [
            FileEntry(
                namespace=each.key.namespace,
                component=each.key.component,
                endpoint=each.key.endpoint,
                slug=each.key.slug,
                suffix=each.key.suffix,
                name=each.key.filename,
                digest=str(each.artifact.digest),
                size=each.artifact.size_bytes,
                source=str(each.artifact.source),
                drifted=each.artifact.source in drifted,
            )
            for each in self._registry.entries()
        ]
        return web.Response(body=msgspec.json.encode(entries), content_type="application/json")

    def _refuse(self, status: int, text: str, outcome: str) -> web.Response:
        self._count(outcome)
        return web.Response(status=status, text=text)

    def _count(self, outcome: str) -> None:
        self._outcomes.labels(outcome).inc()


async def _in_one_write(file: OpenFile, head: web.StreamResponse) -> web.Response:
    """The whole of a small file as one response with ``head``'s status and headers."""
    with file:
        body = bytes(await file.read())
    return web.Response(status=head.status, headers=head.headers, body=body)
