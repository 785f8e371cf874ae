from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from muster.errors import CardError, InvalidArgument
from muster.llm.protocol import Engine, EngineRequest, StopConditions
from muster.llm.tokenizer import Tokenizer
from muster.testing.context import ManualContext
from muster.testing.virtual_time import run_in_virtual_time
from muster.wire.context import Context
from muster.worker.engines.mock import MockEngine, MockSettings
from muster.worker.engines.timing import Timing, decode_step_s, prefill_s

INSTANT = MockSettings(timing=Timing(0))


def request(
    prompt: list[int] | None = None,
    *,
    n: int | None = None,
    eos: list[int] | None = None,
    **stop_conditions: Any,
) -> dict[str, Any]:
    return {
        "model": "m",
        "token_ids": [5, 6, 7] if prompt is None else prompt,
        "stop_conditions": {"max_tokens": 8} | stop_conditions,
        "sampling_options": {"n": n, "seed": None},
        "output_options": {},
        "eos_token_ids": eos or [],
        "annotations": [],
    }


async def collect(
    engine: Engine, body: dict[str, Any] | EngineRequest, context: Context | None = None
) -> list[dict[str, Any]]:
    items = []
    # a worker hands over what it decoded: a plain map
    stream = engine.generate(body, context or ManualContext())  # type: ignore[arg-type] # as above
    async for item in stream:
        assert isinstance(item, dict)
        items.append(item)
    return items


def generate(
    engine: Engine, body: dict[str, Any] | EngineRequest, context: Context | None = None
) -> list[dict[str, Any]]:
    return run_in_virtual_time(collect(engine, body, context))


def tokens(items: list[dict[str, Any]]) -> list[int]:
    return [token for item in items for token in item["token_ids"]]


def reasons(items: list[dict[str, Any]]) -> list[str | None]:
    return [item.get("finish_reason") for item in items]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_path: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_path)


@pytest.fixture(scope="module")
def engine(tokenizer_path: Path) -> MockEngine:
    return MockEngine(tokenizer_path, INSTANT)


def test_a_reply_has_max_tokens_tokens_and_ends_with_length(engine: MockEngine) -> None:
    for count in (1, 2, 31, 32, 33, 500):
        items = generate(engine, request(max_tokens=count))
        assert [len(item["token_ids"]) for item in items] == [1] * count
        assert reasons(items) == [None] * (count - 1) + ["length"]
        assert {item["index"] for item in items} == {0}


def test_a_reply_reads_as_words(engine: MockEngine, tokenizer: Tokenizer) -> None:
    text = tokenizer.decode(tokens(generate(engine, request(max_tokens=50))))
    assert text.isascii()
    assert text.isprintable()
    assert len(text.split()) == 50
    assert len(set(text.split())) > 10


def test_the_same_prompt_gives_the_same_reply_also_in_another_process(
    engine: MockEngine, tokenizer_path: Path
) -> None:
    once = tokens(generate(engine, request([1, 2, 3])))
    assert tokens(generate(engine, request([1, 2, 3]))) == once
    assert tokens(generate(MockEngine(tokenizer_path, INSTANT), request([1, 2, 3]))) == once
    assert tokens(generate(engine, request([1, 2, 4]))) != once


def test_a_typed_request_is_the_same_as_a_map(engine: MockEngine) -> None:
    typed = EngineRequest(
        model="m", token_ids=[5, 6, 7], stop_conditions=StopConditions(max_tokens=8)
    )
    assert generate(engine, typed) == generate(engine, request())


def test_without_max_tokens_the_default_holds(engine: MockEngine) -> None:
    assert len(generate(engine, request(max_tokens=None))) == 512


