"""Running a blocking step in a thread such that its end is known even when the caller is cancelled.

``asyncio.to_thread`` lets go of the thread on cancellation; a clean-up that follows would then race
with the step it cleans up after (closing a file that is being written, removing one that is about
to be renamed).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["run_to_end"]

P = ParamSpec("P")
R = TypeVar("R")


async def run_to_end(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run ``function`` in a thread and return its result.

    A cancelled caller gets its ``CancelledError`` only after ``function`` has ended; its result or
    error is then dropped. So use it for short steps on our own disk, never for waits on others.
    """
    # A future of the executor, not a task: a loop that shuts down cancels tasks one by one
    step = asyncio.get_running_loop().run_in_executor(
        None, functools.partial(function, *args, **kwargs)
    )
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return step.result()
    with contextlib.suppress(BaseException):
        step.result()  # an error nobody asks for would be reported as forgotten
    raise cancelled
