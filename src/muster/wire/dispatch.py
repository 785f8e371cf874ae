"""What a worker does with a request, whichever way it came.

A request is checked before it is acknowledged: what cannot be served is refused in the
acknowledgement, in words that make the peer's callers try elsewhere; what turns out bad later is
answered with an error prologue. An accepted request always ends in a response or a closed
connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import msgspec

from muster.config.settings import RequestPlaneSettings
from muster.errors import MusterError, ProtocolError
from muster.limits import connection_budget
from muster.log import facts, set_request
from muster.tasks import TaskOwner
from muster.wire.admission import Admission, WorkCounts
from muster.wire.codec import NOT_DECODABLE, Codec, decode_body
from muster.wire.context import Context
from muster.wire.control import (
    ACK_OVERLOADED,
    ACK_UNAVAILABLE,
    ControlMessage,
    StreamInfo,
    encode_prologue,
    read_control,
)
from muster.wire.errors import WireError
from muster.wire.frames import split_two_part
from muster.wire.handler_run import Handler, HandlerRun, RunObserver
from muster.wire.items import ITEM_ENCODERS, ItemEncoder
from muster.wire.tcp.responder import Responder
from muster.wire.trace_headers import context_from_headers

__all__ = ["ConnectBack", "Dispatcher", "Observer"]

logger = logging.getLogger(__name__)

_STUBBORN_S = 5.0
"""How long a cancelled handler may take to end before it is left to itself."""
_SENT = b"x-frontend-send-ts-ns"


class Observer(RunObserver, Protocol):
    """Is told what happens to an endpoint's requests."""

    def started(self, request_bytes: int) -> None:
        """A request was accepted."""
        ...

    def transit(self, seconds: float) -> None:
        """It took this long to come here, by the sender's clock and ours."""
        ...

    def ended(self, seconds: float, failure: str | None) -> None:
        """Its response is over; ``failure`` says at which stage it failed."""
        ...


ConnectBack = Callable[[StreamInfo, Context, ItemEncoder], Any]
"""Connects to a request's caller; awaitable of a ``Responder``. Raises ``TransportError``."""


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """When a request was sent, of its headers."""

    at_ns: str = msgspec.field(name="x-frontend-send-ts-ns", default="")


class _Served:
    """An endpoint as the dispatcher knows it."""

    __slots__ = ("handler", "observer", "path", "tasks")

    def __init__(self, path: str, handler: Handler, observer: Observer) -> None:
        self.path = path
        self.handler = handler
        self.observer = observer
        self.tasks = TaskOwner(path)


