"""Files behind http(s) as a source: a plain GET, trusted with nothing but the bytes' digest.

Only 200 counts. No redirects, no proxies or credentials from the environment, no cookies, no
userinfo, no content encodings: each is a way to be sent somewhere, or sent something, that the card
does not say.
"""

from __future__ import annotations

import contextlib
import http
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import TracebackType

import aiohttp
from yarl import URL

from muster._version import __version__
from muster.config.settings import FetchSettings
from muster.content.disk import CHUNK_BYTES
from muster.errors import ContentError, SourceError, TooLargeError
from muster.model.fetch.source import HttpPlace, Place

__all__ = ["HttpSource"]

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"muster/{__version__}"}


class HttpSource:
    """Gets files with one client session, which opens at the first use in a running loop.

    Use with ``async with``, or ``close`` it.

    Args:
        settings: Deadlines.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpSource:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def open(self, place: Place, *, cap_bytes: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """See ``FileSource.open``.

        Raises:
            SourceError: The URL is refused, the host cannot be reached or answers anything but 200,
                the body is encoded, ends early or stalls.
            TooLargeError: Content-Length is over ``cap_bytes``.
        """
        assert isinstance(place, HttpPlace)  # noqa: S101 - the fetcher picks the source by type
        url = _checked(place)
        with self._errors(place):
            response = await self._opened().get(url, headers=_HEADERS, allow_redirects=False)
        body = self._read(response, place)
        try:
            _check(response, place, cap_bytes)
            yield body
        finally:
            await body.aclose()
            response.close()  # a no-op when the body was read to its end

    async def _read(
        self, response: aiohttp.ClientResponse, place: Place
    ) -> AsyncGenerator[bytes, None]:
        """Pieces of about 1 MiB: each costs its reader a hop to a thread."""
        got_bytes = 0
        pieces: list[bytes] = []
        waiting_bytes = 0
        with self._errors(place):
            try:
                while piece := await response.content.readany():
                    pieces.append(piece)
                    waiting_bytes += len(piece)
                    got_bytes += len(piece)
                    if waiting_bytes >= CHUNK_BYTES // 2:
                        yield b"".join(pieces)
                        pieces, waiting_bytes = [], 0
            except aiohttp.ClientPayloadError as error:
                expected = response.content_length
                raise SourceError(
                    f"streaming body from {place}: it ended after {got_bytes} bytes"
                    + (f" of {expected}" if expected is not None else "")
                ) from error
        if pieces:
            yield b"".join(pieces)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            self._session = aiohttp.ClientSession(
                # no limit: how many files are fetched at a time is the fetcher's decision
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=settings.connect_timeout_s,
                    sock_read=settings.idle_timeout_s,
                ),
                auto_decompress=False,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=CHUNK_BYTES // 2,
            )
        return self._session

    @contextlib.contextmanager
    def _errors(self, place: Place) -> Iterator[None]:
        """The one place where the client's errors become ours; it must not quote URLs."""
        try:
            yield
        except ContentError:
            raise
        except aiohttp.ConnectionTimeoutError as error:
            limit = self._settings.connect_timeout_s
            raise SourceError(f"connecting to {place} took longer than {limit:g} s") from error
        except TimeoutError as error:
            limit = self._settings.idle_timeout_s
            raise SourceError(f"{place} was silent for {limit:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SourceError(f"cannot fetch {place}: {_reason(error)}") from error


def _checked(place: HttpPlace) -> URL:
    try:
        url = URL(place.url, encoded=True)
        has_host, has_userinfo = bool(url.host), url.user is not None or url.password is not None
    except ValueError as error:
        raise SourceError(f"{place} is not a URL we can fetch") from error
    if has_userinfo:
        raise SourceError(
            f"refusing to fetch {place}: its URL carries a user name or password",
            hint="metadata is fetched without credentials in URLs",
        )
    if not has_host:
        raise SourceError(f"{place} names no host")
    return url


def _check(response: aiohttp.ClientResponse, place: HttpPlace, cap_bytes: int) -> None:
    if response.status != 200:
        hint = (
            "redirects are not followed: a card must name the file itself"
            if 300 <= response.status < 400
            else "see that the worker is the one the card names, and that it serves its files"
        )
        raise SourceError(f"fetching {place} returned status {_status(response)}", hint=hint)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceError(
            f"{place} answered with content encoding {encoding[:40]!r}; only identity is accepted"
        )
    length = response.content_length
    if length is not None and length > cap_bytes:
        raise TooLargeError(f"{place} reports {length} bytes, exceeds cap {cap_bytes}")


def _status(response: aiohttp.ClientResponse) -> str:
    """``404 Not Found``, in the standard's words: the server's own may be anything."""
    try:
        return f"{response.status} {http.HTTPStatus(response.status).phrase}"
    except ValueError:
        return str(response.status)


def _reason(error: Exception) -> str:
    """What went wrong, without the request's URL: that may hold secrets."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error) or "cannot connect"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"its answer is not HTTP ({error.message})"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
