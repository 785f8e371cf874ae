"""How long a simulated engine takes, and how to wait for it.

The formulas are those of Dynamo 1.6.1's mocker ("polynomial" timing). Waiting is by deadlines: the
next is the last plus the step, however late the last one was met, so that delays do not add up.
"""

from __future__ import annotations

import asyncio

import msgspec

from muster.errors import ConfigError
from muster.wire.context import Context

__all__ = ["Pacer", "StepClock", "Timing", "decode_step_s", "prefill_s"]

_NO_WAITING_FROM = 1e6
_YIELD_EVERY = 32
_LONG_WAIT_S = 0.05


def prefill_s(new_tokens: int) -> float:
    """Seconds until the first token of a prompt with ``new_tokens`` tokens."""
    milliseconds = 4.209989e-7 * new_tokens**2 + 1.518344e-2 * new_tokens + 16.50142
    return milliseconds / 1000


def decode_step_s(occupancy: float) -> float:
    """Seconds from one token to the next.

    Args:
        occupancy: Part of the key-value cache in use, 0 to 1; values outside count as the nearest.
    """
    p = min(max(occupancy, 0.0), 1.0)
    return max(-25.74 * p**2 + 54.01 * p + 5.74, 1.0) / 1000


class Timing(msgspec.Struct, frozen=True):
    """The formulas divided by a speed-up.

    Attributes:
        speedup_ratio: Divides both; 0, or 1e6 and more, means no waiting at all.
        decode_speedup_ratio: Divides the time between tokens once more; the same values mean no
            waiting there.

    Raises:
        ConfigError: If a ratio is negative or not a number.
    """

    speedup_ratio: float = 1.0
    decode_speedup_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not value >= 0:
                raise ConfigError(
                    f"{name} is {value}: it must be 0 or more",
                    hint="1 is real time, 10 ten times as fast; 0 means no waiting",
                )

    @property
    def is_instant(self) -> bool:
        """Whether nothing is waited for."""
        return _is_instant(self.speedup_ratio)

    def prefill_s(self, new_tokens: int) -> float:
        """Seconds until the first token."""
        return 0.0 if self.is_instant else prefill_s(new_tokens) / self.speedup_ratio

    def step_s(self, occupancy: float) -> float:
        """Seconds from one token to the next."""
        if self.is_instant or _is_instant(self.decode_speedup_ratio):
            return 0.0
        return decode_step_s(occupancy) / (self.speedup_ratio * self.decode_speedup_ratio)


def _is_instant(ratio: float) -> bool:
    return ratio == 0 or ratio >= _NO_WAITING_FROM


class StepClock:
    """When the decode steps of an engine end.

    An engine with continuous batching decodes a token of every request it has in one step, so tokens
    of all of them come at the same moment; a request that joins has its next at the end of the step
    under way.
    """

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = 0.0

    def end_after(self, due: float, step_s: float) -> float:
        """The end of the first step that ends after ``due``; one begins there if none does.

        Args:
            due: When a request's last token was due.
            step_s: How long a step takes that begins now.
        """
        if self._end <= due:
            self._end = due + step_s
        return self._end


class Pacer:
    """The deadlines of one request. Make it when the request begins.

    Args:
        context: The request's; a stop or kill ends a wait.
    """

    __slots__ = ("_context", "_due", "_loop", "_unyielded")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._unyielded = 0

    async def wait(self, gap_s: float) -> bool:
        """Wait until ``gap_s`` after the last deadline; ``False`` if the request is to end.

        Where there is nothing to wait for, the other requests get their turn now and then all the
        same. A stop during a short wait is seen at its end.
        """
        return await self._until(self._due + gap_s)

    async def step(self, clock: StepClock, step_s: float) -> bool:
        """Wait for the end of the next step after the last deadline; see ``wait``."""
        return await self._until(clock.end_after(self._due, step_s))

    async def _until(self, due: float) -> bool:
        self._due = due
        delay = self._due - self._loop.time()
        if delay > _LONG_WAIT_S:
            await self._wait_or_stop(delay)
        elif delay > 0:
            await asyncio.sleep(delay)
        else:
            self._unyielded += 1
            if self._unyielded % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return not self._context.is_stopped()

    async def _wait_or_stop(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._context.async_killed_or_stopped()
        except TimeoutError:
            return
