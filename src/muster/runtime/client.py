"""Call an endpoint: choose an instance, send, and try another if it cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from muster.discovery.records import Instance
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    MusterError,
    Overloaded,
    ResponseTimeout,
    WorkerUnavailable,
)
from muster.names import EndpointId
from muster.runtime.choosers import Chooser, RouterMode, chooser_for
from muster.runtime.instances import InstanceSource
from muster.wire.context import Context
from muster.wire.control import FrameDecoder
from muster.wire.tcp.caller import TcpTarget
from muster.wire.tcp.response_stream import ResponseStream

__all__ = ["TRY_ELSEWHERE", "Client", "Items", "Sender"]

T = TypeVar("T")

DEFAULT_WAIT_S = 60.0
"""How long ``wait_for_instances`` waits when the caller does not say."""

_UNREACHABLE = (CannotConnect, ConnectionTimeout, Disconnected, WorkerUnavailable)
"""Failures before the first item after which an instance is avoided and another one tried."""

_AVOID = (*_UNREACHABLE, ResponseTimeout, EngineShutdown)
"""Failures before the first item after which an instance is avoided."""

TRY_ELSEWHERE = (*_UNREACHABLE, Overloaded)
"""Failures before the first item that somebody else may not have."""

_PLAIN: FrameDecoder[Any] = FrameDecoder(Any)


class Sender(Protocol):
    """Sends a request to one instance; what the TCP caller does."""

    async def send(
        self,
        target: TcpTarget,
        request: Any,
        decoder: FrameDecoder[T],
        *,
        request_id: str,
        metadata: dict[str, Any],
    ) -> ResponseStream[T]:
        """See ``TcpCaller.send``."""
        ...


class Items:
    """A response for application code: iterate it once.

    Yields ``Annotated`` items, or their data alone, and raises the failure that ended the stream.
    Stopping or killing the request's context reaches the worker. Leaving the loop before the end
    drops the request.
    """

    def __init__(self, stream: ResponseStream[Any], context: Context, *, annotated: bool) -> None:
        self._stream = stream
        self._context = context
        self._annotated = annotated
        context.listen(self._stopped)

    def _stopped(self) -> None:
        if self._context.is_killed():
            self._stream.kill()
        else:
            self._stream.stop()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The items."""
        try:
            while batch := await self._stream.batch():
                for item in batch:
                    yield item if self._annotated else item.payload
        finally:
            self._context.forget(self._stopped)
            self._stream.kill()