def test_the_context_bounds_the_reply(tokenizer_path: Path) -> None:
    engine = MockEngine(tokenizer_path, MockSettings(timing=Timing(0), context_length=10))
    for asked in (None, 100):
        items = generate(engine, request([1, 2, 3], max_tokens=asked))
        assert len(items) == 7
        assert items[-1]["finish_reason"] == "length"
    assert len(generate(engine, request([1, 2, 3], max_tokens=2))) == 2


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(tokenizer_path: Path) -> None:
    engine = MockEngine(tokenizer_path, MockSettings(timing=Timing(0), context_length=10))
    with pytest.raises(InvalidArgument, match=r"12 tokens .* 10$"):
        generate(engine, request([1] * 12))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        request() | {"token_ids": "text"},
        request(max_tokens=0),
        request(max_tokens=-3),
        request(max_tokens="8"),
        request([-1]),
        request(n=0),
        request(n=129),
        request(stop=[""]),
    ],
)
def test_a_malformed_request_is_the_callers_fault(engine: MockEngine, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        generate(engine, body)


@pytest.mark.parametrize(
    "field", ["stop_token_ids", "stop_token_ids_visible", "stop_token_ids_hidden"]
)
def test_a_stop_token_ends_the_reply(engine: MockEngine, field: str) -> None:
    whole = tokens(generate(engine, request(max_tokens=200)))
    stop = whole[60]
    items = generate(engine, request() | {"stop_conditions": {"max_tokens": 200, field: [stop]}})
    assert tokens(items) == whole[: whole.index(stop) + 1]
    assert items[-1]["finish_reason"] == "stop"
    assert set(reasons(items[:-1])) == {None}


def test_a_stop_string_ends_the_reply_where_it_is_complete(
    engine: MockEngine, tokenizer: Tokenizer
) -> None:
    whole = tokens(generate(engine, request(max_tokens=200)))
    words = [tokenizer.decode([token]) for token in whole]
    stop = (words[20] + words[21])[1:-1]  # begins and ends within a token
    items = generate(engine, request(max_tokens=200, stop=["@@", stop]))
    assert items[-1]["finish_reason"] == "stop"
    count = len(items)
    assert count <= 22
    assert stop in "".join(words[:count])
    assert stop not in "".join(words[: count - 1])


def test_stops_count_only_after_min_tokens(engine: MockEngine) -> None:
    whole = tokens(generate(engine, request(max_tokens=300)))
    stop, places = Counter(whole[:100]).most_common(1)[0]
    assert places > 1
    first = whole.index(stop)
    items = generate(engine, request(max_tokens=300, stop_token_ids=[stop], min_tokens=first + 2))
    assert len(items) > first + 1
    assert tokens(items)[-1] == stop
    assert items[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("ignore", [True, False])
def test_the_end_of_sequence_is_never_emitted(engine: MockEngine, ignore: bool) -> None:
    eos = tokens(generate(engine, request(max_tokens=200)))[3]
    items = generate(
        engine,
        request(max_tokens=200, eos=[eos], stop_token_ids_hidden=[eos], ignore_eos=ignore),
    )
    assert eos not in tokens(items)
    assert len(items) == 200
    assert items[-1]["finish_reason"] == "length"


def test_choices_come_in_turn_and_each_ends_by_itself(engine: MockEngine) -> None:
    items = generate(engine, request(n=3, max_tokens=4))
    assert [item["index"] for item in items] == [0, 1, 2] * 4
    assert reasons(items) == [None] * 9 + ["length"] * 3
    replies = [tokens([item for item in items if item["index"] == index]) for index in range(3)]
    assert len({tuple(reply) for reply in replies}) == 3
    assert replies[0] == tokens(generate(engine, request(max_tokens=4)))
    stopped = generate(engine, request(n=3, max_tokens=4, stop_token_ids=[replies[1][0]]))
    assert reasons([item for item in stopped if item["index"] == 1]) == ["stop"]


def test_a_stop_is_seen_between_tokens(engine: MockEngine) -> None:
    items = generate(engine, request(max_tokens=100), ManualContext(stop_after=6))
    assert len(tokens(items)) == 5
    assert reasons(items) == [None] * 5 + ["cancelled"]
    context = ManualContext()
    context.kill()
    assert reasons(generate(engine, request(), context)) == ["cancelled"]


def test_without_waiting_other_requests_still_progress(engine: MockEngine) -> None:
    async def race() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            async for _ in engine.generate(request(max_tokens=320), ManualContext()):
                order.append(number)

        await asyncio.gather(one(0), one(1))
        return order

    order = run_in_virtual_time(race())
    assert order.index(1) < 40
    assert sum(a != b for a, b in pairwise(order)) >= 10


def _times(engine: MockEngine, *bodies: dict[str, Any]) -> list[list[float]]:
    async def one(body: dict[str, Any]) -> list[float]:
        loop = asyncio.get_running_loop()
        return [loop.time() async for _ in engine.generate(body, ManualContext())]

    async def main() -> list[list[float]]:
        return await asyncio.gather(*map(one, bodies))

    return run_in_virtual_time(main())


def test_time_to_first_token_and_between_tokens_follow_the_formulas(tokenizer_path: Path) -> None:
    (times,) = _times(MockEngine(tokenizer_path), request([1] * 117, max_tokens=128))
    assert times[0] == pytest.approx(prefill_s(117))
    assert times[-1] == pytest.approx(0.7475, abs=0.001)


def test_speedups_divide_the_times(tokenizer_path: Path) -> None:
    settings = MockSettings(timing=Timing(10, 2))
    (times,) = _times(MockEngine(tokenizer_path, settings), request([1] * 117, max_tokens=3))
    assert times[0] == pytest.approx(prefill_s(117) / 10)
    assert times[2] - times[1] == pytest.approx(decode_step_s(0) / 20, rel=0.01)


def test_requests_at_a_time_fill_the_cache_and_slow_each_other_down(tokenizer_path: Path) -> None:
    settings = MockSettings(total_kv_tokens=400)
    (alone,) = _times(MockEngine(tokenizer_path, settings), request([1] * 100, max_tokens=2))
    engine = MockEngine(tokenizer_path, settings)
    both = _times(engine, request([1] * 100, max_tokens=2), request([2] * 100, max_tokens=2))
    assert alone[1] - alone[0] == pytest.approx(decode_step_s(101 / 400))
    assert both[0][1] - both[0][0] > 1.3 * (alone[1] - alone[0])
    assert engine.active_tokens == 0


def test_a_reply_cut_short_leaves_the_cache(tokenizer_path: Path) -> None:
    engine = MockEngine(tokenizer_path)

    async def main() -> tuple[int, int]:
        stream = engine.generate(request([1] * 50), ManualContext())
        await anext(stream)
        held = engine.active_tokens
        await stream.aclose()
        return held, engine.active_tokens

    assert run_in_virtual_time(main()) == (51, 0)
    generate(engine, request(), ManualContext(stop_after=2))
    assert engine.active_tokens == 0


def test_a_stop_ends_a_long_prefill_at_once(tokenizer_path: Path) -> None:
    engine = MockEngine(tokenizer_path, MockSettings(timing=Timing(0.001)))

    async def main() -> float:
        loop, context = asyncio.get_running_loop(), ManualContext()
        loop.call_at(1.0, context.stop_generating)
        items = await collect(engine, request([1] * 1000), context)
        assert reasons(items) == ["cancelled"]
        return loop.time()

    assert run_in_virtual_time(main()) == pytest.approx(1.0)


def test_without_a_tokenizer_the_ids_are_the_peers_and_stop_strings_are_left_alone() -> None:
    engine = MockEngine(None, INSTANT)
    items = generate(engine, request(max_tokens=100, stop=["a"]))
    assert len(items) == 100
    assert all(1000 <= token < 2000 for token in tokens(items))


def test_a_tokenizer_that_cannot_be_loaded_is_a_card_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CardError):
        MockEngine(tmp_path / "tokenizer.json")
    with pytest.raises(CardError):
        MockEngine(tmp_path / "none.json")
