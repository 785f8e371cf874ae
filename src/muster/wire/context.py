"""One request's identity and its stop button, the same object on both ends."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any

__all__ = ["Context"]


class Context:
    """Travels with a request.

    On the caller's side, stopping it tells the worker; on the worker's side it shows what the
    caller wants. ``stop_generating`` asks for an early but orderly end, ``kill`` drops the request.
    Both are idempotent, and a kill implies a stop.

    Args:
        id: The request's id; a new UUID if left out.
        metadata: JSON values that travel with the request.
    """

    __slots__ = ("_id", "_killed", "_listeners", "_metadata", "_stopped")

    def __init__(self, id: str | None = None, metadata: dict[str, Any] | None = None) -> None:  # noqa: A002
        self._id = id if id is not None else str(uuid.uuid4())
        self._metadata = metadata if metadata is not None else {}
        self._stopped = False
        self._killed = False
        self._listeners: list[Callable[[], None]] = []

    def id(self) -> str:
        """The request's id."""
        return self._id

    @property
    def metadata(self) -> dict[str, Any]:
        """The request's metadata; a live mapping."""
        return self._metadata

    def is_stopped(self) -> bool:
        """Whether the request should end early."""
        return self._stopped

    def is_killed(self) -> bool:
        """Whether nobody waits for the request any more."""
        return self._killed

    def stop_generating(self) -> None:
        """Ask for an early, orderly end."""
        if not self._stopped:
            self._stopped = True
            self._notify()

    def kill(self) -> None:
        """Drop the request."""
        if not self._killed:
            self._stopped = self._killed = True
            self._notify()

    async def async_killed_or_stopped(self) -> bool:
        """Wait until the request is stopped or killed; returns ``True``."""
        if self._stopped:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        self.listen(wake)
        try:
            await future
        finally:
            self.forget(wake)
        return True

    def listen(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the request is stopped or killed; at once if it is already."""
        self._listeners.append(callback)
        if self._stopped:
            callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Undo ``listen``; a no-op if it is not listening."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(callback)

    def _notify(self) -> None:
        for callback in tuple(self._listeners):
            callback()
