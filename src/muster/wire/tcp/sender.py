"""Sends requests to workers over TCP."""

from __future__ import annotations

from typing import Any

from muster.config.settings import RequestPlaneSettings
from muster.errors import InvalidArgument
from muster.wire.frames import encode_request_head
from muster.wire.targets import TcpTarget
from muster.wire.tcp.pool import ConnectionPool
from muster.wire.tcp.response_stream import ResponseStream
from muster.wire.tcp.tls import ClientTls

__all__ = ["TcpSender"]


class TcpSender:
    """Sends requests; one a process.

    Args:
        settings: Deadlines and limits.
        tls: See ``ConnectionPool``.
    """

    def __init__(self, settings: RequestPlaneSettings, tls: ClientTls | None) -> None:
        self._limit = settings.max_message_bytes
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
        if len(headers) > 0xFFFF:
            raise InvalidArgument(f"the request's headers are too long: {len(headers)} bytes")
        head = encode_request_head(target.path.encode(), headers, len(payload))
        if len(head) + len(payload) > self._limit:
            raise InvalidArgument(
                f"the request is {len(head) + len(payload)} bytes, more than the "
                f"{self._limit} a message may have",
                hint="DYN_TCP_MAX_MESSAGE_SIZE sets the limit, on both sides",
            )
        address = (target.host, target.port)
        connection = self._pool.ready(address) or await self._pool.connect(address)
        connection.send([head, payload], stream)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()
