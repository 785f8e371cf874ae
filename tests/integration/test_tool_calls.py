"""Tool calls and reasoning through a running frontend, seen by the official ``openai`` client."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from msgspec import UNSET
from openai import AsyncOpenAI

from muster.llm.protocol import EngineOutput
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Weather?"}],
    "tools": TOOLS,
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
ARGUMENTS = {"city": "Köln", "days": 2}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def saying(
    directory: Path,
    text: str,
    *,
    tools: str | None = "hermes",
    reasoning: str | None = None,
    reason: str = "stop",
    size: int = 1,
) -> ScriptedModel:
    """A model that says ``text``, ``size`` bytes a batch."""

    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        items: list[EngineOutput] = outputs(token_ids(text), reason)
        for start in range(0, len(items), size):
            stream.push(*items[start : start + size])
        return stream.end()

    model = ScriptedModel(directory, script=script)
    model.served = dataclasses.replace(
        model.served, tool_call_parser=tools, reasoning_parser=reasoning
    )
    return model


@contextlib.asynccontextmanager
async def serving(model: ScriptedModel) -> AsyncIterator[AsyncOpenAI]:
    async with (
        running_frontend(model) as frontend,
        AsyncOpenAI(
            base_url=f"http://127.0.0.1:{frontend.port}/v1",
            api_key="none",
            max_retries=0,
            timeout=20,
        ) as client,
    ):
        yield client


class Streamed:
    """A streamed reply put together as clients do."""

    def __init__(self) -> None:
        self.content = ""
        self.reasoning = ""
        self.calls: dict[int, dict[str, str]] = {}
        self.pieces: list[str] = []
        self.finish_reasons: list[str] = []
        self.roles: list[str] = []
        self.usage: Any = None

    @classmethod
    async def of(cls, client: AsyncOpenAI, **request: Any) -> Streamed:
        """Ask and collect."""
        reply = cls()
        async for chunk in await client.chat.completions.create(stream=True, **request):
            reply.usage = chunk.usage or reply.usage
            for choice in chunk.choices:
                reply.add(choice)
        return reply

    def add(self, choice: Any) -> None:
        """Take a chunk's choice."""
        delta = choice.delta
        self.content += delta.content or ""
        self.reasoning += getattr(delta, "reasoning_content", None) or ""
        self.roles += [delta.role] if delta.role else []
        self.finish_reasons += [choice.finish_reason] if choice.finish_reason else []
        for call in delta.tool_calls or ():
            if call.id:
                assert call.type == "function"
                self.calls[call.index] = {
                    "id": call.id,
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                }
            else:
                self.calls[call.index]["arguments"] += call.function.arguments
            self.pieces.append(call.function.arguments)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_calls_are_streamed_and_end_for_their_reason(directory: Path, size: int) -> None:
    async def test() -> None:
        model = saying(directory, f"Let me see.\n{CALL}\n{NOW}", size=size)
        async with serving(model) as client:
            reply = await Streamed.of(client, **CHAT)
        assert reply.roles == ["assistant"]
        assert reply.content == "Let me see.\n"
        assert [call["name"] for call in reply.calls.values()] == ["weather", "now"]
        assert [json.loads(call["arguments"]) for call in reply.calls.values()] == [ARGUMENTS, {}]
        assert len({call["id"] for call in reply.calls.values()}) == 2
        assert reply.finish_reasons == ["tool_calls"]
        assert size > 1 or len(reply.pieces) > 10

    run(test())


def test_calls_of_a_whole_reply(directory: Path) -> None:
    async def test() -> None:
        async with serving(saying(directory, CALL + NOW)) as client:
            reply = await client.chat.completions.create(**CHAT)
        choice = reply.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        calls: Any = choice.message.tool_calls
        assert [call.function.name for call in calls] == ["weather", "now"]
        assert json.loads(calls[0].function.arguments) == ARGUMENTS
        assert all(call.id.startswith("call-") and call.type == "function" for call in calls)

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_malformed_call_comes_out_as_text(directory: Path, stream: bool) -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": oops}}\n</tool_call>'

    async def test() -> None:
        async with serving(saying(directory, text)) as client:
            if stream:
                streamed = await Streamed.of(client, **CHAT)
                content, reasons = streamed.content, streamed.finish_reasons
            else:
                choice = (await client.chat.completions.create(**CHAT)).choices[0]
                assert choice.message.tool_calls is None
                content, reasons = choice.message.content or "", [choice.finish_reason]
        assert content == text
        assert reasons == ["stop"]

    run(test())


