"""The caller's side of the request plane: send a request, get its response stream.

Requests go whichever way the instance is reached; responses always come over a connection the
worker makes back to this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, InvalidArgument
from muster.wire.address import bind_and_advertise, format_authority
from muster.wire.codec import NOT_ENCODABLE, Codec, encode_body
from muster.wire.context import Context
from muster.wire.control import encode_control
from muster.wire.frames import encode_two_part
from muster.wire.items import FrameDecoder
from muster.wire.local import LocalSender
from muster.wire.span import SpanProxy
from muster.wire.targets import LoopbackTarget, NatsTarget, Target, TcpTarget
from muster.wire.tcp.call_home import CallHome
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.sender import TcpSender
from muster.wire.tcp.sweep import Sweep
from muster.wire.tcp.tls import ClientTls, ServerTls
from muster.wire.trace_headers import headers_of

__all__ = ["Caller", "RequestSender"]

T = TypeVar("T")


class RequestSender(Protocol):
    """Sends requests one way."""

    async def send(
        self, target: Any, headers: bytes, payload: bytes, stream: ResponseStream[Any]
    ) -> None:
        """Send one request; its acknowledgement goes to ``stream``. Raises ``MusterError``."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Caller:
    """Sends requests; one a process.

    Args:
        settings: Addresses, deadlines and limits.
        listen_tls: How it listens for responses, if with TLS.
        connect_tls: How it checks workers, if they speak TLS.
        nats: Sends over NATS, if this process speaks it; closed with the caller.
    """

    def __init__(
        self,
        settings: RequestPlaneSettings,
        *,
        listen_tls: ServerTls | None = None,
        connect_tls: ClientTls | None = None,
        nats: RequestSender | None = None,
    ) -> None:
        self._settings = settings
        self._shared = settings.shared_responses and settings.plane != "loopback"
        self._sweep = Sweep()
        self._home = CallHome(settings, self._sweep, listen_tls)
        self._senders: dict[type[Target], RequestSender] = {}
        if settings.plane == "loopback":
            self._senders[LoopbackTarget] = LocalSender()
        else:
            self._senders[TcpTarget] = TcpSender(settings, connect_tls)
        if nats is not None:
            self._senders[NatsTarget] = nats

    async def start(self) -> None:
        """Listen for responses.

        Raises:
            CannotConnect: If the address or port cannot be used.
            ConfigError: The address means nothing here.
        """
        if self._settings.plane == "loopback":
            self._home.start_loopback()
            return
        host = self._settings.response_host
        bind, advertised = await asyncio.to_thread(bind_and_advertise, host)
        await self._home.start(bind, lambda port: format_authority(advertised, port))

    async def send(
        self, target: Target, request: Any, decoder: FrameDecoder[T], *, context: Context
    ) -> ResponseStream[T]:
        """Send ``request`` and return its stream, without waiting for the worker.

        The context's id, metadata and trace travel; stopping it does not reach the stream.

        Raises:
            InvalidArgument: The request cannot be encoded, or is too large.
            CannotConnect: Nobody listens there, or this process does not speak that way.
            ConnectionTimeout: No answer while connecting.
        """
        sender = self._senders.get(type(target))
        if sender is None:
            raise CannotConnect(f"this process cannot call {target.peer}")
        body = _encoded(request, target.codec)
        attributes = {"peer": target.peer}
        span = context.begin_span("client_request", kind="client", attributes=attributes)
        headers = self._headers(target, context, span)
        decode: Callable[[bytes], Any] = decoder.of(target.codec)
        stream: ResponseStream[T] = self._home.open(target.peer, decode)
        stream.span = span
        try:
            payload = encode_two_part(self._control(target, context, stream.subject), body)
            await sender.send(target, headers, payload, stream)
        except BaseException:
            stream.kill()
            raise
        return stream

    def _control(self, target: Target, context: Context, subject: str) -> bytes:
        try:
            return encode_control(
                request_id=context.id(),
                codec=target.codec,
                address=self._home.address,
                subject=subject,
                metadata=context.metadata,
                shared=self._shared,
            )
        except NOT_ENCODABLE as error:
            raise InvalidArgument(f"the request's metadata cannot be encoded: {error}") from error

    def _headers(self, target: Target, context: Context, span: SpanProxy | None) -> bytes:
        headers = headers_of(context, span)
        headers["x-endpoint-path"] = target.path
        headers["x-frontend-send-ts-ns"] = str(time.time_ns())
        try:
            return msgspec.json.encode(headers)
        except NOT_ENCODABLE as error:
            raise InvalidArgument(f"the request's id cannot be encoded: {error}") from error

    async def close(self) -> None:
        """End every stream and close every connection."""
        await self._home.close()
        for sender in self._senders.values():
            await sender.close()
        self._sweep.close()


def _encoded(request: Any, codec: Codec) -> bytes:
    try:
        return encode_body(request, codec)
    except NOT_ENCODABLE as error:
        raise InvalidArgument(f"the request cannot be encoded: {error}") from error
