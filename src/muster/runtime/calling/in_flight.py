"""What this process has under way at each instance, and what its failures say about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    MusterError,
    Overloaded,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.wire.tcp.phase import Phase
from muster.wire.tcp.response_stream import ResponseStream

__all__ = ["TRY_ELSEWHERE", "InFlight", "is_dead", "speaks_against"]

TRY_ELSEWHERE = (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    StreamIncomplete,
    EngineShutdown,
    WorkerUnavailable,
    Overloaded,
)
"""Failures before the first item that another instance may not have.

``ResponseTimeout`` is not among them: the request was accepted and may still be worked on, so
sending it again would double the load of a fleet that is merely slow.
"""

_AGAINST = (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    ResponseTimeout,
    StreamIncomplete,
    EngineShutdown,
    WorkerUnavailable,
)


def speaks_against(failure: MusterError, *, reported: bool) -> bool:
    """Whether an instance whose request ended like this should get none for a while.

    Args:
        failure: What ended the request.
        reported: The worker's handler raised it. That the handler's own connection to somewhere
            broke says nothing about the worker; only that its engine is going away does.
    """
    return isinstance(failure, EngineShutdown if reported else _AGAINST)


def is_dead(failure: MusterError) -> bool:
    """Whether ``failure`` means that nobody answers at the instance's address."""
    return isinstance(failure, CannotConnect | ConnectionTimeout)


class InFlight:
    """The requests of this process at one instance; shared by all clients of its endpoint.

    Args:
        instance_id: The instance.
        ended: Told whenever a request has ended: the instance, the failure if there was one,
            whether the worker's handler reported it, and whether the request had a place there.

    Attributes:
        count: How many have been sent, or are about to be, and have not ended.
        device_type: What the instance computes on, if its record says so.
    """

    __slots__ = ("_ended", "_streams", "count", "device_type", "instance_id")

    def __init__(
        self, instance_id: int, ended: Callable[[int, MusterError | None, bool, bool], None]
    ) -> None:
        self.instance_id = instance_id
        self.device_type: str | None = None
        self.count = 0
        self._ended = ended
        # Whether it could go to another instance; None if it stays where it is.
        self._streams: dict[ResponseStream[Any], Callable[[], bool] | None] = {}

    def reserve(self) -> None:
        """A request is about to be sent: counted now, so that others sent at once see it."""
        self.count += 1

    def refused(self, failure: MusterError | None) -> None:
        """A request that was reserved has not been sent, because of ``failure`` if there is one."""
        self.count -= 1
        self._ended(self.instance_id, failure, False, False)

    def sent(
        self, stream: ResponseStream[Any], has_other: Callable[[], bool] | None = None
    ) -> None:
        """A request that was reserved has been sent.

        Args:
            stream: Its response; counted until it ends.
            has_other: Whether it could go to another instance instead; ``None`` if never.
        """
        self._streams[stream] = has_other
        if stream.phase is Phase.ENDED:
            self._finished(stream)
        else:
            stream.on_end = self._finished

    def begun(self, stream: ResponseStream[Any]) -> None:
        """Items of a response have been read: it stays where it is. Idempotent."""
        if stream in self._streams:
            self._streams[stream] = None

    def left(self) -> None:
        """The instance has left the registry: what can go elsewhere does, at once.

        Only responses of which nothing has come and that have somewhere else to go. The others are
        left to end: a worker that drains deregisters first, and what it has begun it finishes. But
        it may also have hung until its lease ran out, so silence is borne for a shorter time.
        (Dynamo 1.6.1 cancels what is pending, whether there is somewhere else or not.)
        """
        for stream, has_other in [*self._streams.items()]:
            if has_other is not None and not stream.unread and has_other():
                stream.fail(Disconnected(f"{stream.peer} left the registry before it answered"))
            else:
                stream.expect_end()

    def _finished(self, stream: ResponseStream[Any]) -> None:
        self.count -= 1
        self._streams.pop(stream, None)
        failure, reported = stream.failure, stream.reported
        had_place = reported or not isinstance(failure, Overloaded)
        self._ended(self.instance_id, failure, reported, had_place)
