"""Gets files behind http(s): a plain GET, trusted with nothing but the bytes' digest.

No redirects (but a hub's, to the same host or to https), no proxies or credentials from the
environment unless the settings ask for them, no cookies, no userinfo, no content encodings: each is a
way to be sent somewhere, or sent something, that the card does not say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import aiohttp
from yarl import URL

from muster._version import __version__
from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import FetchSettings
from muster.content.disk import CHUNK_BYTES
from muster.digest import Digest
from muster.errors import ContentError, SourceError
from muster.model.fetch.http_answer import REDIRECTS, check_answer, has_no_more
from muster.model.fetch.place import HttpKind, HttpPlace, redact

__all__ = ["HttpClient"]

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"muster/{__version__}"}
_MOSTREDIRECTS = 5
_HAND_OUT_S = 0.25


class HttpClient:
    """Gets files with one client session, which opens at the first use in a running loop.

    Whoever made it closes it.

    Args:
        settings: Deadlines.
        token: Sent to workers, and to nobody else.
        clock: Its wall time is what dates in answers are compared with.
    """

    def __init__(
        self, settings: FetchSettings, *, token: str | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._settings = settings
        self._token = token
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def open(
        self, place: HttpPlace, *, digest: Digest, start: int = 0, cap_bytes: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See ``FileSource.open``. A server that does not know ranges sends what is skipped here.

        Raises:
            SourceBusyError: 429, or 503 with or without ``Retry-After``.
            SourceError: The URL is refused, the host cannot be reached or answers with another
                status or another part than asked for, the body is encoded, ends early or stalls.
            TooLargeError: The length it announces is over ``cap_bytes``.
        """
        headers = dict(_HEADERS)
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": f'"{digest}"'}
        if self._token is not None and place.kind is HttpKind.WORKER:
            headers["Authorization"] = f"Bearer {self._token}"
        with self._errors(place):
            response = await self._get(place, headers)
        if has_no_more(response, start):
            response.close()
            yield _nothing()
            return
        body = self._read(response, place)
        try:
            skip = check_answer(
                response, place, start=start, cap_bytes=cap_bytes, now=self._clock.wall()
            )
            yield _after(body, skip) if skip else body
        finally:
            await body.aclose()
            response.close()  # a no-op when the body was read to its end

    async def _get(self, place: HttpPlace, headers: dict[str, str]) -> aiohttp.ClientResponse:
        url = _checked(place)
        for _ in range(_MOSTREDIRECTS):
            target, name = _dialled(url, place), None
            if target is not url:
                headers = {**headers, "Host": url.raw_authority}
                name = url.raw_host
            response = await self._opened().get(
                target, headers=headers, allow_redirects=False, server_hostname=name
            )
            if place.kind is not HttpKind.HUB or response.status not in REDIRECTS:
                return response
            response.close()
            url = _redirected(url, response.headers.get("Location", ""), place)
        raise SourceError(f"{place} redirects more than {_MOSTREDIRECTS} times")

    async def _read(
        self, response: aiohttp.ClientResponse, place: HttpPlace
    ) -> AsyncGenerator[bytes, None]:
        """Pieces of about 1 MiB, as each costs its reader a hop to a thread.

        They are smaller if they come slowly, so that nothing is lost when the connection breaks.
        """
        loop = asyncio.get_running_loop()
        pieces: list[bytes] = []
        waiting_bytes = got_bytes = 0
        handed_out = loop.time()
        failure: Exception | None = None
        while True:
            try:
                piece = await response.content.readany()
            except Exception as error:  # noqa: BLE001 - raised below, after what came before it
                failure = error
                break
            if not piece:
                break
            pieces.append(piece)
            waiting_bytes += len(piece)
            got_bytes += len(piece)
            if waiting_bytes >= CHUNK_BYTES // 2 or loop.time() - handed_out >= _HAND_OUT_S:
                yield b"".join(pieces)
                pieces, waiting_bytes, handed_out = [], 0, loop.time()
        if pieces:
            yield b"".join(pieces)
        if isinstance(failure, aiohttp.ClientPayloadError):
            expected = response.content_length
            raise SourceError(
                f"streaming body from {place}: it ended after {got_bytes} bytes"
                + (f" of {expected}" if expected is not None else "")
            ) from failure
        if failure is not None:
            with self._errors(place):
                raise failure

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
                trust_env=settings.use_proxy,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=CHUNK_BYTES // 2,
            )
        return self._session

    @contextlib.contextmanager
    def _errors(self, place: HttpPlace) -> Iterator[None]:
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


async def _nothing() -> AsyncGenerator[bytes, None]:
    """A body without bytes."""
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece


async def _after(body: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    """``body`` without its first ``skip`` bytes."""
    async for piece in body:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield piece[skip:]
        skip = 0


def _dialled(url: URL, place: HttpPlace) -> URL:
    """``url`` with the checked address in its host's place, if there is one."""
    return url if place.connect_to is None else url.with_host(place.connect_to)


def _redirected(url: URL, location: str, place: HttpPlace) -> URL:
    """Where a hub sends us, if that is the same host or behind https."""
    try:
        target = url.join(URL(location, encoded=True))
    except ValueError as error:
        raise SourceError(f"{place} redirects to no address") from error
    if target.scheme == "https" or (target.scheme, target.authority) == (url.scheme, url.authority):
        return target
    raise SourceError(f"{place} redirects to {redact(str(target))}, which is not behind https")


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
