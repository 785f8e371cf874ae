"""Files that are read again when they change, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from muster.errors import MusterError
from muster.log import facts

__all__ = ["Stamp", "stamp_of", "watch_files"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

Stamp = tuple[tuple[int, int, int, int], ...]
"""Of each file: device, inode, size and time of change; zeros for one that is not there."""


def stamp_of(paths: Sequence[Path]) -> Stamp:
    """The present stamp of ``paths``; blocks, so call it in a thread."""
    return tuple(_one(path) for path in paths)


def _one(path: Path) -> tuple[int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


async def watch_files(
    paths: Sequence[Path],
    known: Stamp,
    load: Callable[[], T],
    use: Callable[[T], None],
    *,
    interval_s: float,
) -> None:
    """Look at ``paths`` for ever, and load them anew once they have changed and come to rest.

    A change counts when two looks, ``interval_s`` apart, find the same, and what was loaded counts
    when the files did not change meanwhile. What cannot be loaded is logged once, and what was
    loaded before stays in use.

    Args:
        paths: The files.
        known: Their stamp when they were loaded last.
        load: Loads all of them; called in a thread. May raise ``MusterError``.
        use: Is given what was loaded; called on the loop.
        interval_s: Seconds between two looks.
    """
    seen = known
    while True:
        await asyncio.sleep(interval_s)
        present = await asyncio.to_thread(stamp_of, paths)
        settled, seen = present == seen, present
        if present == known or not settled:
            continue
        try:
            loaded = await asyncio.to_thread(load)
        except MusterError as error:
            known = present
            logger.error(  # noqa: TRY400 - what is wrong with the file is all in the message
                "changed files cannot be used; the old ones stay: %s",
                error.diagnostics(),
                extra=facts(code=error.code),
            )
            continue
        if await asyncio.to_thread(stamp_of, paths) == present:
            known = present
            use(loaded)
