"""SIGINT, SIGTERM and SIGHUP as an orderly end of a command that has something to clean up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupts"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Within it, such a signal raises ``SystemExit`` with the shell's code for it (128 + number).

    For the main thread. A signal that the process was started to ignore (``nohup``) stays ignored.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put off signals until the end of a block that must not be left half done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._pending is not None:
                raise SystemExit(128 + self._pending)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._pending = number
        else:
            raise SystemExit(128 + number)
