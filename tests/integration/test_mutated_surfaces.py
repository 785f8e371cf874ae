"""Requests that are almost right: every answer has a documented status, and none is a 500."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

ROUNDS = 250
ODD: list[Any] = [
    None, True, 0, -1, 2**40, 1.5, 1e308, "", "x", "\u0000", "\ud800", "漢", [], {}, [[]], [None],
    {"type": "text"}, {"type": []}, {"role": {}}, [{"type": "x"}], {"a": {"b": [{}]}},
]  # fmt: skip
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {
        "model": "tiny",
        "instructions": "I",
        "stream": True,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 9,
        "include": ["message.output_text.logprobs"],
        "metadata": {"a": "b"},
    },
    "/v1/messages": {
        "model": "tiny",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "S"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "h", "signature": ""},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "1"}],
                    },
                    {"type": "document", "source": {"type": "text", "data": "d"}},
                ],
            },
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stop_sequences": ["z"],
        "metadata": {"user_id": "me"},
        "output_config": {"effort": "low"},
    },
    "/tokenize": {
        "model": "tiny",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "chat_template_kwargs": {"a": 1},
        "return_token_strs": True,
    },
    "/detokenize": {"model": "tiny", "tokens": [1, 2, 3]},
}
BODIES["/v1/responses/input_tokens"] = BODIES["/v1/responses"]
BODIES["/v1/messages/count_tokens"] = BODIES["/v1/messages"]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places_in(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places_in(each, (*path, index))


def mutated(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(body))
    for _ in range(chance.choice((1, 1, 2))):
        *path, last = chance.choice(list(places_in(changed)))
        holder: Any = changed
        for step in path:
            holder = holder[step]
        if isinstance(last, str) and chance.random() < 0.2:
            del holder[last]
        else:
            holder[last] = chance.choice(ODD)
        if not changed:
            break
    return changed


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("path", BODIES)
def test_mutated_requests_are_answered_or_refused(directory: Path, path: str) -> None:
    chance = random.Random(path)

    def script(_: object) -> ScriptedStream:
        return ScriptedStream().push(*outputs(token_ids("hi"), "stop")).end()

    async def test() -> None:
        async with (
            running_frontend(ScriptedModel(directory, script=script)) as frontend,
            aiohttp.ClientSession() as session,
        ):
            base = f"http://127.0.0.1:{frontend.port}"
            async with session.post(base + path, json=BODIES[path]) as response:
                assert response.status == 200, await response.text()
            async with session.get(f"{base}/openapi.json") as response:
                ways = (await response.json())["paths"][path]
            documented = {int(status) for status in ways["post"]["responses"] if status.isdigit()}
            statuses = set()
            for _ in range(ROUNDS):
                body = mutated(BODIES[path], chance)
                async with session.post(base + path, json=body) as response:
                    answer = await response.text()
                statuses.add(response.status)
                assert response.status != 500, (body, answer)
                assert response.status in documented, (body, answer)
            assert {200, 400} <= statuses

    run(test())