class Client:
    """Calls one endpoint.

    Made by ``Endpoint.client()``. Each client has its own round-robin counter; all clients of an
    endpoint in one process share what they know of its instances.
    """

    def __init__(
        self, endpoint: EndpointId, source: InstanceSource, sender: Sender, mode: RouterMode
    ) -> None:
        self._endpoint = endpoint
        self._source = source
        self._sender = sender
        self._mode = mode
        self._choosers: dict[RouterMode, Chooser] = {}
        self._narrowed: tuple[tuple[int, ...], frozenset[int], tuple[int, ...]] = (
            (),
            frozenset(),
            (),
        )
        self._now = asyncio.get_running_loop().time

    # -- who is there ------------------------------------------------------------------------

    def instances(self) -> list[Instance]:
        """All discovered instances, sorted by path; also those that get no requests just now."""
        return sorted(member.instance for member in self._source.set.members.values())

    def instance_ids(self) -> list[int]:
        """Ids of all discovered instances, sorted."""
        return sorted(self._source.set.members)

    def exclusions(self) -> dict[int, str]:
        """Why each discovered instance that gets no requests now does not."""
        return self._source.set.exclusions(self._now())

    async def wait_for_instances(self, timeout: float = DEFAULT_WAIT_S) -> list[int]:
        """Wait until an instance can get requests; returns the ids of those.

        Args:
            timeout: Seconds to wait.

        Raises:
            WorkerUnavailable: None came in time; says who was seen and why they don't count.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (free := self._source.set.free(self._now())):
                    await self._change_or_return()
        except TimeoutError:
            raise self._nobody(f"within {timeout:g} s") from None
        return [*free]

    async def _change_or_return(self) -> None:
        """Wait until the instances change, or one that was avoided may get requests again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._source.set.next_return()):
                await self._source.change()

    # -- calling -----------------------------------------------------------------------------

    async def generate(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to an instance chosen by the client's router mode.

        Args:
            request: Any value MessagePack and JSON can carry.
            annotated: Yield ``Annotated`` items (``.data()``) rather than their data alone.
            context: Stops or kills the request and carries its id and metadata.

        Raises:
            WorkerUnavailable: There is no instance, or none serves this endpoint.
            Overloaded: Every instance refused for want of room.
            CannotConnect: No instance could be reached (also ``ConnectionTimeout``).
            InvalidArgument: The request cannot be encoded, or the worker found it malformed.
        """
        return await self._items(request, annotated, context, mode=self._mode)

    async def round_robin(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to the instances in turn; see ``generate``."""
        return await self._items(request, annotated, context, mode=RouterMode.ROUND_ROBIN)

    async def random(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to an instance chosen at random; see ``generate``."""
        return await self._items(request, annotated, context, mode=RouterMode.RANDOM)

    async def direct(
        self,
        request: Any,
        instance_id: int,
        annotated: bool = True,
        context: Context | None = None,
    ) -> Items:
        """Send ``request`` to this instance and no other; see ``generate``."""
        context = context or Context()
        member = self._source.set.members.get(instance_id)
        if member is None or member.target is None:
            reason = f": {member.reason}" if member is not None else ""
            raise WorkerUnavailable(
                f"instance_id={instance_id} not found for endpoint {self._endpoint}{reason}"
            )
        stream = await self._send(instance_id, member.target, request, _PLAIN, context)
        return Items(stream, context, annotated=annotated)

    async def _items(
        self, request: Any, annotated: bool, context: Context | None, *, mode: RouterMode
    ) -> Items:
        context = context or Context()
        stream = await self.open(request, _PLAIN, context=context, mode=mode)
        return Items(stream, context, annotated=annotated)

    async def open(
        self,
        request: Any,
        decoder: FrameDecoder[T],
        *,
        context: Context,
        mode: RouterMode | None = None,
        among: frozenset[int] | None = None,
    ) -> ResponseStream[T]:
        """Send ``request`` and return its stream once the worker runs it; for fast consumers.

        An instance that cannot be reached is avoided for a while, and the others are tried in turn.
        The context's id and metadata travel; stopping the context does not reach the stream.

        Args:
            request: As in ``generate``.
            decoder: Decodes the items.
            context: The request's id and metadata.
            mode: Router mode; the client's by default.
            among: Choose among these instance ids only.

        Raises:
            MusterError: As ``generate``.
        """
        choose = self._chooser(mode or self._mode)
        tried: set[int] = set()
        failure: MusterError | None = None
        while True:
            free = self.free(among)
            if tried:
                free = tuple(instance_id for instance_id in free if instance_id not in tried)
            if not free:
                raise failure or self._nobody()
            chosen = choose(free)
            target = self._source.set.members[chosen].target
            assert target is not None  # noqa: S101 - a free member has one
            try:
                return await self._send(chosen, target, request, decoder, context)
            except TRY_ELSEWHERE as error:
                tried.add(chosen)
                failure = error

    def free(self, among: frozenset[int] | None = None) -> tuple[int, ...]:
        """Ids, sorted, that may get a request now: of all, or only those in ``among``.

        Narrowing is remembered while nothing changes.
        """
        free = self._source.set.free(self._now())
        if among is None:
            return free
        was_free, was_among, narrowed = self._narrowed
        if was_free is not free or was_among is not among:
            narrowed = tuple(instance_id for instance_id in free if instance_id in among)
            self._narrowed = (free, among, narrowed)
        return narrowed

    async def _send(
        self,
        instance_id: int,
        target: TcpTarget,
        request: Any,
        decoder: FrameDecoder[T],
        context: Context,
    ) -> ResponseStream[T]:
        stream: ResponseStream[T] | None = None
        try:
            stream = await self._sender.send(
                target, request, decoder, request_id=context.id(), metadata=context.metadata
            )
            await stream.opened()
        except _AVOID:
            self._source.set.avoid(instance_id, self._now())
            raise
        except asyncio.CancelledError:
            if stream is not None:
                stream.kill()
            raise
        return stream

    def _chooser(self, mode: RouterMode) -> Chooser:
        chooser = self._choosers.get(mode)
        if chooser is None:
            chooser = self._choosers[mode] = chooser_for(mode)
        return chooser

    def _nobody(self, when: str = "now") -> WorkerUnavailable:
        excluded = self.exclusions()
        if not excluded:
            return WorkerUnavailable(
                f"no instances found for endpoint {self._endpoint} {when}",
                hint="start a worker that serves it, on the same registry",
            )
        reasons = "; ".join(f"{key:x}: {reason}" for key, reason in excluded.items())
        return WorkerUnavailable(
            f"no instance of endpoint {self._endpoint} can be reached {when} ({reasons})"
        )