def test_a_call_that_was_cut_off_is_text_and_the_reason_stays(directory: Path) -> None:
    async def test() -> None:
        async with serving(saying(directory, CALL[:50], reason="length")) as client:
            choice = (await client.chat.completions.create(**CHAT)).choices[0]
        assert choice.finish_reason == "length"
        assert choice.message.content == CALL[:50]

    run(test())


@pytest.mark.parametrize(
    "request_", [{"tools": openai.NOT_GIVEN}, {"tool_choice": "none"}], ids=["no tools", "none"]
)
def test_without_tools_to_call_markers_are_text(directory: Path, request_: dict[str, Any]) -> None:
    async def test() -> None:
        model = saying(directory, CALL)
        async with serving(model) as client:
            choice = (await client.chat.completions.create(**{**CHAT, **request_})).choices[0]
        assert choice.message.content == CALL
        assert choice.finish_reason == "stop"
        assert model.requests[0].output_options.skip_special_tokens is None

    run(test())


def test_only_the_first_call_counts_when_calls_may_not_be_parallel(directory: Path) -> None:
    async def test() -> None:
        async with serving(saying(directory, CALL + NOW)) as client:
            whole = await client.chat.completions.create(**CHAT, parallel_tool_calls=False)
            streamed = await Streamed.of(client, **CHAT, parallel_tool_calls=False)
        assert [call.function.name for call in whole.choices[0].message.tool_calls or ()] == [
            "weather"
        ]
        assert [call["name"] for call in streamed.calls.values()] == ["weather"]

    run(test())


@pytest.mark.parametrize("tools", ["hermes", None])
def test_a_required_call_is_guided_and_read_as_json(directory: Path, tools: str | None) -> None:
    text = '[{"name": "weather", "parameters": {"city": "Köln", "days": 2}}]'

    async def test() -> None:
        model = saying(directory, text, tools=tools)
        async with serving(model) as client:
            whole = await client.chat.completions.create(**CHAT, tool_choice="required")
            streamed = await Streamed.of(client, **CHAT, tool_choice="required")
        assert whole.choices[0].finish_reason == "tool_calls"
        assert json.loads(streamed.calls[0]["arguments"]) == ARGUMENTS
        assert streamed.calls[0]["name"] == "weather"
        guided = model.requests[0].sampling_options.guided_decoding
        assert guided is not None
        assert guided.json == {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "anyOf": [
                    {
                        "properties": {
                            "name": {"type": "string", "enum": ["weather"]},
                            "parameters": WEATHER,
                        },
                        "required": ["name", "parameters"],
                    },
                    {
                        "properties": {
                            "name": {"type": "string", "enum": ["now"]},
                            "parameters": {"type": "object", "properties": {}},
                        },
                        "required": ["name", "parameters"],
                    },
                ],
            },
        }

    run(test())


@pytest.mark.parametrize("text", ['{"city": "Köln", "days": 2}', CALL], ids=["guided", "not"])
def test_a_named_call_is_that_function_with_the_reply_as_arguments(
    directory: Path, text: str
) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}

    async def test() -> None:
        model = saying(directory, text)
        async with serving(model) as client:
            whole = await client.chat.completions.create(**CHAT, tool_choice=choice)  # type: ignore[call-overload] # as JSON
            streamed = await Streamed.of(client, **CHAT, tool_choice=choice)
        call = whole.choices[0].message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", ARGUMENTS)
        assert [json.loads(call["arguments"]) for call in streamed.calls.values()] == [ARGUMENTS]
        guided = model.requests[0].sampling_options.guided_decoding
        assert guided is not None
        assert guided.json == WEATHER

    run(test())


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [{"function": {"name": "f" * 129}}]}, "tools[0].function.name"),
    ],
)
def test_what_cannot_be_called_is_refused(
    directory: Path, change: dict[str, Any], param: str
) -> None:
    async def test() -> None:
        async with serving(saying(directory, "")) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(**{**CHAT, **change})
        assert caught.value.param == param

    run(test())


