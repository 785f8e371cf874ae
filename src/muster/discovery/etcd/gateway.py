"""Talks to etcd's v3 JSON gateway: one server at a time, the next one when it fails.

Every answer has a deadline; a watch has one on its beginning, and its connection is probed by the
operating system. Nothing here retries for long or keeps state beyond the login: who calls decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from muster.config.etcd import EtcdSettings
from muster.discovery.etcd.messages import AuthReply, WatchReply, WatchResult, watch_request
from muster.errors import ConfigError, DiscoveryError

__all__ = ["EtcdError", "EtcdUnreachableError", "Gateway", "tls_context"]

T = TypeVar("T")

NOT_FOUND: Final = 5
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
_DEADLINE: Final = 4
_INVALID: Final = 3
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16
_TRY_ELSEWHERE: Final = frozenset({_DEADLINE, _UNAVAILABLE})
_MAX_LINE_BYTES: Final = 256 << 20
_HINT = "ETCD_ENDPOINTS names the servers"


class EtcdUnreachableError(DiscoveryError):
    """No server answered, or none can serve at present."""


class EtcdError(DiscoveryError):
    """A server refused.

    Args:
        message: What it said.
        grpc_code: gRPC's code for it.
    """

    def __init__(self, message: str, *, grpc_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.grpc_code = grpc_code


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""
    error: str = ""
    code: int = 0


def tls_context(settings: EtcdSettings) -> ssl.SSLContext | None:
    """The TLS settings for servers given as ``https``; ``None`` if there are none. Reads files.

    Raises:
        ConfigError: A certificate or key cannot be read, or one is given without the other.
    """
    if not any(_url(endpoint).startswith("https:") for endpoint in settings.endpoints):
        return None
    if (settings.client_cert is None) != (settings.client_key is None):
        raise ConfigError("ETCD_AUTH_CLIENT_CERT and ETCD_AUTH_CLIENT_KEY go together")
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.client_cert is not None:
            context.load_cert_chain(settings.client_cert, settings.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for etcd cannot be used: {error}",
            hint="look at ETCD_AUTH_CA, ETCD_AUTH_CLIENT_CERT and ETCD_AUTH_CLIENT_KEY",
        ) from error
    return context


def _url(endpoint: str) -> str:
    """The base URL of a server given with or without its scheme."""
    return (endpoint if "://" in endpoint else f"http://{endpoint}").rstrip("/")


def _keep_probing(info: Any) -> socket.socket:
    """A socket on which the system notices that the other end has gone without a word."""
    family, kind, proto, _, _ = info
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class Gateway:
    """A client of one cluster. Make it anywhere, use it on one event loop.

    Args:
        settings: The servers, the login and the deadlines.
        tls: See ``tls_context``.
    """

    def __init__(self, settings: EtcdSettings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._endpoints = [_url(endpoint) for endpoint in settings.endpoints]
        self._current = 0
        self._token = ""
        self._tls = tls
        self._opened: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections; calls after it raise ``DiscoveryError``."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise DiscoveryError("the registry is closed")
        if self._opened is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=self._tls if self._tls is not None else True,
                socket_factory=_keep_probing,
            )
            self._opened = aiohttp.ClientSession(connector=connector)
        return self._opened

    @property
    def servers(self) -> str:
        """The servers, for messages."""
        return ", ".join(self._endpoints)

    async def call(self, path: str, request: Any, reply: type[T]) -> T:
        """Ask for ``/v3/<path>``; each server is tried once, beginning with the last that answered.

        Raises:
            EtcdUnreachableError: No server answered.
            EtcdError: A server refused.
        """
        body = msgspec.json.encode(request)
        failures: list[str] = []
        for _ in self._endpoints:
            endpoint = self._endpoints[self._current]
            try:
                return await self._ask(endpoint, path, body, reply)
            except EtcdUnreachableError as error:
                failures.append(error.message)
                self.leave(endpoint)
        raise EtcdUnreachableError(f"etcd cannot be reached: {'; '.join(failures)}", hint=_HINT)

    def leave(self, endpoint: str) -> None:
        """Ask another server from now on, if ``endpoint`` is the one that is asked."""
        if self._endpoints[self._current] == endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def _ask(self, endpoint: str, path: str, body: bytes, reply: type[T]) -> T:
        await self._log_in(endpoint)
        try:
            return await self._post(endpoint, path, body, reply)
        except EtcdError as error:
            if not self._must_log_in_again(error):
                raise
        self._token = ""
        await self._log_in(endpoint)
        return await self._post(endpoint, path, body, reply)

    async def _log_in(self, endpoint: str) -> None:
        user = self._settings.username
        if user is None or self._token:
            return
        login = msgspec.json.encode({"name": user, "password": self._settings.password or ""})
        reply = await self._post(endpoint, "auth/authenticate", login, AuthReply)
        self._token = reply.token

    def _must_log_in_again(self, error: EtcdError) -> bool:
        return self._settings.username is not None and (
            error.grpc_code == _UNAUTHENTICATED or "invalid auth token" in error.message
        )

    async def _post(self, endpoint: str, path: str, body: bytes, reply: type[T]) -> T:
        limit = self._settings.request_timeout_s
        try:
            async with (
                asyncio.timeout(limit),
                self._session.post(
                    f"{endpoint}/v3/{path}", data=io.BytesIO(body), headers=self._headers()
                ) as answer,
            ):
                data = await answer.read()
                status = answer.status
        except TimeoutError:
            raise EtcdUnreachableError(f"{endpoint} did not answer within {limit:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EtcdUnreachableError(f"{endpoint}: {_reason(error)}") from error
        if status != 200:
            raise _refused(endpoint, status, data)
        try:
            return msgspec.json.decode(data, type=reply, strict=False)
        except msgspec.DecodeError as error:
            raise EtcdUnreachableError(f"{endpoint} is not etcd's JSON gateway: {error}") from error

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    @contextlib.asynccontextmanager
    async def watch(
        self, start: bytes, end: bytes, revision: int
    ) -> AsyncIterator[AsyncIterator[WatchReply]]:
        """Watch a range of keys from ``revision`` on, at the server that is asked at present.

        What is iterated ends by raising only; a message that says the watch is cancelled is given.

        Raises:
            EtcdUnreachableError: The server cannot be reached, or the connection is lost.
            EtcdError: It refused.
        """
        endpoint = self._endpoints[self._current]
        limit = self._settings.request_timeout_s
        body = msgspec.json.encode(watch_request(start, end, revision))
        try:
            await self._log_in(endpoint)
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(limit):
                    answer = await stack.enter_async_context(
                        self._session.post(
                            f"{endpoint}/v3/watch",
                            data=body,
                            headers=self._headers(),
                            timeout=aiohttp.ClientTimeout(total=None),
                        )
                    )
                    if answer.status != 200:
                        refusal = _refused(endpoint, answer.status, await answer.read())
                        if isinstance(refusal, EtcdError) and self._must_log_in_again(refusal):
                            self._token = ""
                        raise refusal
                yield _messages(endpoint, answer)
        except TimeoutError:
            self.leave(endpoint)
            raise EtcdUnreachableError(f"{endpoint} began no watch within {limit:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self.leave(endpoint)
            raise EtcdUnreachableError(f"{endpoint}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong, in the system's words where the client's are longer."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(
        error, aiohttp.ClientSSLError
    ):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else str(error.os_error.strerror)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection was lost"
    return str(error)


async def _messages(endpoint: str, answer: aiohttp.ClientResponse) -> AsyncIterator[WatchReply]:
    """The messages of a watch: one JSON object a line."""
    rest = bytearray()
    async for data in answer.content.iter_any():
        rest += data
        if b"\n" not in data:
            if len(rest) > _MAX_LINE_BYTES:
                raise EtcdUnreachableError(
                    f"{endpoint} sends a line of over {_MAX_LINE_BYTES} bytes"
                )
            continue
        lines = bytes(rest).split(b"\n")
        rest[:] = lines.pop()
        for line in lines:
            yield _message(endpoint, line)
    raise EtcdUnreachableError(f"{endpoint} ended the watch")


def _message(endpoint: str, line: bytes) -> WatchReply:
    try:
        told = msgspec.json.decode(line, type=WatchResult, strict=False)
    except msgspec.DecodeError as error:
        raise EtcdUnreachableError(f"{endpoint} is not etcd's JSON gateway: {error}") from error
    if told.error is not None or told.result is None:
        code = told.error.code if told.error is not None else 0
        message = told.error.message if told.error is not None else "an empty message"
        if code in _TRY_ELSEWHERE or not code:
            raise EtcdUnreachableError(f"{endpoint}: {message}")
        raise EtcdError(f"{endpoint}: {message}", grpc_code=code)
    return told.result


def _refused(endpoint: str, status: int, data: bytes) -> DiscoveryError:
    try:
        told = msgspec.json.decode(data, type=_Refusal, strict=False)
    except msgspec.DecodeError:
        return EtcdUnreachableError(f"{endpoint} answered with HTTP status {status}")
    message = f"{endpoint}: {told.message or told.error}"
    if told.code in _TRY_ELSEWHERE:
        return EtcdUnreachableError(message)
    hint = ""
    if "user name is empty" in message or told.code == _UNAUTHENTICATED:
        hint = "set ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD"
    elif told.code == _INVALID and "authentication failed" in message:
        hint = "ETCD_AUTH_USERNAME or ETCD_AUTH_PASSWORD is wrong"
    elif "too large" in message or "larger than max" in message:
        hint = "etcd's --max-request-bytes sets the limit"
    return EtcdError(message, grpc_code=told.code, hint=hint)
