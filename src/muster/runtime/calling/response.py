"""One request's response, from whichever instance gives it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from muster.errors import Cancelled, MusterError, Overloaded, WorkerUnavailable
from muster.runtime.calling.choosers import RouterMode
from muster.runtime.calling.in_flight import TRY_ELSEWHERE, InFlight
from muster.runtime.calling.selection import Selection
from muster.wire.context import Context
from muster.wire.items import Annotated, FrameDecoder
from muster.wire.targets import Target
from muster.wire.tcp.phase import Phase
from muster.wire.tcp.response_stream import ResponseStream

__all__ = ["Response", "Sender"]

T = TypeVar("T")


class Sender(Protocol):
    """Sends a request to one instance; what a ``Caller`` does."""

    async def send(
        self,
        target: Target,
        request: Any,
        decoder: FrameDecoder[T],
        *,
        context: Context,
    ) -> ResponseStream[T]:
        """See ``muster.wire.caller.Caller.send``."""
        ...


class Response(Generic[T]):
    """A request's response: items in order, then a clean end or an error.

    Until its first item it may move: when an instance cannot be reached, refuses, breaks off or
    leaves the registry, the request goes to another one. A handler may therefore see a request that
    another instance's handler has begun and not answered. What a handler itself raises is never
    tried again, nor is a silence after the request was accepted.

    No instance is asked twice, and after ``retry_timeout_s`` nobody else is asked; each attempt has
    the deadlines of its phases.

    Dropping the object without reading it to the end drops the request.

    Args:
        selection: Says who is asked next.
        sender: Sends.
        request: The request.
        decoder: Decodes the items.
        context: The request's id and metadata.
        mode: How an instance is chosen.
        among: Choose among these only.
        only: Ask this instance and no other, whatever is known of it.
        moves: How often it may move; as often as there are others, if left out. Being refused for
            want of room does not count.

    Attributes:
        failures: Why each instance that it has left did not answer, by id, in order.
        failing_since: When the first of them failed, in the loop's time; ``None`` if none has.
    """

    __slots__ = (
        "_among",
        "_begun",
        "_context",
        "_decoder",
        "_failure",
        "_give_up",
        "_killed",
        "_load",
        "_loop",
        "_mode",
        "_moves",
        "_only",
        "_request",
        "_selection",
        "_sender",
        "_stopped",
        "_stream",
        "failing_since",
        "failures",
    )

    def __init__(
        self,
        selection: Selection,
        sender: Sender,
        request: Any,
        decoder: FrameDecoder[T],
        context: Context,
        *,
        mode: RouterMode = RouterMode.ROUND_ROBIN,
        among: frozenset[int] | None = None,
        only: int | None = None,
        moves: int | None = None,
    ) -> None:
        self._stream: ResponseStream[T] | None = None  # first: ``__del__`` looks at it
        self._selection = selection
        self._sender = sender
        self._request = request
        self._decoder = decoder
        self._context = context
        self._mode = mode
        self._among = among
        self._only = only
        self._loop = asyncio.get_running_loop()
        self._give_up = self._loop.time() + selection.source.settings.retry_timeout_s
        self._moves = moves
        self.failures: dict[int, MusterError] = {}
        self.failing_since: float | None = None
        self._failure: MusterError | None = None
        self._load: InFlight | None = None
        self._begun = False
        self._stopped = False
        self._killed = False

    def __del__(self) -> None:
        stream = self._stream
        if stream is not None and stream.phase is not Phase.ENDED:
            # Whichever thread drops it, the stream is its loop's; a closed loop has ended it.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(stream.kill)

    @property
    def instance_id(self) -> int | None:
        """Who has the request, or had it last; ``None`` before anybody was asked."""
        return self._load.instance_id if self._load is not None else None

    # -- reading -----------------------------------------------------------------------------

    async def batch(self) -> list[Annotated[T]]:
        """All items that have arrived and not been read, at least one; empty at the clean end.

        Raises:
            MusterError: The failure that ended the response, after the items before it.
        """
        if self._begun and self._stream is not None:
            return await self._stream.batch()
        return await self._first()

    async def read(self, take: Callable[[list[Annotated[T]]], bool]) -> bool:
        """Hand over what arrives; see ``muster.wire.tcp.response_stream.ResponseStream.read``."""
        if not self._begun or self._stream is None:
            items = await self._first()
            if not items or not take(items) or self._stream is None:
                return bool(items)
        return await self._stream.read(take)

    async def __aiter__(self) -> AsyncIterator[Annotated[T]]:
        """Items one at a time. Leaving the loop early does not stop the worker: use ``kill``."""
        while items := await self.batch():
            for item in items:
                yield item

    async def _first(self) -> list[Annotated[T]]:
        while self._failure is None and self._stream is not None:
            try:
                items = await self._stream.batch()
            except TRY_ELSEWHERE as failure:
                self._give_up_or_go_on(failure)
                await self.open()
                continue
            self._begun = True
            self._settle()
            return items
        if self._failure is not None:
            raise self._failure
        return []

    def _settle(self) -> None:
        """Nobody else will be asked: let go what was kept for that."""
        self._request = None
        if self._load is not None and self._stream is not None:
            self._load.begun(self._stream)

    # -- stopping ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the worker for an early, orderly end; what it still sends can be read."""
        self._stopped = True
        if self._stream is not None:
            self._stream.stop()

    def kill(self) -> None:
        """Drop the response: the worker is told. Idempotent."""
        self._stopped = self._killed = True
        if self._stream is not None:
            self._stream.kill()

    # -- asking ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Send the request, and wait until a worker runs it. Call it once, before reading.

        Raises:
            MusterError: Nobody could be asked, or nobody took it; says who was asked and why not.
                What a worker's handler raised is raised by reading.
        """
        while not self._killed:
            load = self._next()
            try:
                stream = await self._send(load)
                await stream.opened()
            except MusterError as failure:
                if self.reported:
                    return  # the worker ran it: what its handler raised is for the reader
                if not isinstance(failure, TRY_ELSEWHERE):
                    self._fail(failure)
                    raise
                self._give_up_or_go_on(failure)
            except BaseException:
                self._fail(Cancelled("the request was dropped before a worker ran it"))
                raise
            else:
                if not self._killed:
                    self._selection.source.set.forgive(load.instance_id)
                return

    def _give_up_or_go_on(self, failure: MusterError) -> None:
        """Note why the instance that was asked did not answer; raise if nobody else may be."""
        assert self._load is not None  # noqa: S101 - it was asked
        self.failures[self._load.instance_id] = failure
        if self.failing_since is None:
            self.failing_since = self._loop.time()
        if self.reported or self._only is not None:
            raise self._fail(failure)
        last = self._stopped or self._selection.source.closed or self._loop.time() > self._give_up
        if last or self._moves_left() < 0:
            raise self._fail(self._selection.failed(self.failures, self._among))

    def _moves_left(self) -> float:
        """How often it may still move; being refused for want of room is no move."""
        if self._moves is None:
            return math.inf
        lost = [each for each in self.failures.values() if not isinstance(each, Overloaded)]
        return self._moves - len(lost)

    @property
    def reported(self) -> bool:
        """Whether the worker's handler reported the failure that ended the stream."""
        return self._stream is not None and self._stream.reported

    def _fail(self, failure: MusterError) -> MusterError:
        """The response ends with ``failure``, which every later read raises too."""
        self._failure = failure
        self._settle()
        if self._stream is not None:
            self._stream.kill()
        return failure

    def _next(self) -> InFlight:
        members = self._selection.source.set.members
        if self._only is not None:
            member = members.get(self._only)
            if member is None or member.target is None:
                reason = f": {member.reason}" if member is not None else ""
                raise WorkerUnavailable(
                    f"instance_id={self._only} not found for endpoint "
                    f"{self._selection.endpoint}{reason}"
                )
            chosen: int | None = self._only
        else:
            chosen = self._selection.next(self._mode, self._among, self.failures)
        if chosen is None:
            if self.failures:
                raise self._fail(self._selection.failed(self.failures, self._among))
            raise self._fail(self._selection.nobody(self._among))
        return self._selection.source.set.loads[chosen]

    async def _send(self, load: InFlight) -> ResponseStream[T]:
        member = self._selection.source.set.members[load.instance_id]
        assert member.target is not None  # noqa: S101 - who is chosen has one
        self._stream, self._load = None, load
        load.reserve()
        try:
            stream = await self._sender.send(
                member.target,
                self._request,
                self._decoder,
                context=self._context,
            )
        except BaseException as error:
            load.refused(error if isinstance(error, MusterError) else None)
            raise
        self._stream = stream
        has_other = None
        if self._only is None and self._moves_left() > 0:
            has_other = partial(self._selection.has_other, self._among, self.failures)
        load.sent(stream, has_other)
        if self._killed:
            stream.kill()
        elif self._stopped:
            stream.stop()
        return stream