class Dispatcher:
    """Runs requests of the endpoints served; one a process, shared by all its transports.

    Args:
        settings: Limits.
        counts: Told of requests that wait, run and are refused.
        connect_back: Connects to callers.
    """

    def __init__(
        self, settings: RequestPlaneSettings, counts: WorkCounts, connect_back: ConnectBack
    ) -> None:
        self._settings = settings
        self._connect_back = connect_back
        # Each request has a connection of its own for its response.
        most = math.inf if settings.plane == "loopback" else connection_budget()
        self._admission = Admission(settings.request_limit, settings.queue_limit, counts, most=most)
        self._served: dict[bytes, _Served] = {}

    def add(self, path: str, handler: Handler, observer: Observer) -> None:
        """Serve ``path`` with ``handler``."""
        self._served[path.encode()] = _Served(path, handler, observer)

    async def remove(self, path: str, *, drain_timeout_s: float) -> bool:
        """Refuse new requests for ``path`` and wait for those in flight.

        Returns:
            Whether all ended on their own within the time; the others were cancelled.
        """
        served = self._served.pop(path.encode(), None)
        if served is None:
            return True
        done = await served.tasks.wait(drain_timeout_s)
        await served.tasks.close(timeout_s=_STUBBORN_S)
        return done

    def accept(self, path: bytes, headers: bytes, payload: bytes) -> bytes:
        """Start a request and return the text of its acknowledgement; empty means accepted."""
        served = self._served.get(path)
        if served is None:
            return f"{ACK_UNAVAILABLE}unknown endpoint {path.decode('utf-8', 'replace')}".encode()
        try:
            message = split_two_part(payload)
            control, info = read_control(message)
        except ProtocolError as error:
            logger.warning("refused a malformed request: %s", error)
            return f"{ACK_UNAVAILABLE}malformed request: {error}".encode()
        if not self._admission.admit():
            return ACK_OVERLOADED.encode()
        served.observer.started(len(payload))
        if _SENT in headers:
            _tell_transit(headers, served.observer)
        work = self._respond(served, control, info, headers, message.body)
        served.tasks.start(work, name="request")
        return b""

    async def _respond(
        self,
        served: _Served,
        control: ControlMessage,
        info: StreamInfo,
        headers: bytes,
        body: bytes,
    ) -> None:
        began = asyncio.get_running_loop().time()
        failure: str | None = None
        context = context_from_headers(headers, control.id, control.metadata)
        set_request(context.id(), context.trace)
        attributes = {"endpoint": served.path}
        span = context.begin_span("handle_payload", kind="server", attributes=attributes)
        try:
            failure = await self._run(served, control, info, context, body, began)
        finally:
            self._admission.leave()
            served.observer.ended(asyncio.get_running_loop().time() - began, failure)
            if span is not None:
                if failure is not None:
                    span.set_status("error", failure)
                span.end()

    async def _run(
        self,
        served: _Served,
        control: ControlMessage,
        info: StreamInfo,
        context: Context,
        body: bytes,
        began: float,
    ) -> str | None:
        """One request from acknowledgement to end; returns the stage at which it failed."""
        codec: Codec = "msgpack" if control.payload_codec == "msgpack" else "json"
        try:
            responder: Responder = await self._connect_back(info, context, ITEM_ENCODERS[codec])
        except MusterError as error:
            logger.warning("no response: %s", error, extra=facts(request_id=control.id))
            return "response_stream"
        try:
            request = decode_body(body, codec)
        except ProtocolError as error:
            _refuse(responder, error)
            return "deserialization"
        run = HandlerRun(served.handler, served.observer, responder, context, self._settings)
        try:
            if not await run.wait_for(self._admission):
                return None
            responder.write(encode_prologue())
            served.observer.first_response(asyncio.get_running_loop().time() - began)
            try:
                return await run.to_the_end(request)
            finally:
                self._admission.give_place_back()
        except BaseException:
            responder.close()
            raise
        finally:
            served.observer.responded(responder.sent_bytes)

    def stream(self, path: str, request: Any) -> AsyncIterator[Any]:
        """What ``path``'s handler yields for ``request``, asked in this process and not counted.

        Raises:
            KeyError: Nobody serves ``path``.
        """
        return _items_of(self._served[path.encode()].handler(request, Context()))

    async def close(self) -> None:
        """Cancel what runs, and serve nothing any more."""
        for served in [*self._served.values()]:
            await served.tasks.close(timeout_s=_STUBBORN_S)
        self._served.clear()


async def _items_of(produced: Any) -> AsyncIterator[Any]:
    items: AsyncIterator[Any] = await produced if inspect.isawaitable(produced) else produced
    try:
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


_sent = msgspec.json.Decoder(_Sent).decode


def _tell_transit(headers: bytes, observer: Observer) -> None:
    """How long the request was under way; senders that say nonsense say nothing."""
    try:
        sent_ns = int(_sent(headers).at_ns)
    except (*NOT_DECODABLE, ValueError):
        return
    observer.transit((time.time_ns() - sent_ns) / 1e9)


def _refuse(responder: Responder, error: ProtocolError) -> None:
    typed = WireError(
        error_type={"Backend": "InvalidArgument"},
        class_="InvalidRequest",
        reason="backend.invalid_argument",
        message=str(error),
        diagnostic=str(error),
    )
    responder.write(encode_prologue(typed))
    responder.close()
