"""The caller's side of the request plane over TCP: send a request, get its response stream."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, InvalidArgument, MusterError
from muster.wire.address import bind_and_advertise, format_authority
from muster.wire.control import Codec, FrameDecoder, encode_body, encode_control
from muster.wire.frames import encode_request_head, encode_two_part
from muster.wire.tcp.call_home import CallHome
from muster.wire.tcp.pool import ConnectionPool
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.sweep import Sweep

__all__ = ["TcpCaller", "TcpTarget"]

T = TypeVar("T")

_PORT = re.compile(r"[0-9]{1,5}")


class TcpTarget(msgspec.Struct, frozen=True):
    """Where an instance is reached: host, port, the endpoint's path there, and its codec."""

    host: str
    port: int
    path: str
    codec: Codec

    @classmethod
    def parse(cls, address: str, codec: str | None) -> TcpTarget:
        """Read the address text of an instance record: ``host:port/path``, IPv6 in brackets.

        Without a codec in the record the peer expects JSON.

        Raises:
            CannotConnect: If the text is not such an address, or the codec is not one we speak.
        """
        authority, slash, path = address.partition("/")
        host, colon, port = authority.rpartition(":")
        if not (slash and colon and path and host and _PORT.fullmatch(port) and int(port) < 65536):
            raise CannotConnect(f"{address!r} is not an address of the form host:port/path")
        if codec not in (None, "msgpack", "json"):
            raise CannotConnect(f"the instance asks for the unknown codec {codec!r}")
        return cls(
            host.removeprefix("[").removesuffix("]"),
            int(port),
            path,
            "msgpack" if codec == "msgpack" else "json",
        )


class TcpCaller:
    """Sends requests; one a process.

    Args:
        settings: Addresses, deadlines and limits.
    """

    def __init__(self, settings: RequestPlaneSettings) -> None:
        self._settings = settings
        self._sweep = Sweep()
        self._home = CallHome(settings, self._sweep)
        self._pool = ConnectionPool(settings)

    async def start(self) -> None:
        """Listen for responses.

        Raises:
            CannotConnect: If the address or port cannot be used.
        """
        host = self._settings.response_host
        bind, advertised = await asyncio.to_thread(bind_and_advertise, host)
        await self._home.start(bind, lambda port: format_authority(advertised, port))

    async def send(
        self,
        target: TcpTarget,
        request: Any,
        decoder: FrameDecoder[T],
        *,
        request_id: str,
        metadata: dict[str, Any],
    ) -> ResponseStream[T]:
        """Send ``request`` and return its stream, without waiting for the worker.

        Raises:
            InvalidArgument: The request cannot be encoded, or is larger than a frame may be.
            CannotConnect: Nobody listens there.
            ConnectionTimeout: No answer while connecting.
        """
        try:
            body = encode_body(request, target.codec)
        except (TypeError, ValueError, msgspec.EncodeError) as error:
            raise InvalidArgument(f"the request cannot be encoded: {error}") from error
        address = (target.host, target.port)
        connection = self._pool.ready(address) or await self._pool.connect(address)
        decode: Callable[[bytes], Any] = decoder.of(target.codec)
        stream: ResponseStream[T] = self._home.open(f"{target.host}:{target.port}", decode)
        try:
            connection.send(self._frame(target, body, stream.subject, request_id, metadata), stream)
        except MusterError:
            stream.kill()
            raise
        return stream

    def _frame(
        self,
        target: TcpTarget,
        body: bytes,
        subject: str,
        request_id: str,
        metadata: dict[str, Any],
    ) -> list[bytes]:
        control = encode_control(
            request_id=request_id,
            codec=target.codec,
            address=self._home.address,
            subject=subject,
            metadata=metadata,
        )
        payload = encode_two_part(control, body)
        headers = msgspec.json.encode(
            {
                "x-endpoint-path": target.path,
                "request-id": request_id,
                "x-frontend-send-ts-ns": str(time.time_ns()),
            }
        )
        if len(headers) > 0xFFFF:
            raise InvalidArgument(f"the request id is too long: {len(request_id)} characters")
        head = encode_request_head(target.path.encode(), headers, len(payload))
        if len(head) + len(payload) > self._settings.max_message_bytes:
            raise InvalidArgument(
                f"the request is {len(head) + len(payload)} bytes, more than the "
                f"{self._settings.max_message_bytes} a message may have",
                hint="DYN_TCP_MAX_MESSAGE_SIZE sets the limit, on both sides",
            )
        return [head, payload]

    async def close(self) -> None:
        """End every stream and close every connection."""
        await self._home.close()
        await self._pool.close()
        self._sweep.close()
