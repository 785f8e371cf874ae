"""A process's end: run once, in the order of its phases, whoever starts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from muster.errors import DiscoveryError
from muster.runtime.shutdown import Phase, Step, attempt, run_steps
from muster.tasks import TaskOwner

__all__ = ["Ending"]


class Ending:
    """Runs the steps of an end, and says how far it is.

    Args:
        steps: What follows on ``Phase.WITHDRAWING``, which runs what ``on_withdraw`` was given.
        close: Closes everything, ``Phase.CLOSING``; also run where the end is cut short.
        begun: Called at once when the end starts.
        ended: Called when all is closed, before those who wait are told.

    Attributes:
        phase: Where the process is in its life.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        close: Callable[[], Awaitable[None]],
        *,
        begun: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._steps = [(Phase.WITHDRAWING, self._withdraw_all), *steps]
        self._close = close
        self._begun = begun
        self._ended = ended
        self._withdraw: list[Callable[[], Awaitable[None]]] = []
        self._tasks = TaskOwner("runtime")
        self._running: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self.phase = Phase.RUNNING

    def on_withdraw(self, withdraw: Callable[[], Awaitable[None]]) -> None:
        """Run ``withdraw`` before all other steps; its failure is logged."""
        self._withdraw.append(withdraw)

    def start(self) -> None:
        """Begin the end. Idempotent."""
        if self._running is None:
            self._begun()
            self._running = self._tasks.launch(self._run(), name="shutdown")

    async def finish(self) -> None:
        """Begin the end if nobody has, and wait until it is through."""
        self.start()
        if self._running is not None:
            await asyncio.shield(self._running)

    async def wait(self) -> None:
        """Wait until the end is through, whoever starts it."""
        await self._closed.wait()

    def check_open(self) -> None:
        """Refuse what comes too late.

        Raises:
            DiscoveryError: The end has begun.
        """
        if self._running is not None:
            raise DiscoveryError("this runtime is shutting down, or has")

    async def _run(self) -> None:
        try:
            await run_steps(self._steps, self._enter)
        finally:
            await run_steps([(Phase.CLOSING, self._close)], self._enter)
            self._ended()
            self._enter(Phase.CLOSED)
            self._closed.set()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase

    async def _withdraw_all(self) -> None:
        """Health says so already; what others have registered goes before the instances."""
        for withdraw in [*self._withdraw]:
            await attempt("withdrawing", withdraw)