@pytest.mark.parametrize("size", [1, 1000])
def test_reasoning_is_apart_from_content_and_calls(directory: Path, size: int) -> None:
    async def test() -> None:
        model = saying(
            directory, f"<think>\nHm, Köln.\n</think>\n\nSo:{CALL}", reasoning="qwen3", size=size
        )
        async with serving(model) as client:
            whole = await client.chat.completions.create(**CHAT)
            streamed = await Streamed.of(client, **CHAT, stream_options={"include_usage": True})
        message: Any = whole.choices[0].message
        assert message.reasoning_content == streamed.reasoning == "Hm, Köln."
        assert message.content == streamed.content == "So:"
        assert json.loads(streamed.calls[0]["arguments"]) == ARGUMENTS
        assert whole.choices[0].finish_reason == "tool_calls"
        assert streamed.finish_reasons == ["tool_calls"]
        assert streamed.usage == whole.usage
        details = streamed.usage.completion_tokens_details
        assert 9 <= details.reasoning_tokens <= 21
        assert model.requests[0].require_reasoning is UNSET  # nothing is guided

    run(test())


def test_reasoning_can_have_the_other_field(directory: Path) -> None:
    async def test() -> None:
        model = saying(directory, "<think>abc</think>def", reasoning="qwen3", size=1000)
        async with (
            running_frontend(model, reasoning_field="reasoning") as frontend,
            AsyncOpenAI(
                base_url=f"http://127.0.0.1:{frontend.port}/v1", api_key="none", timeout=20
            ) as client,
        ):
            whole = await client.chat.completions.create(**CHAT)
            deltas = [
                chunk.choices[0].delta.model_extra or {}
                async for chunk in await client.chat.completions.create(**CHAT, stream=True)
            ]
            messages = await client.responses.create(model="tiny", input="Weather?")
        message: Any = whole.choices[0].message
        assert (message.reasoning, message.content) == ("abc", "def")
        assert not hasattr(message, "reasoning_content")
        assert "".join(delta.get("reasoning", "") for delta in deltas) == "abc"
        assert not any("reasoning_content" in delta for delta in deltas)
        assert [item.type for item in messages.output] == ["reasoning", "message"]

    run(test())


def test_reasoning_that_is_not_ended_leaves_no_content(directory: Path) -> None:
    async def test() -> None:
        async with serving(saying(directory, "<think>abc", reasoning="basic")) as client:
            reply = await client.chat.completions.create(**CHAT)
        message: Any = reply.choices[0].message
        assert message.reasoning_content == "abc"
        assert message.content is None

    run(test())


def test_a_prompt_that_ends_with_the_marker_begins_the_reasoning(directory: Path) -> None:
    async def test() -> None:
        model = saying(directory, "abc</think>def", reasoning="qwen3")
        messages = [{"role": "assistant", "content": "<think>"}]
        async with serving(model) as client:
            reply = await client.chat.completions.create(
                model="tiny",
                messages=messages,  # type: ignore[arg-type] # as JSON
                extra_body={"continue_final_message": True, "add_generation_prompt": False},
            )
        message: Any = reply.choices[0].message
        assert (message.reasoning_content, message.content) == ("abc", "def")

    run(test())


def test_each_of_several_answers_has_its_own_calls_and_scores_go_with_them(
    directory: Path,
) -> None:
    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        for index, text in enumerate([CALL, "Hello"]):
            ids = token_ids(text)
            for at, token_id in enumerate(ids):
                last = at == len(ids) - 1
                stream.push(
                    EngineOutput(
                        token_ids=[token_id],
                        log_probs=[-0.5],
                        index=index,
                        finish_reason="stop" if last else None,
                    )
                )
        return stream.end()

    async def test() -> None:
        model = ScriptedModel(directory, script=script)
        model.served = dataclasses.replace(model.served, tool_call_parser="hermes")
        async with serving(model) as client:
            whole = await client.chat.completions.create(**CHAT, n=2, logprobs=True)
            scores = 0
            reasons = {}
            async for chunk in await client.chat.completions.create(
                **CHAT, n=2, logprobs=True, stream=True
            ):
                for choice in chunk.choices:
                    if choice.logprobs is not None:
                        scores += len(choice.logprobs.content or ())
                    if choice.finish_reason:
                        reasons[choice.index] = choice.finish_reason
        assert [choice.finish_reason for choice in whole.choices] == ["tool_calls", "stop"]
        assert whole.choices[1].message.content == "Hello"
        assert scores == len(token_ids(CALL)) + len("Hello")
        assert reasons == {0: "tool_calls", 1: "stop"}
        assert model.requests[0].require_reasoning is UNSET

    run(test())
