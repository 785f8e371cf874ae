"""The official ``anthropic`` client, unmodified, against a running frontend with scripted engines."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from muster.errors import EngineError, Overloaded
from muster.frontend.model_table import ModelStatus
from muster.testing.clients import (
    Tiny,
    counting,
    failing,
    leave_once_seen,
    prompt_of,
    saying,
    serving_anthropic,
)
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import Script, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids

ASK: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}


def test_a_message_is_answered(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("Guten Tag 🌍"), name="org/tiny", aliases=("tiny",))
        async with serving_anthropic(model) as client:
            message = await client.messages.create(
                **ASK,
                system="be brief",
                metadata={"user_id": "me"},
                extra_body={"temperature": 0.5, "top_p": 0.25, "top_k": 3},
            )
            assert prompt_of(model) == (
                "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                "<|im_start|>assistant\n"
            )
            assert [(block.type, block.text) for block in message.content] == [
                ("text", "Guten Tag 🌍")
            ]
            assert message.id == f"msg_{model.request_ids[0].replace('-', '')}"
            assert (message.type, message.role) == ("message", "assistant")
            assert message.model == "org/tiny"
            assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
            usage = message.usage
            assert usage.input_tokens == len(model.requests[0].token_ids)
            assert usage.output_tokens == 14
            request = model.requests[0]
            sampling = request.sampling_options
            assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 3)
            assert request.stop_conditions.max_tokens == 100

    run(test())


def test_content_blocks_become_messages(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        messages: Any = [
            {"role": "user", "content": [{"type": "text", "text": "A"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "B"},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "42"},
                    {"type": "text", "text": "C"},
                    {"type": "text", "text": "D", "cache_control": {"type": "ephemeral"}},
                ],
            },
        ]
        system: Any = [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
            {"type": "text", "text": "S"},
        ]
        async with serving_anthropic(model) as client:
            await client.messages.create(
                model="tiny", max_tokens=10, messages=messages, system=system
            )
            turns = [
                ("system", "S"),
                ("user", "A"),
                ("assistant", "B"),
                ("tool", "42"),
                ("user", "C\nD"),
            ]
            said = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
            assert prompt_of(model) == said + "<|im_start|>assistant\n"

    run(test())


def test_an_answer_that_is_begun_is_continued(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("lo"))
        async with serving_anthropic(model) as client:
            messages: Any = [*ASK["messages"], {"role": "assistant", "content": "Hel"}]
            await client.messages.create(**{**ASK, "messages": messages})
            assert prompt_of(model).endswith("<|im_start|>assistant\nHel")

    run(test())


@pytest.mark.parametrize("size", [1, 100])
def test_a_stream_has_anthropics_events_in_order(tiny: Tiny, size: int) -> None:
    text = "a漢\u2028 end"

    async def test() -> None:
        model = tiny(saying(text, size=size))
        async with serving_anthropic(model) as client:
            stream = await client.messages.create(**ASK, stream=True)
            events: list[Any] = [event async for event in stream]
            deltas = [e for e in events if e.type == "content_block_delta"]
            assert [event.type for event in events] == [
                "message_start",
                "content_block_start",
                *["content_block_delta"] * len(deltas),
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
            assert "".join(delta.delta.text for delta in deltas) == text
            prompt = len(model.requests[0].token_ids)
            start = events[0].message
            assert (start.usage.input_tokens, start.usage.output_tokens) == (prompt, 0)
            assert start.id == f"msg_{model.request_ids[0].replace('-', '')}"
            assert start.content == []
            end = events[-2]
            assert (end.delta.stop_reason, end.delta.stop_sequence) == ("end_turn", None)
            assert (end.usage.input_tokens, end.usage.output_tokens) == (prompt, len(text.encode()))

    run(test())


def test_the_clients_own_accumulator_takes_the_stream(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_anthropic(tiny(saying("Guten Tag"))) as client:
            async with client.messages.stream(**ASK) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                message = await stream.get_final_message()
            assert text == "Guten Tag"
            assert message.content[0].text == "Guten Tag"  # type: ignore[union-attr]
            assert message.usage.output_tokens == 9

    run(test())


def test_a_stream_begins_at_once_and_ends_without_done(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with serving_anthropic(model) as client:
            async with client.messages.with_streaming_response.create(
                **ASK, stream=True
            ) as response:
                assert response.headers["content-type"] == "text/event-stream"
                lines = response.iter_lines()
                assert await anext(lines) == "event: message_start"
                (await model.next_stream()).push(*outputs(token_ids("x"), "stop")).end()
                rest = [line async for line in lines]
            assert [line for line in rest if line][-2:] == [
                "event: message_stop",
                'data: {"type":"message_stop"}',
            ]
            assert not any("[DONE]" in line for line in rest)

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_why_a_message_ended_is_said(tiny: Tiny, stream: bool) -> None:
    async def ended(client: AsyncAnthropic, **options: Any) -> tuple[object, object, str]:
        if not stream:
            message = await client.messages.create(**{**ASK, **options})
        else:
            async with client.messages.stream(**{**ASK, **options}) as events:
                message = await events.get_final_message()
        return message.stop_reason, message.stop_sequence, message.content[0].text

    async def test() -> None:
        async with serving_anthropic(tiny(saying("some text END more", size=4))) as client:
            stops = ["nowhere", "END"]
            assert await ended(client, stop_sequences=stops) == (
                "stop_sequence",
                "END",
                "some text ",
            )
            assert await ended(client, max_tokens=4) == ("max_tokens", None, "some")
            assert await ended(client) == ("end_turn", None, "some text END more")

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_text_has_no_blocks(tiny: Tiny, stream: bool) -> None:
    async def test() -> None:
        script: Script = lambda _: ScriptedStream().push(*outputs([257], "stop")).end()  # noqa: E731 - a script is one
        async with serving_anthropic(tiny(script)) as client:
            if stream:
                async with client.messages.stream(**ASK) as events:
                    message = await events.get_final_message()
            else:
                message = await client.messages.create(**ASK)
            assert message.content == []
            assert message.stop_reason == "end_turn"

    run(test())


def test_cached_tokens_are_not_counted_twice(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_anthropic(tiny(counting(9, cached=4))) as client:
            usage = (await client.messages.create(**ASK)).usage
            assert (usage.input_tokens, usage.cache_read_input_tokens) == (5, 4)

    run(test())


def test_tokens_are_counted_as_they_are_used(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        async with serving_anthropic(model) as client:
            counted = await client.messages.count_tokens(
                model="tiny", messages=ASK["messages"], system="be brief"
            )
            used = await client.messages.create(**ASK, system="be brief")
            assert counted.input_tokens == used.usage.input_tokens
            assert counted.input_tokens == len(model.requests[0].token_ids)

    run(test())


def body_of(error: anthropic.APIStatusError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    detail: dict[str, Any] = error.body["error"]
    assert set(detail) == {"type", "message"}
    assert error.body["request_id"] == error.response.headers["x-request-id"]
    return detail


def test_errors_have_anthropics_shape(tiny: Tiny) -> None:
    async def test() -> None:
        status = ModelStatus(model="slow", state="fetching")
        async with serving_anthropic(
            tiny(failing(Overloaded("full"))), unserved=[status]
        ) as client:
            with pytest.raises(anthropic.NotFoundError) as missing:
                await client.messages.create(**{**ASK, "model": "other"})
            assert body_of(missing.value)["type"] == "not_found_error"
            with pytest.raises(anthropic.BadRequestError) as wrong:
                await client.messages.create(**ASK, extra_body={"temperature": 3})
            detail = body_of(wrong.value)
            assert detail["type"] == "invalid_request_error"
            assert "between 0 and 2" in detail["message"]
            with pytest.raises(anthropic.InternalServerError) as full:
                await client.messages.create(**ASK)
            assert full.value.status_code == 529
            assert body_of(full.value)["type"] == "overloaded_error"
            with pytest.raises(anthropic.InternalServerError) as unready:
                await client.messages.create(**{**ASK, "model": "slow"})
            assert unready.value.status_code == 503
            assert body_of(unready.value)["type"] == "api_error"
            with pytest.raises(anthropic.NotFoundError) as nowhere:
                await client.get("/v1/messages/batches", cast_to=object)
            assert body_of(nowhere.value)["type"] == "not_found_error"
            with pytest.raises(anthropic.APIStatusError) as method:
                await client.get("/v1/messages", cast_to=object)
            assert method.value.status_code == 405
            assert body_of(method.value)["type"] == "invalid_request_error"
            with pytest.raises(anthropic.BadRequestError) as broken:
                await client.post(
                    "/v1/messages",
                    content=b"{",
                    cast_to=object,
                    options={"headers": {"content-type": "application/json"}},
                )
            assert "not valid JSON" in body_of(broken.value)["message"]

    run(test())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"stop_sequences": [""]}, "Stop sequence"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "3019 tokens"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    tiny: Tiny, change: dict[str, Any], named: str
) -> None:
    async def test() -> None:
        fields = {name: value for name, value in {**ASK, **change}.items() if value is not None}
        async with serving_anthropic(tiny(saying("x"))) as client:
            with pytest.raises(anthropic.BadRequestError) as caught:
                await client.post("/v1/messages", body=fields, cast_to=object)
            assert named in body_of(caught.value)["message"]

    run(test())


def test_an_error_after_the_start_closes_the_block_and_is_an_event(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_anthropic(tiny(failing(EngineError("out of paper"), "abc"))) as client:
            async with client.messages.with_streaming_response.create(
                **ASK, stream=True
            ) as response:
                body = await response.read()
            events = body.decode().strip().split("\n\n")
            assert events[-2].startswith("event: content_block_stop\n")
            name, data = events[-1].split("\ndata: ")
            assert name == "event: error"
            assert json.loads(data)["error"]["type"] == "api_error"
            stream = await client.messages.create(**ASK, stream=True)
            with pytest.raises(anthropic.APIStatusError, match="out of paper"):
                async for _ in stream:
                    pass

    run(test())


def test_a_client_that_leaves_stops_the_engine(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with running_frontend(model) as frontend:
            await leave_once_seen(
                model,
                frontend.port,
                "/v1/messages",
                {**ASK, "stream": True},
                said="abc",
                seen=b'"text":"abc"',
            )
            assert frontend.in_flight == 0

    run(test())
