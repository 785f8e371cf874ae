"""The official ``openai`` client, unmodified, against a running frontend with scripted engines."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from muster.errors import (
    ConnectionTimeout,
    Disconnected,
    EngineError,
    InvalidArgument,
    MusterError,
    Overloaded,
    WorkerUnavailable,
)
from muster.frontend.model_table import ModelStatus
from muster.llm.protocol import EngineOutput, TopLogprob
from muster.testing.clients import Tiny, counting, failing, openai_client, saying, serving_openai
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import Script, ScriptedStream, outputs
from muster.testing.tiny_model import EOS, IM_END, token_ids

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
CONTEXT = 2048


# -- models ----------------------------------------------------------------------------------------


def test_models_are_listed_with_their_aliases_and_found_by_name(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(name="org/model v1", aliases=("short",))
        async with serving_openai(model) as client:
            page = await client.models.list()
            assert [entry.id for entry in page.data] == ["org/model v1", "short"]
            assert {entry.created for entry in page.data} == {model.served.created}
            assert page.data[0].model_extra == {"context_window": 2048}
            assert (await client.models.retrieve("org/model v1")).id == "org/model v1"
            raw = await client.get("/models/org/model%20v1", cast_to=object)
            assert isinstance(raw, dict)
            assert raw["id"] == "org/model v1"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("other")

    run(test())


# -- chat ------------------------------------------------------------------------------------------


def test_a_chat_is_answered_whole(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("Guten Tag 🌍", "length"))
        async with serving_openai(model) as client:
            reply = await client.chat.completions.create(**CHAT)
            assert reply.object == "chat.completion"
            assert reply.model == "tiny"
            assert reply.id == f"chatcmpl-{model.request_ids[0]}"
            choice = reply.choices[0]
            assert (choice.index, choice.finish_reason) == (0, "length")
            assert (choice.message.role, choice.message.content) == ("assistant", "Guten Tag 🌍")
            prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
            ids = model.requests[0].token_ids
            assert model.served.preprocessor.decode(ids, skip_special_tokens=False) == prompt
            usage = reply.usage
            assert usage is not None
            assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), 14)
            assert usage.total_tokens == len(ids) + 14

    run(test())


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_streamed_chat_never_splits_a_character(tiny: Tiny, size: int) -> None:
    text = 'aé漢🌍\u200d🚀 \u2028\x00"\\ end'

    async def test() -> None:
        async with serving_openai(tiny(saying(text, size=size))) as client:
            stream = await client.chat.completions.create(
                **CHAT, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert len({chunk.id for chunk in chunks}) == 1
            assert chunks[0].choices[0].delta.role == "assistant"
            assert all(c.choices[0].delta.role is None for c in chunks[1:-1])
            pieces = [c.choices[0].delta.content or "" for c in chunks[:-1]]
            assert "".join(pieces) == text
            assert "\ufffd" not in "".join(pieces)
            reasons = [c.choices[0].finish_reason for c in chunks[:-1]]
            assert reasons == [None] * (len(chunks) - 2) + ["stop"]
            assert chunks[-1].choices == []
            usage = chunks[-1].usage
            assert usage is not None
            assert usage.completion_tokens == len(text.encode())

    run(test())


def test_usage_comes_with_every_chunk_when_asked_for(tiny: Tiny) -> None:
    async def test() -> None:
        # continuous_usage_stats is an extension of vLLM's and Dynamo's
        options: Any = {"include_usage": True, "continuous_usage_stats": True}
        async with serving_openai(tiny(saying("abc"))) as client:
            stream = await client.chat.completions.create(
                **CHAT, stream=True, stream_options=options
            )
            counts = [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]
            assert counts == [1, 2, 3, 3]

    run(test())


def test_tokens_of_a_batch_come_in_one_chunk(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("abcdef", size=3))) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            contents = [chunk.choices[0].delta.content async for chunk in stream]
            assert contents == ["abc", "def"]

    run(test())


def test_n_choices_are_told_apart_by_the_engines_index(tiny: Tiny) -> None:
    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        one, two = outputs(token_ids("one"), "stop"), outputs(token_ids("zwei"), "length", index=1)
        stream.push(two[0], one[0], two[1]).push(*one[1:]).push(*two[2:])
        return stream.end()

    async def test() -> None:
        model = tiny(script)
        async with serving_openai(model) as client:
            reply = await client.chat.completions.create(**CHAT, n=2, temperature=1)
            said = [(c.index, c.message.content, c.finish_reason) for c in reply.choices]
            assert said == [(0, "one", "stop"), (1, "zwei", "length")]
            assert reply.usage is not None
            assert reply.usage.completion_tokens == 7
            assert model.requests[0].sampling_options.n == 2

            streamed: dict[int, str] = {0: "", 1: ""}
            reasons: dict[int, str | None] = {}
            stream = await client.chat.completions.create(**CHAT, n=2, stream=True)
            async for chunk in stream:
                choice = chunk.choices[0]
                assert choice.index not in reasons
                streamed[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
            assert streamed == {0: "one", 1: "zwei"}
            assert reasons == {0: "stop", 1: "length"}

    run(test())


def test_all_parameters_reach_the_engine(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        async with serving_openai(model) as client:
            await client.chat.completions.create(
                **CHAT,
                max_completion_tokens=7,
                stop=["a", "b"],
                seed=-5,
                temperature=0.5,
                top_p=0.25,
                presence_penalty=1,
                frequency_penalty=-1,
                logprobs=True,
                top_logprobs=3,
                extra_body={
                    "min_tokens": 0,
                    "stop_token_ids": [5],
                    "ignore_eos": True,
                    "top_k": 0,
                    "min_p": 0.125,
                    "repetition_penalty": 1.5,
                    "skip_special_tokens": False,
                    "include_stop_str_in_output": True,
                },
            )
            request = model.requests[0]
            stop = request.stop_conditions
            assert (stop.max_tokens, stop.stop, stop.stop_token_ids) == (7, ["a", "b"], [5])
            assert (stop.min_tokens, stop.ignore_eos) == (0, True)
            assert stop.stop_token_ids_hidden is None
            sampling = request.sampling_options
            assert (sampling.seed, sampling.temperature, sampling.top_p) == (-5, 0.5, 0.25)
            assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)
            assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (-1, 0.125, 1.5)
            assert sampling.include_stop_str_in_output is True
            assert request.output_options.logprobs == 3
            assert request.output_options.skip_special_tokens is False

    run(test())


def test_unset_parameters_stay_unset_and_unknown_ones_are_ignored(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        async with serving_openai(model) as client:
            await client.chat.completions.create(
                **CHAT, store=True, user="me", extra_body={"no_such_field": {"a": [1]}}
            )
            request = model.requests[0]
            assert request.sampling_options.temperature is None
            assert request.stop_conditions.max_tokens == CONTEXT - len(request.token_ids)
            assert set(request.stop_conditions.stop_token_ids_hidden or ()) == {EOS, IM_END}

    run(test())


def test_logprobs_have_openais_shape(tiny: Tiny) -> None:
    def script(_: object) -> ScriptedStream:
        tops = [
            TopLogprob(rank=1, token_id=65, token="A", logprob=-0.5),
            TopLogprob(rank=2, token_id=0xC3, logprob=-1.5),
        ]
        output = EngineOutput(
            token_ids=[65], log_probs=[-0.5], top_logprobs=[tops], finish_reason="stop"
        )
        return ScriptedStream().push(output).end()

    async def test() -> None:
        async with serving_openai(tiny(script)) as client:
            reply = await client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=2)
            scores = reply.choices[0].logprobs
            assert scores is not None
            assert scores.content is not None
            token = scores.content[0]
            assert (token.token, token.logprob, token.bytes) == ("A", -0.5, [65])
            assert [(top.token, top.bytes) for top in token.top_logprobs] == [
                ("A", [65]),
                ("\ufffd", [0xC3]),
            ]
            stream = await client.chat.completions.create(**CHAT, logprobs=True, stream=True)
            async for chunk in stream:
                streamed = chunk.choices[0].logprobs
                assert streamed is not None
                assert streamed.content is not None
                assert streamed.content[0].top_logprobs == []
            text = await client.completions.create(model="tiny", prompt="p", logprobs=1)
            logprobs = text.choices[0].logprobs
            assert logprobs is not None
            assert (logprobs.tokens, logprobs.token_logprobs) == (["A"], [-0.5])
            assert (logprobs.top_logprobs, logprobs.text_offset) == ([{"A": -0.5}], [0])

    run(test())


def test_the_engines_count_of_cached_tokens_is_passed_on(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(counting(9, cached=4))) as client:
            usage = (await client.chat.completions.create(**CHAT)).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (9, 4)

    run(test())


# -- where replies end -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_stop_string_across_tokens_ends_the_reply_and_the_engine(
    tiny: Tiny, stream: bool, size: int
) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_openai(model) as client, asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(said(client, stop=["END"], stream=stream))
            engine = await model.next_stream()
            items = outputs(token_ids("some text EN ENDLESS"))
            for start in range(0, len(items), size):
                engine.push(*items[start : start + size])
            await engine.killed.wait()
            assert await reply == ("some text EN ", "stop")

    run(test())


@pytest.mark.parametrize("eos", [EOS, IM_END])
@pytest.mark.parametrize("stream", [False, True])
def test_eos_ends_the_reply_even_if_the_engine_goes_on(tiny: Tiny, eos: int, stream: bool) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_openai(model) as client, asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(said(client, stream=stream))
            engine = await model.next_stream()
            engine.push(*outputs([*token_ids("done"), eos, *token_ids("and on")]))
            await engine.killed.wait()
            assert await reply == ("done", "stop")

    run(test())


def test_max_tokens_is_enforced_when_the_engine_does_not(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_openai(model) as client, asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(said(client, max_tokens=3, stream=True))
            engine = await model.next_stream()
            engine.push(*outputs(token_ids("abcdef")))
            await engine.killed.wait()
            assert await reply == ("abc", "length")

    run(test())


def test_an_engine_that_finishes_but_never_ends_its_stream_is_dropped(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_openai(model) as client, asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(said(client))
            engine = await model.next_stream()
            engine.push(*outputs(token_ids("ok"), "stop"))
            assert await reply == ("ok", "stop")
            await engine.killed.wait()

    run(test())


async def said(client: AsyncOpenAI, **options: Any) -> tuple[str, str | None]:
    """The text of a chat and why it ended, streamed or not."""
    reply = await client.chat.completions.create(**{**CHAT, **options})
    if not options.get("stream"):
        return reply.choices[0].message.content, reply.choices[0].finish_reason
    text, reason = "", None
    async for chunk in reply:
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    return text, reason


# -- completions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [[97, 98]]),
        (["a", "bc"], [[97], [98, 99]]),
        ([97, 98], [[97, 98]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
    ],
)
def test_completions_take_every_form_of_prompt(
    tiny: Tiny, prompt: Any, expected: list[list[int]]
) -> None:
    async def test() -> None:
        model = tiny(lambda request: saying(f"<{bytes(request.token_ids).decode()}>")(request))
        async with serving_openai(model) as client:
            reply = await client.completions.create(model="tiny", prompt=prompt)
            assert [request.token_ids for request in model.requests] == expected
            ids = [reply.id.replace("cmpl-", "", 1)]
            if len(expected) > 1:  # workers may refuse two requests of one id at a time
                ids = [f"{ids[0]}-{number}" for number in range(len(expected))]
            assert model.request_ids == ids
            texts = [f"<{bytes(ids).decode()}>" for ids in expected]
            assert [choice.text for choice in reply.choices] == texts
            assert [choice.index for choice in reply.choices] == [*range(len(expected))]
            assert reply.usage is not None
            assert reply.usage.prompt_tokens == sum(map(len, expected))

            streamed = [""] * len(expected)
            stream = await client.completions.create(model="tiny", prompt=prompt, stream=True)
            async for chunk in stream:
                streamed[chunk.choices[0].index] += chunk.choices[0].text
            assert streamed == texts

    run(test())


@pytest.mark.parametrize("prompt", [[], "", [""], [[]], ["a", 5], [5, [5]]])
def test_bad_prompts_are_refused(tiny: Tiny, prompt: Any) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.completions.create(model="tiny", prompt=prompt)
            assert caught.value.param == "prompt"

    run(test())


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (InvalidArgument("bad seed"), openai.BadRequestError, 400, "invalid_argument"),
        (EngineError("CUDA is out of memory"), openai.InternalServerError, 500, "engine"),
        (WorkerUnavailable("no instance"), openai.InternalServerError, 503, "worker_unavailable"),
        (Disconnected("worker lost"), openai.InternalServerError, 503, "disconnected"),
        (ConnectionTimeout("too slow"), openai.InternalServerError, 504, "connection_timeout"),
        (Overloaded("all busy"), openai.InternalServerError, 529, "overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_engine_errors_before_the_first_token_have_a_status(
    tiny: Tiny,
    error: MusterError,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    stream: bool,
) -> None:
    async def test() -> None:
        async with serving_openai(tiny(failing(error))) as client:
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(**CHAT, stream=stream)
            assert caught.value.status_code == status
            assert caught.value.code == code
            assert error.message in caught.value.message
            assert ("retry-after" in caught.value.response.headers) == (status in (503, 529))

    run(test())


def test_an_error_while_sending_has_a_status_too(tiny: Tiny) -> None:
    def script(_: object) -> ScriptedStream:
        raise WorkerUnavailable("no instance serves dynamo/backend/generate")

    async def test() -> None:
        async with serving_openai(tiny(script)) as client:
            with pytest.raises(openai.InternalServerError, match="no instance serves") as caught:
                await client.chat.completions.create(**CHAT)
            assert caught.value.status_code == 503

    run(test())


def test_an_error_mid_stream_is_an_event_then_done(tiny: Tiny) -> None:
    async def test() -> None:
        async with (
            running_frontend(tiny(failing(EngineError("boom"), before="so far"))) as frontend,
            openai_client(frontend.port) as client,
        ):
            stream = await client.chat.completions.create(**CHAT, stream=True)
            first = await anext(stream)
            assert first.choices[0].delta.content == "so far"
            with pytest.raises(openai.APIError, match="boom"):
                await anext(stream)
            response = await client.post(
                "/chat/completions", body={**CHAT, "stream": True}, cast_to=str
            )
            events = response.strip().split("\n\n")
            assert events[-1] == "data: [DONE]"
            error = json.loads(events[-2].removeprefix("data: "))["error"]
            assert error == {
                "message": "boom",
                "type": "server_error",
                "param": None,
                "code": "engine",
            }
            with pytest.raises(openai.InternalServerError, match="boom"):
                await client.chat.completions.create(**CHAT)

    run(test())


@pytest.mark.parametrize("reason", ["error: no memory", "error", "sideways"])
def test_an_engines_error_reason_is_an_error(tiny: Tiny, reason: str) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("abc", reason, size=3))) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**CHAT)
            assert caught.value.status_code == 500

    run(test())


def test_an_empty_engine_stream_is_an_error_not_an_empty_answer(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(lambda _: ScriptedStream().end())) as client:
            with pytest.raises(openai.InternalServerError, match="without any output"):
                await client.chat.completions.create(**CHAT)

    run(test())


def test_a_stream_that_ends_without_a_reason_is_said_to_have_stopped(tiny: Tiny) -> None:
    async def test() -> None:
        script: Script = lambda _: ScriptedStream().push(*outputs(token_ids("abc"))).end()  # noqa: E731 - a script is one
        async with serving_openai(tiny(script)) as client:
            assert await said(client) == ("abc", "stop")
            assert await said(client, stream=True) == ("abc", "stop")

    run(test())


def test_an_unknown_model_is_not_found_and_the_message_lists_the_others(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(name="one")) as client:
            with pytest.raises(openai.NotFoundError, match="`one`") as caught:
                await client.chat.completions.create(**CHAT)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    run(test())


def test_no_model_yet_is_told_apart_from_no_route(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai() as client:
            with pytest.raises(openai.NotFoundError, match="no model is being served yet"):
                await client.chat.completions.create(**CHAT)
            with pytest.raises(openai.NotFoundError) as caught:
                await client.post("/nonsense", body={}, cast_to=object)
            assert caught.value.code == "route_not_found"

    run(test())


def test_a_registered_model_that_is_not_served_is_503_with_the_reason() -> None:
    async def test() -> None:
        status = ModelStatus(
            model="tiny", state="failed", reason="digest_mismatch", message="config.json differs"
        )
        async with serving_openai(unserved=[status]) as client:
            with pytest.raises(openai.InternalServerError, match=r"config\.json differs") as caught:
                await client.chat.completions.create(**CHAT)
            assert caught.value.status_code == 503
            assert caught.value.response.headers["retry-after"] == "1"

    run(test())


def test_a_prompt_over_the_context_is_refused_with_both_numbers(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            messages: Any = [{"role": "user", "content": "x" * 3000}]
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="tiny", messages=messages)
            assert caught.value.code == "context_length_exceeded"
            assert "3019 tokens" in caught.value.message
            assert "2048 tokens" in caught.value.message

    run(test())


def test_a_long_prompt_is_tokenized_off_the_loop_and_answered(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("ok"), context_length=0)
        async with serving_openai(model) as client:
            messages: Any = [{"role": "user", "content": "x" * 100_000}]
            reply = await client.chat.completions.create(model="tiny", messages=messages)
            assert reply.choices[0].message.content == "ok"
            assert len(model.requests[0].token_ids) > 100_000

    run(test())


def test_out_of_range_values_name_their_parameter(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            with pytest.raises(openai.BadRequestError, match="between 0 and 2, got 3") as caught:
                await client.chat.completions.create(**CHAT, temperature=3)
            assert caught.value.param == "temperature"
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(**CHAT, extra_body={"max_tokens": "many"})
            assert caught.value.param == "max_tokens"

    run(test())


# -- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokens_first", [False, True])
def test_a_client_that_leaves_stops_the_engine(
    tiny: Tiny, stream: bool, tokens_first: bool
) -> None:
    async def test() -> None:
        model = tiny()
        async with running_frontend(model) as frontend:
            body = json.dumps({**CHAT, "stream": stream}).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            engine = await model.next_stream()
            if tokens_first:
                engine.push(*outputs(token_ids("abc")))
                if stream:
                    await reader.readuntil(b"abc")
            writer.close()
            async with asyncio.timeout(0.1):
                await engine.killed.wait()
            assert frontend.in_flight == 0
            async with openai_client(frontend.port) as client:
                page = await client.get("/../metrics", cast_to=str)
            assert 'dynamo_frontend_model_cancellation_total{model="tiny"} 1.0' in page
            assert "dynamo_frontend_disconnected_clients 1.0" in page

    run(test())


def test_headers_do_not_wait_for_ever_for_a_slow_engine(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_openai(model) as client:
            # Returns once the headers are there; the engine has said nothing.
            stream = await client.chat.completions.create(**CHAT, stream=True)
            engine = await model.next_stream()
            engine.push(*outputs(token_ids("late"), "stop")).end()
            text = [chunk.choices[0].delta.content async for chunk in stream]
            assert text == ["late"]

    run(test())


def test_a_drain_finishes_streams_and_refuses_new_requests(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with running_frontend(model) as frontend, openai_client(frontend.port) as client:
            async with asyncio.TaskGroup() as tasks:
                reply = tasks.create_task(said(client, stream=True))
                engine = await model.next_stream()
                draining = tasks.create_task(frontend.drain())
                async with openai_client(frontend.port) as other:
                    with pytest.raises(openai.InternalServerError, match="shutting down"):
                        await other.chat.completions.create(**CHAT)
                    with pytest.raises(openai.InternalServerError, match="Service is not ready"):
                        await other.get("/../health", cast_to=object)
                assert not draining.done()
                engine.push(*outputs(token_ids("to the end"), "stop")).end()
            assert reply.result() == ("to the end", "stop")
            assert draining.result() is True

    run(test())
