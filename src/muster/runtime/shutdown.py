"""The one ordered, named sequence by which a process ends.

A signal, ``shutdown()``, and leaving the ``async with`` block all run it. Every step is tried,
whatever becomes of those before it.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Sequence

from muster.clock import SYSTEM_CLOCK
from muster.errors import MusterError
from muster.log import facts

__all__ = ["Phase", "Step", "attempt", "run_steps"]

logger = logging.getLogger(__name__)


class Phase(enum.StrEnum):
    """Where a process is in its life; the later ones are those of its end, in their order."""

    RUNNING = "running"
    WITHDRAWING = "withdrawing readiness"
    DEREGISTERING = "leaving the registry"
    REFUSING = "taking no more requests"
    DRAINING = "finishing what is in flight"
    CLOSING = "closing"
    CLOSED = "closed"


Step = tuple[Phase, Callable[[], Awaitable[None]]]


async def run_steps(steps: Sequence[Step], enter: Callable[[Phase], None]) -> None:
    """Run each step; ``enter`` is told before."""
    for phase, step in steps:
        enter(phase)
        began = SYSTEM_CLOCK.monotonic()
        await attempt(phase.value, step)
        seconds = f"{SYSTEM_CLOCK.monotonic() - began:.3f}"
        logger.debug("shutting down", extra=facts(phase=phase.value, seconds=seconds))


async def attempt(what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Run one step; its failure is logged and does not keep the next from happening."""
    try:
        await step()
    except MusterError as error:
        logger.warning("%s failed: %s", what, error)
    except Exception:
        logger.exception("%s failed", what)
