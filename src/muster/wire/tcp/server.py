"""The worker's side of the request plane over TCP.

A request is checked before it is acknowledged: what cannot be served is refused in the
acknowledgement, in words that make the peer's callers try elsewhere; what turns out bad later is
answered with an error prologue. An accepted request always ends in a response or a closed
connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, cast

from muster.config.settings import RequestPlaneSettings
from muster.errors import ConfigError, MusterError, ProtocolError
from muster.log import facts
from muster.tasks import TaskOwner
from muster.wire.context import Context
from muster.wire.control import (
    ACK_OVERLOADED,
    ACK_UNAVAILABLE,
    ITEM_ENCODERS,
    Codec,
    ControlMessage,
    StreamInfo,
    decode_body,
    encode_prologue,
    read_control,
)
from muster.wire.errors import WireError, wire_error_from
from muster.wire.frames import RequestFrame, RequestReader, encode_ack, split_two_part
from muster.wire.tcp.responder import Responder, connect_back
from muster.wire.tcp.sweep import Sweep

__all__ = ["Handler", "Observer", "Served", "TcpServer"]

logger = logging.getLogger(__name__)

Handler = Callable[[Any, Context], Any]
"""Takes a request and its context; returns an async iterator of items, or an awaitable of one."""

_BREATH = 64
"""Items after which a handler that never waits lets other work run."""


class Observer(Protocol):
    """Is told what happens to an endpoint's requests."""

    def started(self, request_bytes: int) -> None:
        """A request was accepted."""
        ...

    def ended(self, seconds: float, failure: str | None) -> None:
        """Its response is over; ``failure`` says at which stage it failed."""
        ...

    def cancelled(self) -> None:
        """The caller stopped it or went away."""
        ...


class Served:
    """An endpoint as the server knows it."""

    __slots__ = ("handler", "observer", "tasks")

    def __init__(self, path: str, handler: Handler, observer: Observer) -> None:
        self.handler = handler
        self.observer = observer
        self.tasks = TaskOwner(path)


