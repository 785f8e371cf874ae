"""Questions to the supervisor, and the answers that come back by number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from muster.frontend.processes.messages import Changed, Channel, Done, Merged, Scrape

__all__ = ["Questions"]

_ANSWER_S = 5.0


class Questions:
    """The questions of one process that wait for an answer.

    Args:
        channel: To the supervisor.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Merged | Done]] = {}

    async def ask(self, question: Callable[[int], Scrape | Changed]) -> Merged | Done | None:
        """The answer; ``None`` if there is none within some seconds.

        Args:
            question: Makes it with its number.
        """
        self._number += 1
        number = self._number
        future: asyncio.Future[Merged | Done] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._channel.send(question(number))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    return await future
            return None
        finally:
            del self._waiting[number]

    def answered(self, answer: Merged | Done) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        future = self._waiting.get(answer.number)
        if future is not None and not future.done():
            future.set_result(answer)
