"""Waiting for other processes, in tests that have no event loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

__all__ = ["START_S", "wait_until"]

START_S = 60.0
"""How long a process may take to start, on a busy machine."""


def wait_until(check: Callable[[], Any], what: str, *, timeout_s: float = START_S) -> Any:
    """The first true thing ``check`` gives; ``TimeoutError`` naming ``what`` if that takes too long.

    ``check`` may raise ``OSError`` while what it asks is not there yet.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = check()
            if found:
                return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s")
