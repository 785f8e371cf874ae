from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muster.errors import ConfigError, InvalidArgument
from muster.testing.context import ManualContext
from muster.testing.virtual_time import run_in_virtual_time
from muster.worker.engines.echo import EchoEngine, EchoSettings


def request(prompt: list[int], max_tokens: int | None = None) -> dict[str, Any]:
    return {"model": "m", "token_ids": prompt, "stop_conditions": {"max_tokens": max_tokens}}


def echo(
    body: dict[str, Any],
    settings: EchoSettings | None = None,
    context: ManualContext | None = None,
) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        stream = EchoEngine(settings).generate(body, context or ManualContext())
        return [item async for item in stream]

    return run_in_virtual_time(main())


def test_the_prompt_comes_back_token_by_token_and_ends_with_stop() -> None:
    assert echo(request([7, 8, 9])) == [
        {"token_ids": [7], "index": 0},
        {"token_ids": [8], "index": 0},
        {"token_ids": [9], "index": 0, "finish_reason": "stop"},
    ]


def test_max_tokens_cuts_it_and_says_length() -> None:
    assert echo(request([7, 8, 9], 2))[-1] == {
        "token_ids": [8],
        "index": 0,
        "finish_reason": "length",
    }
    assert echo(request([7, 8], 2))[-1]["finish_reason"] == "stop"
    assert echo(request([7, 8], 3))[-1]["finish_reason"] == "stop"


def test_an_empty_prompt_is_an_empty_reply() -> None:
    for limit in (None, 5):
        assert echo(request([], limit)) == [{"token_ids": [], "index": 0, "finish_reason": "stop"}]


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_chunks_are_as_long_as_asked(chunk: int, sizes: list[int]) -> None:
    items = echo(request([1, 2, 3, 4, 5]), EchoSettings(chunk=chunk))
    assert [len(item["token_ids"]) for item in items] == sizes
    assert [item.get("finish_reason") for item in items] == [None] * (len(sizes) - 1) + ["stop"]


def test_each_token_takes_its_delay() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        engine = EchoEngine(EchoSettings(chunk=2, delay_s=0.5))
        return [loop.time() async for _ in engine.generate(request([1, 2, 3]), ManualContext())]

    assert run_in_virtual_time(main()) == pytest.approx([1.0, 1.5])


def test_a_stop_is_seen_between_items() -> None:
    items = echo(request([1, 2, 3, 4]), context=ManualContext(stop_after=3))
    assert [item["token_ids"] for item in items] == [[1], [2], []]
    assert items[-1]["finish_reason"] == "cancelled"


@pytest.mark.parametrize(
    "body", [{"messages": []}, request([1], 0), request([1], -1), request([], 0)]
)
def test_a_malformed_request_is_the_callers_fault(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        echo(body)


def test_settings_out_of_range_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="chunk"):
        EchoSettings(chunk=0)
    with pytest.raises(ConfigError, match="delay_s"):
        EchoSettings(delay_s=-1)


def test_every_choice_asked_for_is_the_prompt() -> None:
    body = request([7, 8]) | {"sampling_options": {"n": 2}}
    assert [(item["index"], item["token_ids"]) for item in echo(body)] == [
        (0, [7]),
        (1, [7]),
        (0, [8]),
        (1, [8]),
    ]
    with pytest.raises(InvalidArgument, match="between 1 and 128"):
        echo(request([7]) | {"sampling_options": {"n": 129}})
