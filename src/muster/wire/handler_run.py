"""One handler at work: its items to the responder, the caller's wishes to the handler."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from muster.config.settings import RequestPlaneSettings
from muster.log import facts
from muster.wire.admission import Admission
from muster.wire.context import Context
from muster.wire.errors import wire_error_from
from muster.wire.tcp.responder import Responder

__all__ = ["Handler", "HandlerRun", "RunObserver"]

logger = logging.getLogger(__name__)

Handler = Callable[[Any, Context], Any]
"""Takes a request and its context; returns an async iterator of items, or an awaitable of one."""

_BREATH = 64
"""Items after which a handler that never waits lets other work run."""


class RunObserver(Protocol):
    """Is told what happens to a response.

    Attributes:
        on_item: Called after items were sent, if anybody wants to know.
    """

    on_item: Callable[[], None] | None

    def first_response(self, seconds: float) -> None:
        """Its start was sent, this long after the request came."""
        ...

    def responded(self, response_bytes: int) -> None:
        """So many bytes of it were sent."""
        ...

    def cancelled(self) -> None:
        """The caller stopped it or went away."""
        ...


class HandlerRun:
    """One request's handler, in the task that makes this object.

    A caller's kill, and the loss of its connection, cancel the handler. A caller's stop is the
    handler's to heed; one that goes on for longer than the setting allows is cancelled too. A
    handler that swallows its cancellation is closed at its next item. Whoever runs this closes the
    responder if it raises.
    """

    __slots__ = (
        "_context",
        "_grace",
        "_handler",
        "_killed",
        "_observer",
        "_responder",
        "_settings",
        "_task",
        "_told",
    )

    def __init__(
        self,
        handler: Handler,
        observer: RunObserver,
        responder: Responder,
        context: Context,
        settings: RequestPlaneSettings,
    ) -> None:
        self._handler = handler
        self._observer = observer
        self._responder = responder
        self._context = context
        self._settings = settings
        self._grace: asyncio.TimerHandle | None = None
        self._told = False
        self._killed = False
        self._task = asyncio.current_task()
        context.listen(self._stopped)

    async def wait_for(self, admission: Admission) -> bool:
        """Wait for a place; ``False`` if the caller has given up before there was one."""
        try:
            await admission.take_place()
        except asyncio.CancelledError:
            self._end()
            if not self._context.is_killed():
                raise  # the process is shutting down
            self._responder.close()
            return False
        return True

    async def to_the_end(self, request: Any) -> str | None:
        """Run the handler; returns the stage at which it failed, if it did."""
        responder, context = self._responder, self._context
        try:
            await self._forward(self._handler(request, context))
        except asyncio.CancelledError as error:
            if self._task is not None and not self._task.cancelling():
                return self._failed(error)  # the handler's own: what it awaited was cancelled
            if not context.is_killed():
                raise  # the process is shutting down
            responder.close()
            return None
        except (SystemExit, KeyboardInterrupt):
            raise  # they end the loop
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            return self._failed(error)
        finally:
            self._end()
        responder.finish()
        return None

    def _end(self) -> None:
        self._context.forget(self._stopped)
        if self._grace is not None:
            self._grace.cancel()

    def _failed(self, error: BaseException) -> str:
        self._responder.on_write = None  # an error is no sign of life
        self._responder.failure(wire_error_from(error))
        self._responder.finish()
        request = facts(request_id=self._context.id())
        logger.debug("handler failed", exc_info=error, extra=request)
        return "generate"

    def _stopped(self) -> None:
        if not self._told:
            self._told = True
            self._observer.cancelled()
        if self._context.is_killed():
            self._killed = True
            if self._task is not None:
                self._task.cancel()
        elif self._grace is None:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(self._settings.stop_grace_s, self._lose_patience)

    def _lose_patience(self) -> None:
        logger.warning(
            "a handler went on after it was told to stop; cancelled it",
            extra=facts(request_id=self._context.id(), after_s=self._settings.stop_grace_s),
        )
        self._context.kill()

    async def _forward(self, produced: Any) -> None:
        items: AsyncIterator[Any] = await produced if inspect.isawaitable(produced) else produced
        responder = self._responder
        send = responder.item
        until_breath = _BREATH
        begun = False
        try:
            async for item in items:
                if self._killed:
                    raise asyncio.CancelledError  # the handler has swallowed its own
                send(item)
                if not begun:
                    begun = True
                    responder.on_write = self._observer.on_item
                    self._context.notify_first_token()
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