class _Connection(asyncio.Protocol):
    """A caller's connection: requests in, acknowledgements out in the same order."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._reader = RequestReader(server.settings.max_message_bytes)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        acks = [self._server.accept(frame) for frame in self._reader.feed(data)]
        error = self._reader.error
        if error is not None:
            acks.append(encode_ack(f"Read error: {error}".encode()))
        if acks:
            self._transport.write(b"".join(acks))
        if error is not None:
            self._transport.close()

    def close(self) -> None:
        self._transport.close()


class TcpServer:
    """Serves endpoints; one a process.

    Args:
        settings: Address, deadlines and limits.
    """

    def __init__(self, settings: RequestPlaneSettings) -> None:
        self.settings = settings
        self.connections: set[_Connection] = set()
        self.active = 0
        self._sweep = Sweep()
        self._served: dict[bytes, Served] = {}
        self._server: asyncio.Server | None = None

    async def start(self, bind_host: str) -> int:
        """Listen and return the port.

        Raises:
            ConfigError: If the address or port cannot be used.
        """
        loop = asyncio.get_running_loop()
        port = self.settings.port or 0
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self), bind_host, port, backlog=1024
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen for requests on {bind_host}:{port}: {error}",
                hint="DYN_TCP_RPC_HOST and DYN_TCP_RPC_PORT set the address",
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    def add(self, path: str, handler: Handler, observer: Observer) -> None:
        """Serve ``path`` with ``handler``."""
        self._served[path.encode()] = Served(path, handler, observer)

    async def remove(self, path: str, *, drain_timeout_s: float) -> bool:
        """Refuse new requests for ``path`` and wait for those in flight.

        Returns:
            Whether all ended on their own within the time; the others were cancelled.
        """
        served = self._served.pop(path.encode(), None)
        if served is None:
            return True
        done = await served.tasks.wait(drain_timeout_s)
        await served.tasks.close()
        return done

    def accept(self, frame: RequestFrame) -> bytes:
        """Start a request and return its acknowledgement, or return a refusal."""
        served = self._served.get(frame.path)
        if served is None:
            path = frame.path.decode("utf-8", "replace")
            return encode_ack(f"{ACK_UNAVAILABLE}unknown endpoint {path}".encode())
        if self.active >= self.settings.request_limit:
            return encode_ack(ACK_OVERLOADED.encode())
        try:
            message = split_two_part(frame.payload)
            control, info = read_control(message)
        except ProtocolError as error:
            logger.warning("refused a malformed request: %s", error)
            return encode_ack(f"{ACK_UNAVAILABLE}malformed request: {error}".encode())
        served.observer.started(len(frame.payload))
        self.active += 1
        served.tasks.start(self._respond(served, control, info, message.body), name="request")
        return _ACCEPTED

    async def _respond(
        self, served: Served, control: ControlMessage, info: StreamInfo, body: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        failure: str | None = None
        try:
            failure = await self._run(served, control, info, body)
        finally:
            self.active -= 1
            served.observer.ended(loop.time() - began, failure)

    async def _run(
        self, served: Served, control: ControlMessage, info: StreamInfo, body: bytes
    ) -> str | None:
        """One request from acknowledgement to end; returns the stage at which it failed."""
        codec: Codec = "msgpack" if control.payload_codec == "msgpack" else "json"
        context = Context(control.id, control.metadata)
        try:
            responder = await connect_back(
                info, context, ITEM_ENCODERS[codec], self.settings, self._sweep
            )
        except MusterError as error:
            logger.warning("no response: %s", error, extra=facts(request_id=control.id))
            return "response_stream"
        try:
            request = decode_body(body, codec)
        except ProtocolError as error:
            typed = WireError(
                error_type={"Backend": "InvalidArgument"},
                class_="InvalidRequest",
                reason="backend.invalid_argument",
                message=str(error),
                diagnostic=str(error),
            )
            responder.write(encode_prologue(typed))
            responder.close()
            return "deserialization"
        responder.write(encode_prologue())
        return await _Run(served, responder, context).to_the_end(request)

    async def close(self) -> None:
        """Stop listening, cancel what runs, close every connection."""
        if self._server is not None:
            self._server.close()
        for served in [*self._served.values()]:
            await served.tasks.close()
        self._served.clear()
        for connection in [*self.connections]:
            connection.close()
        self._sweep.close()


_ACCEPTED = encode_ack()


class _Run:
    """One handler at work: its items to the responder, the caller's wishes to the handler."""

    __slots__ = ("_context", "_responder", "_served", "_task")

    def __init__(self, served: Served, responder: Responder, context: Context) -> None:
        self._served = served
        self._responder = responder
        self._context = context
        self._task = asyncio.current_task()

    async def to_the_end(self, request: Any) -> str | None:
        """Run the handler; returns the stage at which it failed, if it did."""
        responder, context = self._responder, self._context
        context.listen(self._stopped)
        try:
            await self._forward(self._served.handler(request, context))
        except asyncio.CancelledError as error:
            if self._task is not None and not self._task.cancelling():
                return self._failed(error)  # the handler's own: what it awaited was cancelled
            responder.close()
            if not context.is_killed():
                raise  # the process is shutting down
            return None
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            return self._failed(error)
        finally:
            context.forget(self._stopped)
        responder.finish()
        return None

    def _failed(self, error: BaseException) -> str:
        self._responder.failure(wire_error_from(error))
        self._responder.finish()
        request = facts(request_id=self._context.id())
        logger.debug("handler failed", exc_info=error, extra=request)
        return "generate"

    def _stopped(self) -> None:
        self._served.observer.cancelled()
        if self._context.is_killed() and self._task is not None:
            self._task.cancel()

    async def _forward(self, produced: Any) -> None:
        items: AsyncIterator[Any] = await produced if inspect.isawaitable(produced) else produced
        responder = self._responder
        send = responder.item
        until_breath = _BREATH
        try:
            async for item in items:
                send(item)
                until_breath -= 1
                if responder.full:
                    await responder.drained()
                elif not until_breath:
                    until_breath = _BREATH
                    await asyncio.sleep(0)
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
