"""An event that a thread can wait for together with files: what ``select`` and its kin need."""

from __future__ import annotations

import contextlib
import os
import threading

__all__ = ["Wake"]


class Wake:
    """An event with a descriptor that is readable while it is set.

    ``set`` may be called from any thread and by a signal handler, before ``open`` and after
    ``close`` too; the rest is for the one thread that waits.
    """

    def __init__(self) -> None:
        # Re-entrant, because a signal handler may interrupt the thread that holds it.
        self._lock = threading.RLock()
        self._event = threading.Event()
        self._pipe: tuple[int, int] | None = None

    def open(self) -> None:
        """Make the descriptor, unless there is one; there is none before, and after ``close``.

        Raises:
            OSError: If the system has none to give.
        """
        with self._lock:
            if self._pipe is not None:
                return
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            self._pipe = (reader, writer)
            if self._event.is_set():
                os.write(writer, b"\0")

    def close(self) -> None:
        """Give the descriptor back; idempotent."""
        with self._lock:
            pipe, self._pipe = self._pipe, None
            for descriptor in pipe or ():
                os.close(descriptor)

    def fileno(self) -> int:
        """The descriptor. Only while it is open."""
        if self._pipe is None:
            raise ValueError("it is not open")
        return self._pipe[0]

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it: whoever waits stops waiting."""
        with self._lock:
            self._event.set()
            if self._pipe is not None:
                # A full pipe is readable, which is all that is wanted.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._pipe[1], b"\0")

    def clear(self) -> None:
        """Unset it."""
        with self._lock:
            self._event.clear()
            if self._pipe is not None:
                with contextlib.suppress(BlockingIOError):
                    while os.read(self._pipe[0], 512):
                        pass

    def wait(self, timeout_s: float) -> bool:
        """Wait for it alone; whether it is set."""
        return self._event.wait(timeout_s)
