from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import ConfigError
from muster.testing.context import ManualContext
from muster.testing.virtual_time import run_in_virtual_time
from muster.worker.engines.timing import Pacer, StepClock, Timing, decode_step_s, prefill_s


def test_the_formulas_give_the_times_measured_on_the_peer() -> None:
    # 117-token prompt, speedup 1: 20.0 ms for 1 token, 106 for 16, 750 for 128, overhead included
    first, step = prefill_s(117) * 1000, decode_step_s(0) * 1000
    assert first == pytest.approx(18.284, abs=0.001)
    assert first + 15 * step == pytest.approx(104.4, abs=0.1)
    assert first + 127 * step == pytest.approx(747.3, abs=0.1)


@pytest.mark.parametrize(
    ("tokens", "milliseconds"), [(0, 16.50142), (1000, 32.1058489), (8192, 169.1369)]
)
def test_prefill_grows_with_the_prompt(tokens: int, milliseconds: float) -> None:
    assert prefill_s(tokens) * 1000 == pytest.approx(milliseconds, abs=0.001)


@pytest.mark.parametrize(
    ("occupancy", "milliseconds"), [(0, 5.74), (0.5, 26.31), (1, 34.01), (7, 34.01), (-1, 5.74)]
)
def test_decoding_slows_down_as_the_cache_fills(occupancy: float, milliseconds: float) -> None:
    assert decode_step_s(occupancy) * 1000 == pytest.approx(milliseconds)


@given(st.floats(0, 1))
def test_a_step_takes_a_millisecond_at_least(occupancy: float) -> None:
    assert decode_step_s(occupancy) >= 0.001


def test_a_speedup_divides_both_and_the_decode_speedup_the_steps_once_more() -> None:
    timing = Timing(10.0, 2.0)
    assert timing.prefill_s(117) == pytest.approx(prefill_s(117) / 10)
    assert timing.step_s(0.5) == pytest.approx(decode_step_s(0.5) / 20)
    assert not timing.is_instant


@pytest.mark.parametrize("ratio", [0, 1e6, 1e9, float("inf")])
def test_zero_and_a_million_mean_no_waiting(ratio: float) -> None:
    assert Timing(ratio).is_instant
    assert (Timing(ratio).prefill_s(99), Timing(ratio).step_s(1)) == (0, 0)
    only_decode = Timing(1.0, ratio)
    assert not only_decode.is_instant
    assert only_decode.step_s(1) == 0
    assert only_decode.prefill_s(0) > 0


@pytest.mark.parametrize("ratio", [-1, float("nan")])
def test_a_ratio_that_is_no_speed_is_a_config_error(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"^speedup_ratio"):
        Timing(ratio)
    with pytest.raises(ConfigError, match=r"^decode_speedup_ratio"):
        Timing(1, ratio)


def test_deadlines_do_not_drift_when_one_is_missed() -> None:
    async def pace() -> list[float]:
        loop, times = asyncio.get_running_loop(), list[float]()
        pacer = Pacer(ManualContext())
        for late in (0.0, 0.025, 0.0, 0.0):
            await pacer.wait(0.01)
            times.append(loop.time())
            await asyncio.sleep(late)
        return times

    assert run_in_virtual_time(pace()) == pytest.approx([0.01, 0.02, 0.045, 0.045])


def test_requests_share_the_steps_of_an_engine() -> None:
    async def pace(clock: StepClock, first: float, count: int) -> list[float]:
        loop, pacer = asyncio.get_running_loop(), Pacer(ManualContext())
        await pacer.wait(first)
        times = []
        for _ in range(count):
            await pacer.step(clock, 0.01)
            times.append(loop.time())
        return times

    async def both() -> list[list[float]]:
        clock = StepClock()
        found = await asyncio.gather(pace(clock, 0.5, 3), pace(clock, 0.513, 3))
        return [*found, await pace(clock, 9, 1)]  # steps begin anew after a pause

    one, other, later = run_in_virtual_time(both())
    assert one == pytest.approx([0.51, 0.52, 0.53])
    assert other == pytest.approx([0.52, 0.53, 0.54])
    assert later == pytest.approx([0.54 + 9 + 0.01])


def test_a_stop_ends_a_long_wait_at_once() -> None:
    async def pace() -> tuple[bool, float]:
        context = ManualContext()
        loop = asyncio.get_running_loop()
        loop.call_at(3.0, context.stop_generating)
        return await Pacer(context).wait(1000), loop.time()

    went_on, now = run_in_virtual_time(pace())
    assert not went_on
    assert now == pytest.approx(3.0)


def test_a_stop_is_seen_after_a_short_wait_and_after_none() -> None:
    async def pace(gap: float) -> bool:
        context = ManualContext()
        pacer = Pacer(context)
        assert await pacer.wait(gap)
        context.kill()
        return await pacer.wait(gap)

    assert not run_in_virtual_time(pace(0.01))
    assert not run_in_virtual_time(pace(0))


def test_others_get_their_turn_where_nothing_is_waited_for() -> None:
    async def pace() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        pacer = Pacer(ManualContext())
        for _ in range(320):
            await pacer.wait(0)
        task.cancel()
        return turns

    assert run_in_virtual_time(pace()) >= 10
