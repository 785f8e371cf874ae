"""Sends requests to workers over TCP."""

from __future__ import annotations

from typing import Any

from muster.config.settings import RequestPlaneSettings
from muster.errors import CannotConnect, InvalidArgument
from muster.wire.frames import encode_request_head
from muster.wire.targets import TcpTarget
from muster.wire.tcp.pool import ConnectionPool
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.tls import ClientTls

__all__ = ["TcpSender"]

_U16, _U32 = 0xFFFF, 0xFFFF_FFFF
_FIXED = 8
"""Bytes of a request's three lengths."""


class TcpSender:
    """Sends requests; one a process.

    Args:
        settings: Deadlines and limits.
        tls: See ``ConnectionPool``.
    """

    def __init__(self, settings: RequestPlaneSettings, tls: ClientTls | None) -> None:
        self._limit = min(settings.max_message_bytes, _U32)
        self._pool = ConnectionPool(settings, tls)

    async def send(
        self, target: TcpTarget, headers: bytes, payload: bytes, stream: ResponseStream[Any]
    ) -> None:
        """Send one request; its acknowledgement goes to ``stream``.

        Raises:
            InvalidArgument: It is larger than a frame may be.
            CannotConnect: Nobody listens there.
            ConnectionTimeout: No answer while connecting.
        """
        path = target.path.encode("utf-8", "replace")
        if len(headers) > _U16:
            raise InvalidArgument(f"the request's headers are too long: {len(headers)} bytes")
        if len(path) > _U16:
            raise CannotConnect(f"the endpoint's path is too long: {len(path)} bytes")
        size = _FIXED + len(path) + len(headers) + len(payload)
        if size > self._limit:
            raise InvalidArgument(
                f"the request is {size} bytes, more than the {self._limit} a message may have",
                hint="DYN_TCP_MAX_MESSAGE_SIZE sets the limit, on both sides",
            )
        head = encode_request_head(path, headers, len(payload))
        address = (target.host, target.port)
        connection = self._pool.ready(address) or await self._pool.connect(address)
        connection.send([head, payload], stream)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()
