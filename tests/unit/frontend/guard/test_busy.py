"""Busy thresholds: when a model takes no more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.config.settings import GuardSettings
from muster.errors import ConfigError, Disconnected, Overloaded
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Capacity, Load, Thresholds
from muster.llm.protocol import EngineRequest
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.scripted import ScriptedStream, outputs

TWO = Capacity(instances=2, block_size=16, blocks=10, batched_tokens=100)


def load(*, prefill: int = 0, held: int = 0) -> Load:
    made = Load()
    made.prefill_tokens, made.held_tokens = prefill, held
    return made


@pytest.mark.parametrize(
    ("thresholds", "under_way", "busy"),
    [
        (Thresholds(), load(prefill=10**9, held=10**9), False),
        (Thresholds(active_prefill_tokens_threshold=50), load(prefill=100), False),
        (Thresholds(active_prefill_tokens_threshold=50), load(prefill=101), True),
        (Thresholds(active_prefill_tokens_threshold_frac=0.5), load(prefill=100), False),
        (Thresholds(active_prefill_tokens_threshold_frac=0.5), load(prefill=101), True),
        (Thresholds(active_decode_blocks_threshold=0.5), load(held=160), False),
        (Thresholds(active_decode_blocks_threshold=0.5), load(held=161), True),
    ],
)
def test_a_model_is_busy_beyond_any_threshold(
    thresholds: Thresholds, under_way: Load, busy: bool
) -> None:
    assert thresholds.exceeded(under_way, TWO) is busy


def test_what_workers_do_not_say_makes_nobody_busy() -> None:
    every = Thresholds(active_decode_blocks_threshold=0, active_prefill_tokens_threshold_frac=0)
    assert not every.exceeded(load(prefill=1, held=1), Capacity(instances=1))
    every = Thresholds(active_prefill_tokens_threshold=0)
    assert not every.exceeded(load(prefill=1), Capacity())
    assert every.exceeded(load(prefill=1), Capacity(instances=1))


NUMBERS = st.none() | st.floats(0, 1)


@given(a=NUMBERS, b=NUMBERS, c=NUMBERS, d=NUMBERS)
def test_changing_one_threshold_leaves_the_others(
    a: float | None, b: float | None, c: float | None, d: float | None
) -> None:
    old = Thresholds(active_decode_blocks_threshold=a, active_prefill_tokens_threshold_frac=b)
    new = Thresholds(active_decode_blocks_threshold=c, active_prefill_tokens_threshold_frac=d)
    both = old.changed(new)
    assert both.active_decode_blocks_threshold == (a if c is None else c)
    assert both.active_prefill_tokens_threshold_frac == (b if d is None else d)


def test_a_threshold_out_of_range_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="active_decode_blocks_threshold"):
        Admission(GuardSettings(active_decode_blocks=2.0))


def test_what_is_under_way_counts_until_its_stream_ends_however_it_does() -> None:
    """A model of one instance that takes ten prompt tokens at a time and holds twenty tokens."""
    streams: list[ScriptedStream] = []
    failing = False

    async def generate(request: EngineRequest, *, context: Context) -> ScriptedStream:
        if failing:
            raise Disconnected("gone")
        streams.append(ScriptedStream())
        return streams[-1]

    async def test() -> None:
        nonlocal failing
        settings = GuardSettings(active_prefill_tokens=9, active_decode_blocks=1.0)
        admission = Admission(settings)
        capacity = Capacity(instances=1, block_size=1, blocks=20)
        send = admission.around("tiny", generate, lambda: capacity)

        async def ask() -> ScriptedStream:
            request = EngineRequest(model="tiny", token_ids=[7] * 10)
            return await send(request, context=Context())  # type: ignore[return-value]

        first = await ask()
        with pytest.raises(Overloaded):  # ten prompt tokens wait for their first output
            await ask()
        streams[0].push(*outputs([1]))
        assert await first.batch()
        second = await ask()  # one holds eleven, the other ten
        streams[1].push(*outputs([1]))
        assert await second.batch()
        with pytest.raises(Overloaded):
            await ask()
        second.kill()
        second.kill()
        streams[0].end()
        assert not await first.batch()
        failing = True
        for _ in range(3):  # what cannot be sent leaves nothing behind
            with pytest.raises(Disconnected):
                await ask()
        failing = False
        third = await ask()
        streams[2].fail(Disconnected("gone"))
        with pytest.raises(Disconnected):
            await third.batch()
        await ask()
        assert len(streams) == 4

    run(test())


def test_a_busy_model_has_a_line_where_there_are_lines() -> None:
    streams: list[ScriptedStream] = []

    async def generate(request: EngineRequest, *, context: Context) -> ScriptedStream:
        streams.append(ScriptedStream())
        return streams[-1]

    async def test() -> None:
        admission = Admission(GuardSettings(active_prefill_tokens=0, queue_limit=1))
        send = admission.around("tiny", generate, lambda: Capacity(instances=1))
        request = EngineRequest(model="tiny", token_ids=[7])
        first = await send(request, context=Context())
        second = asyncio.create_task(send(request, context=Context()))
        async with asyncio.timeout(20):
            while not admission.rooms.waiting("tiny"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            first.kill()
            await second
        assert len(streams) == 2

    run(test())
