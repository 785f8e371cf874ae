"""``/v1/completions`` over the wire: echo, log probabilities, several prompts at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.errors import EngineError
from muster.llm.protocol import EngineOutput, EngineRequest, TopLogprob
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import Script, ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

PROMPT_SCORES = [None, {"98": {"logprob": -0.2, "rank": 1, "decoded_token": "b"}}]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(directory: Path) -> Callable[..., ScriptedModel]:
    def make(script: Script | None = None) -> ScriptedModel:
        return ScriptedModel(directory, script=script)

    return make


def saying(text: str, *, scores: bool = False, data: Any = None) -> Script:
    """``text`` for each answer, a byte at a time; with scores, and what is known of the prompt."""

    def script(request: EngineRequest) -> ScriptedStream:
        stream = ScriptedStream()
        for index in range(request.sampling_options.n or 1):
            items = outputs(token_ids(text), "stop", index=index)
            for item in items if scores else ():
                item.log_probs = [-0.5]
                item.top_logprobs = [[TopLogprob(token_id=item.token_ids[0], logprob=-0.5)]]
            items[-1].engine_data = data
            for item in items:
                stream.push(item)
        return stream.end()

    return script


class Client:
    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/v1/completions"

    async def ask(self, **fields: Any) -> Any:
        async with self._session.post(self._url, json={"model": "tiny", **fields}) as response:
            return await response.json()

    async def chunks(self, **fields: Any) -> list[Any]:
        body = {"model": "tiny", "stream": True, **fields}
        async with self._session.post(self._url, json=body) as response:
            assert response.content_type == "text/event-stream", await response.text()
            events = (await response.text()).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def against(model: ScriptedModel, test: Callable[[Client], Any]) -> None:
    async def all_of_it() -> None:
        async with (
            running_frontend(model) as frontend,
            aiohttp.ClientSession() as session,
        ):
            await test(Client(session, frontend.port))

    run(all_of_it())


def texts(chunks: list[Any], count: int) -> list[str]:
    found = [""] * count
    for chunk in chunks:
        for choice in chunk["choices"]:
            found[choice["index"]] += choice["text"]
    return found


@pytest.mark.parametrize(
    ("prompt", "begins"),
    [
        ("ab", ["ab"]),
        (["ab", "grüße<|im_end|>"], ["ab", "grüße<|im_end|>"]),
        ([97, 98], ["ab"]),
        ([[97], [98, 259]], ["a", "b<|im_end|>"]),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_echo_puts_the_prompt_before_every_answer(
    tiny: Any, prompt: Any, begins: list[str], n: int
) -> None:
    async def test(client: Client) -> None:
        expected = [begin + "xy" for begin in begins for _ in range(n)]
        reply = await client.ask(prompt=prompt, n=n, echo=True)
        assert [choice["text"] for choice in reply["choices"]] == expected
        assert [choice["index"] for choice in reply["choices"]] == [*range(len(expected))]
        assert reply["usage"]["completion_tokens"] == 2 * len(expected)
        chunks = await client.chunks(prompt=prompt, n=n, echo=True)
        assert texts(chunks, len(expected)) == expected
        first: dict[int, str] = {}
        for chunk in chunks:
            for choice in chunk["choices"]:
                first.setdefault(choice["index"], choice["text"])
        assert [first[index] for index in range(len(expected))] == [
            begin for begin in begins for _ in range(n)
        ]

    against(tiny(saying("xy")), test)


def test_without_echo_the_prompt_is_not_repeated(tiny: Any) -> None:
    async def test(client: Client) -> None:
        for echo in (False, None):
            reply = await client.ask(prompt="ab", echo=echo)
            assert reply["choices"][0]["text"] == "xy"

    against(tiny(saying("xy")), test)


def test_echo_alone_asks_no_engine(tiny: Any) -> None:
    model = tiny(saying("never"))

    async def test(client: Client) -> None:
        reply = await client.ask(prompt=["ab", "c"], echo=True, max_tokens=0, n=2)
        assert [choice["text"] for choice in reply["choices"]] == ["ab", "ab", "c", "c"]
        assert {choice["finish_reason"] for choice in reply["choices"]} == {"length"}
        assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
        options = {"include_usage": True}
        chunks = await client.chunks(
            prompt=["ab", "c"], echo=True, max_tokens=0, stream_options=options
        )
        assert texts(chunks, 2) == ["ab", "c"]
        reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"]]
        assert reasons == [None, "length", None, "length"]
        assert chunks[-1]["usage"]["total_tokens"] == 3
        assert model.requests == []

    against(model, test)


def test_no_tokens_without_echo_is_refused(tiny: Any) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask(prompt="a", max_tokens=0)
        assert reply["error"]["param"] == "max_tokens"

    against(tiny(saying("x")), test)


def test_the_prompts_scores_come_from_the_engine_where_it_sends_them(tiny: Any) -> None:
    model = tiny(saying("xy", scores=True, data={"prompt_logprobs": PROMPT_SCORES}))

    async def test(client: Client) -> None:
        reply = await client.ask(prompt="ab", echo=True, logprobs=1)
        assert reply["choices"][0]["logprobs"] == {
            "tokens": ["a", "b", "x", "y"],
            "token_logprobs": [None, -0.2, -0.5, -0.5],
            "top_logprobs": [None, {"b": -0.2}, {"x": -0.5}, {"y": -0.5}],
            "text_offset": [0, 1, 2, 3],
        }
        assert model.requests[0].output_options.prompt_logprobs == 1

    against(model, test)


def test_the_prompt_can_be_scored_without_an_answer(tiny: Any) -> None:
    model = tiny(saying("z", scores=True, data={"prompt_logprobs": PROMPT_SCORES}))

    async def test(client: Client) -> None:
        reply = await client.ask(prompt="ab", echo=True, logprobs=0, max_tokens=0)
        (choice,) = reply["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("ab", "length")
        assert choice["logprobs"]["token_logprobs"] == [None, -0.2]
        assert choice["logprobs"]["top_logprobs"] is None
        assert reply["usage"]["completion_tokens"] == 0
        assert model.requests[0].stop_conditions.max_tokens == 1
        chunks = await client.chunks(prompt="ab", echo=True, logprobs=0, max_tokens=0)
        assert texts(chunks, 1) == ["ab"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"

    against(model, test)


@pytest.mark.parametrize("data", [None, {"prompt_logprobs": "?"}, {"prompt_logprobs": [1]}, []])
def test_what_the_engine_does_not_say_of_the_prompt_is_null(tiny: Any, data: Any) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask(prompt="ab", echo=True, logprobs=1)
        scores = reply["choices"][0]["logprobs"]
        assert scores["token_logprobs"] == [None, None, -0.5]
        assert scores["top_logprobs"] == [None, None, {"x": -0.5}]

    against(tiny(saying("x", scores=True, data=data)), test)


@pytest.mark.parametrize("echo", [False, True])
def test_offsets_count_characters_for_every_choice_and_are_the_same_streamed(
    tiny: Any, echo: bool
) -> None:
    """The ``ü`` and the ``漢`` are cut into bytes; each begins where its character does."""

    async def test(client: Client) -> None:
        fields = {"prompt": ["ä", "b"], "n": 2, "logprobs": 1, "echo": echo}
        reply = await client.ask(**fields)
        own = [0, 1, 1, 2, 2, 2, 3]
        expected = [own] * 4
        if echo:
            first = [0, 0, *(1 + offset for offset in own)]
            second = [0, *(1 + offset for offset in own)]
            expected = [first, first, second, second]
        assert [c["logprobs"]["text_offset"] for c in reply["choices"]] == expected
        streamed: list[list[int]] = [[], [], [], []]
        for chunk in await client.chunks(**fields):
            (choice,) = chunk["choices"]
            if choice["logprobs"] is not None:
                streamed[choice["index"]] += choice["logprobs"]["text_offset"]
        assert streamed == expected

    against(tiny(saying("xü漢y", scores=True)), test)


def test_offsets_do_not_lag_behind_text_that_is_held_back(tiny: Any) -> None:
    async def test(client: Client) -> None:
        chunks = await client.chunks(prompt="p", logprobs=0, stop="xyz")
        offsets = [o for c in chunks for o in c["choices"][0]["logprobs"]["text_offset"]]
        assert offsets == [0, 1, 2, 3]
        assert texts(chunks, 1) == ["xy!a"]

    against(tiny(saying("xy!a", scores=True)), test)


def test_of_more_candidates_than_answers_only_the_first_are_returned(tiny: Any) -> None:
    def script(request: EngineRequest) -> ScriptedStream:
        stream = ScriptedStream()
        for index, letter in ((2, "c"), (0, "a"), (1, "b")):
            stream.push(*outputs(token_ids(letter), "stop", index=index))
        return stream.end()

    model = tiny(script)

    async def test(client: Client) -> None:
        for n, expected in ((1, ["a"]), (2, ["a", "b"])):
            reply = await client.ask(prompt="p", n=n, best_of=3)
            assert [choice["text"] for choice in reply["choices"]] == expected
            assert model.requests[-1].sampling_options.best_of == 3
            assert model.requests[-1].sampling_options.n == n

    against(model, test)


def test_prompts_are_answered_at_the_same_time_and_in_order(tiny: Any) -> None:
    """The last prompt is answered first: nobody waits for those before it."""
    model = tiny()

    async def test(client: Client) -> None:
        async with asyncio.TaskGroup() as tasks:
            whole = tasks.create_task(client.ask(prompt=["a", "b", "c"]))
            streams = [await model.next_stream() for _ in range(3)]
            for stream, text in zip(reversed(streams), "zyx", strict=True):
                stream.push(*outputs(token_ids(text), "stop")).end()
        assert [choice["text"] for choice in whole.result()["choices"]] == ["x", "y", "z"]

    against(model, test)


def test_a_prompt_whose_turn_is_late_does_not_hold_up_the_stream_of_another(
    directory: Path,
) -> None:
    model = ScriptedModel(directory)

    async def test() -> None:
        async with running_frontend(model) as frontend, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{frontend.port}/v1/completions"
            body = {"model": "tiny", "prompt": ["a", "b"], "stream": True}
            async with session.post(url, json=body) as response:
                first, second = await model.next_stream(), await model.next_stream()
                second.push(*outputs(token_ids("y"), "stop")).end()
                event = json.loads((await response.content.readuntil(b"\n\n"))[6:])
                assert event["choices"][0]["index"] == 1
                first.push(*outputs(token_ids("x"), "stop")).end()
                rest = await response.text()
                assert rest.endswith("data: [DONE]\n\n")

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_prompt_to_fail_ends_the_others(tiny: Any, stream: bool) -> None:
    model = tiny()

    async def test(client: Client) -> None:
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(client.ask(prompt=["a", "b"], stream=stream))
            first, second = await model.next_stream(), await model.next_stream()
            second.fail(EngineError("broken"))
        assert answer.result()["error"]["message"] == "broken"
        assert first.killed.is_set()

    against(model, test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"prompt": "a", "prompt_embeds": "AAAA"}, "prompt_embeds"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tiny: Any, fields: dict[str, Any], param: str
) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask(**fields)
        assert (reply["error"]["param"], reply["error"]["code"]) == (param, "unsupported_parameter")

    against(tiny(saying("x")), test)


def test_an_empty_suffix_asks_for_nothing(tiny: Any) -> None:
    async def test(client: Client) -> None:
        assert (await client.ask(prompt="a", suffix=""))["choices"][0]["text"] == "x"

    against(tiny(saying("x")), test)


def test_continuous_usage_counts_up_to_each_chunk(tiny: Any) -> None:
    async def test(client: Client) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        chunks = await client.chunks(prompt="pq", echo=True, stream_options=options)
        counted = [chunk["usage"]["completion_tokens"] for chunk in chunks]
        assert counted == [1, 1, 2, 3, 3]
        assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {2}

    against(tiny(saying("abc")), test)


def test_an_answer_with_engine_text_is_still_scored(tiny: Any) -> None:
    def script(_: EngineRequest) -> ScriptedStream:
        items = [
            EngineOutput(token_ids=[97], text="a", log_probs=[-1.0]),
            EngineOutput(token_ids=[98], text="b", log_probs=[-2.0], finish_reason="stop"),
        ]
        return ScriptedStream().push(*items).end()

    async def test(client: Client) -> None:
        reply = await client.ask(prompt="p", logprobs=0)
        scores = reply["choices"][0]["logprobs"]
        assert (scores["token_logprobs"], scores["text_offset"]) == ([-1.0, -2.0], [0, 1])

    against(tiny(script), test)
