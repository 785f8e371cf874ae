"""Sends requests to workers over NATS.

A request is one message with a reply subject of its own, on which the worker acknowledges it (by an
empty message, as Dynamo 1.6.1's do); the server itself answers there if nobody listens.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg

from muster.config.settings import NatsSettings
from muster.errors import CannotConnect, InvalidArgument
from muster.wire.control import ACK_UNAVAILABLE
from muster.wire.nats.connection import NatsConnection
from muster.wire.targets import NatsTarget
from muster.wire.tcp.response_stream import ResponseStream

__all__ = ["NatsSender"]

_STATUS = "Status"
_NO_RESPONDERS = "503"


class NatsSender:
    """Sends requests; one a process.

    Args:
        connection: The process's.
        settings: The deadline.
    """

    def __init__(self, connection: NatsConnection, settings: NatsSettings) -> None:
        self._connection = connection
        self._timeout_s = settings.request_timeout_s
        self._waiting: dict[str, ResponseStream[Any]] = {}
        self._numbers = itertools.count(1)
        self._subscribing = asyncio.Lock()
        self._inbox = ""

    async def send(
        self, target: NatsTarget, headers: bytes, payload: bytes, stream: ResponseStream[Any]
    ) -> None:
        """Send one request; its acknowledgement goes to ``stream``.

        Raises:
            InvalidArgument: It is larger than the server takes.
            CannotConnect: There is no connection to NATS at present.
        """
        client = await self._connection.client()
        if not self._connection.is_connected:
            raise CannotConnect(f"NATS at {self._connection.servers} is out of reach at present")
        if len(payload) + len(headers) > client.max_payload:
            raise InvalidArgument(
                f"the request is {len(payload)} bytes, more than the {client.max_payload} that "
                "the NATS server takes",
                hint="max_payload in the server's configuration sets the limit",
            )
        await self._subscribe()
        self._forget_ended()
        reply = f"{self._inbox}.{next(self._numbers)}"
        self._waiting[reply] = stream
        stream.deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            await client.publish(
                target.path, payload, reply=reply, headers=msgspec.json.decode(headers)
            )
        except (nats.errors.Error, OSError, ValueError) as error:
            self._waiting.pop(reply, None)
            raise CannotConnect(f"cannot publish to {target.path}: {error}") from error

    async def _subscribe(self) -> None:
        """One subscription takes the acknowledgements of all requests."""
        async with self._subscribing:
            if self._inbox:
                return
            client = await self._connection.client()
            inbox = client.new_inbox()
            try:
                await client.subscribe(f"{inbox}.*", cb=self._acknowledged)
            except (nats.errors.Error, OSError) as error:
                raise CannotConnect(f"cannot subscribe at NATS: {error}") from error
            self._inbox = inbox

    async def _acknowledged(self, message: Msg) -> None:
        stream = self._waiting.pop(message.subject, None)
        if stream is None:
            return
        if (message.headers or {}).get(_STATUS) == _NO_RESPONDERS:
            stream.acknowledged(f"{ACK_UNAVAILABLE}nobody listens on its subject".encode())
        else:
            stream.acknowledged(message.data)

    def _forget_ended(self) -> None:
        """Drop requests that ended without an acknowledgement; the oldest are first."""
        while self._waiting:
            reply, stream = next(iter(self._waiting.items()))
            if not stream.ended:
                return
            del self._waiting[reply]

    async def close(self) -> None:
        """Nothing of its own is open; the connection is the process's."""
        self._waiting.clear()
