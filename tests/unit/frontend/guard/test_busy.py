"""Busy thresholds: when a model takes no more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.config.settings import GuardSettings
from muster.errors import ConfigError, Disconnected, Overloaded
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Capacity, Loads, Thresholds
from muster.llm.protocol import EngineRequest
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.scripted import ScriptedStream, outputs

CAPACITY = Capacity(block_size=16, blocks=10, batched_tokens=100)


def busy(thresholds: Thresholds, loads: dict[int | None, tuple[int, int]], *ids: int) -> set[int]:
    """Who is busy among ``ids`` with these prefill and held tokens."""
    return set(thresholds.busy(made(loads), dict.fromkeys(ids, CAPACITY)))


def made(by_place: dict[int | None, tuple[int, int]]) -> Loads:
    loads = Loads()
    for place, (prefill, held) in by_place.items():
        loads.add(place, prefill=prefill, held=held)
    return loads


@pytest.mark.parametrize(
    ("thresholds", "load", "is_busy"),
    [
        (Thresholds(), (10**9, 10**9), False),
        (Thresholds(active_prefill_tokens_threshold=50), (50, 50), False),
        (Thresholds(active_prefill_tokens_threshold=50), (51, 51), True),
        (Thresholds(active_prefill_tokens_threshold_frac=0.5), (50, 50), False),
        (Thresholds(active_prefill_tokens_threshold_frac=0.5), (51, 51), True),
        (Thresholds(active_decode_blocks_threshold=0.5), (0, 80), False),
        (Thresholds(active_decode_blocks_threshold=0.5), (0, 81), True),
    ],
)
def test_an_instance_is_busy_beyond_any_threshold(
    thresholds: Thresholds, load: tuple[int, int], is_busy: bool
) -> None:
    assert busy(thresholds, {7: load}, 7, 8) == ({7} if is_busy else set())


def test_what_nobody_has_taken_yet_is_shared_out() -> None:
    thresholds = Thresholds(active_prefill_tokens_threshold=50)
    assert busy(thresholds, {None: (100, 100)}, 7, 8) == set()
    assert busy(thresholds, {None: (102, 102)}, 7, 8) == {7, 8}
    assert busy(thresholds, {None: (50, 50), 7: (30, 30)}, 7, 8) == {7}
    assert not thresholds.busy(made({None: (999, 999)}), {7: CAPACITY}, share=False)


def test_what_workers_do_not_say_makes_nobody_busy() -> None:
    loads = Loads()
    loads.add(7, prefill=1, held=1)
    every = Thresholds(active_decode_blocks_threshold=0, active_prefill_tokens_threshold_frac=0)
    assert not every.busy(loads, {7: Capacity()})
    every = Thresholds(active_prefill_tokens_threshold=0)
    assert not every.busy(loads, {})
    assert every.busy(loads, {7: Capacity()}) == {7}


PLACES = st.none() | st.integers(0, 3)


@given(moves=st.lists(st.tuples(PLACES, st.integers(0, 9), st.integers(0, 9))))
def test_what_has_gone_leaves_nothing_behind(moves: list[tuple[int | None, int, int]]) -> None:
    loads = Loads()
    for place, prefill, more in moves:
        loads.add(place, prefill=prefill, held=prefill + more)
    for place, prefill, more in moves:
        loads.add(place, prefill=-prefill, held=-prefill - more)
    assert all(loads.at(instance_id, 4) == (0, 0) for instance_id in range(4))


NUMBERS = st.none() | st.floats(0, 1)


@given(a=NUMBERS, b=NUMBERS, c=NUMBERS)
def test_changing_one_threshold_leaves_the_others_and_none_unsets_it(
    a: float | None, b: float | None, c: float | None
) -> None:
    admission = Admission(GuardSettings(active_decode_blocks=a, active_prefill_tokens_frac=b))
    assert admission.set("tiny", {}) is None  # nobody knows it
    admission.busy("tiny")
    both = admission.set("tiny", {"active_decode_blocks_threshold": c})
    assert both is not None
    assert both.active_decode_blocks_threshold == c
    assert both.active_prefill_tokens_threshold_frac == b


def test_a_cards_thresholds_replace_the_settings_and_changes_stay() -> None:
    async def generate(request: EngineRequest, *, context: Context) -> ScriptedStream:
        raise AssertionError("nobody asks")

    admission = Admission(GuardSettings(active_prefill_tokens=9))
    admission.around("tiny", generate, dict, Thresholds(active_decode_blocks_threshold=0.5))
    assert admission.thresholds("tiny") == Thresholds(active_decode_blocks_threshold=0.5)
    admission.set("tiny", {"active_decode_blocks_threshold": 0.25})
    admission.around("tiny", generate, dict, Thresholds(active_decode_blocks_threshold=0.5))
    assert admission.thresholds("tiny") == Thresholds(active_decode_blocks_threshold=0.25)


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
        capacities = {1: Capacity(block_size=1, blocks=20)}
        send = admission.around("tiny", generate, lambda: capacities)

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
        send = admission.around("tiny", generate, lambda: {1: Capacity()})
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
