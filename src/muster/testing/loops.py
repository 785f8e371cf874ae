"""Run a test's coroutine on a loop of its own, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T], *, timeout_s: float = 30.0) -> T:
    """The result of ``work``; ``TimeoutError`` if it takes longer.

    The loop is asyncio's own, which complains of what a test leaves open; the commands run on
    uvloop and are tested as processes.
    """

    async def limited() -> T:
        async with asyncio.timeout(timeout_s):
            return await work

    with asyncio.Runner() as runner:
        return runner.run(limited())
