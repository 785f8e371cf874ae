from __future__ import annotations

import asyncio

import pytest

from muster.testing.context import ManualContext
from muster.testing.virtual_time import run_in_virtual_time


def test_a_year_passes_at_once_and_in_order() -> None:
    async def main() -> tuple[float, list[str]]:
        seen: list[str] = []

        async def sleeper(name: str, duration: float) -> None:
            await asyncio.sleep(duration)
            seen.append(name)

        await asyncio.gather(sleeper("late", 3e7), sleeper("early", 1.5))
        return asyncio.get_running_loop().time(), seen

    now, seen = run_in_virtual_time(main())
    assert now == pytest.approx(3e7)
    assert seen == ["early", "late"]


def test_waiting_for_what_cannot_happen_is_an_error_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="cannot happen"):
        run_in_virtual_time(main())


def test_a_manual_context_stops_at_the_look_asked_for() -> None:
    context = ManualContext(stop_after=2)
    assert [context.is_stopped() for _ in range(3)] == [False, True, True]
    assert context.looks == 3
    assert not context.is_killed()
    assert not ManualContext().is_stopped()
