"""Tool calls and reasoning as the Responses and Messages APIs show them, seen by both clients."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SAID = (
    "<think>hm</think>Let me look.\n"
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
)
CITIES = [{"city": "Köln"}, {"city": "Bonn"}]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def saying(directory: Path, text: str, size: int) -> ScriptedModel:
    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        items = outputs(token_ids(text), "stop")
        for start in range(0, len(items), size):
            stream.push(*items[start : start + size])
        return stream.end()

    model = ScriptedModel(directory, script=script)
    model.served = dataclasses.replace(
        model.served, tool_call_parser="hermes", reasoning_parser="basic"
    )
    return model


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_response_has_calls_and_reasoning_and_a_stream_the_same(
    directory: Path, size: int
) -> None:
    async def test() -> None:
        async with (
            running_frontend(saying(directory, SAID, size)) as frontend,
            AsyncOpenAI(
                base_url=f"http://127.0.0.1:{frontend.port}/v1", api_key="none", max_retries=0
            ) as client,
        ):
            tool: Any = {
                "type": "function",
                "name": "weather",
                "parameters": SCHEMA,
                "strict": False,
            }
            asked: dict[str, Any] = {"model": "tiny", "input": "Weather?", "tools": [tool]}
            whole: Any = await client.responses.create(**asked)
            async with client.responses.stream(**asked) as stream:
                events: list[Any] = [event async for event in stream]
                streamed: Any = await stream.get_final_response()
            for response in (whole, streamed):
                kinds = [item.type for item in response.output]
                assert kinds == ["reasoning", "message", "function_call", "function_call"]
                assert response.output[0].content[0].text == "hm"
                assert response.output_text.strip() == "Let me look."
                calls = response.output[2:]
                assert [call.name for call in calls] == ["weather", "weather"]
                parsed = [json.loads(call.arguments) for call in calls]
                assert parsed == CITIES
                assert len({call.call_id for call in calls}) == 2
            pieces: dict[str, str] = {}
            for event in events:
                if event.type == "response.function_call_arguments.delta":
                    pieces[event.item_id] = pieces.get(event.item_id, "") + event.delta
            assert [json.loads(text) for text in pieces.values()] == CITIES

            results: Any = [
                {"role": "user", "content": "Weather?"},
                *[item.model_dump(exclude_none=True) for item in whole.output],
                *[
                    {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
                    for call in whole.output[2:]
                ],
            ]
            again = await client.responses.create(model="tiny", input=results, tools=[tool])
            assert again.status == "completed"

    run(test())


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_message_has_calls_and_thinking_and_a_stream_the_same(directory: Path, size: int) -> None:
    async def test() -> None:
        async with (
            running_frontend(saying(directory, SAID, size)) as frontend,
            AsyncAnthropic(
                base_url=f"http://127.0.0.1:{frontend.port}", api_key="none", max_retries=0
            ) as client,
        ):
            asked: dict[str, Any] = {
                "model": "tiny",
                "max_tokens": 500,
                "messages": [{"role": "user", "content": "Weather?"}],
                "tools": [{"name": "weather", "input_schema": SCHEMA}],
            }
            whole: Any = await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                streamed: Any = await stream.get_final_message()
            for message in (whole, streamed):
                kinds = [block.type for block in message.content]
                assert kinds == ["thinking", "text", "tool_use", "tool_use"]
                assert message.content[0].thinking == "hm"
                assert message.content[1].text.strip() == "Let me look."
                assert [block.input for block in message.content[2:]] == CITIES
                assert len({block.id for block in message.content[2:]}) == 2
                assert message.stop_reason == "tool_use"

            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
                for block in whole.content[2:]
            ]
            turns: list[Any] = [
                *asked["messages"],
                {"role": "assistant", "content": whole.content},
                {"role": "user", "content": results},
            ]
            again = await client.messages.create(**{**asked, "messages": turns})
            assert again.role == "assistant"

    run(test())


def test_a_demanded_tool_is_called(directory: Path) -> None:
    async def test() -> None:
        model = saying(directory, '{"city": "Köln"}', 3)
        model.served = dataclasses.replace(model.served, reasoning_parser=None)
        async with (
            running_frontend(model) as frontend,
            AsyncAnthropic(
                base_url=f"http://127.0.0.1:{frontend.port}", api_key="none", max_retries=0
            ) as client,
        ):
            tool: Any = {"name": "weather", "input_schema": SCHEMA}
            message: Any = await client.messages.create(
                model="tiny",
                max_tokens=500,
                messages=[{"role": "user", "content": "Weather?"}],
                tools=[tool],
                tool_choice={"type": "tool", "name": "weather"},
            )
            (block,) = message.content
            assert (block.type, block.name, block.input) == ("tool_use", "weather", CITIES[0])
            guided = model.requests[0].sampling_options.guided_decoding
            assert guided is not None

    run(test())
