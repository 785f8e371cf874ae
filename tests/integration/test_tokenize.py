"""``/tokenize`` and ``/detokenize`` of a running frontend: vLLM's shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tokenizers import Tokenizer, processors

from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import BOS, IM_START, token_ids, write_tiny_model

Post = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    directory = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    _begin_with_bos(directory / "tokenizer.json")
    return ScriptedModel(directory)


def _begin_with_bos(path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)]
    )
    tokenizer.save(str(path))


@asynccontextmanager
async def posting(*models: ScriptedModel) -> AsyncIterator[Post]:
    async with running_frontend(*models) as frontend, aiohttp.ClientSession() as session:

        async def post(path: str, **body: Any) -> tuple[int, dict[str, Any]]:
            url = f"http://127.0.0.1:{frontend.port}{path}"
            async with session.post(url, json=body) as response:
                return response.status, await response.json()

        yield post


def test_a_prompt_gets_the_tokens_that_begin_a_text_unless_they_are_unwanted(
    model: ScriptedModel,
) -> None:
    async def test() -> None:
        async with posting(model) as post:
            assert await post("/tokenize", model="tiny", prompt="hé") == (
                200,
                {
                    "count": 4,
                    "max_model_len": 2048,
                    "tokens": [BOS, *token_ids("hé")],
                    "token_strs": None,
                },
            )
            _, bare = await post(
                "/tokenize", prompt="hi", add_special_tokens=False, return_token_strs=True
            )
            assert (bare["tokens"], bare["token_strs"]) == (token_ids("hi"), ["h", "i"])
            assert (await post("/tokenize", prompt="", add_special_tokens=False))[1]["tokens"] == []

    run(test())


def test_a_conversation_is_rendered_as_the_chat_route_does(model: ScriptedModel) -> None:
    messages = [{"role": "user", "content": "hi"}]

    async def test() -> None:
        async with posting(model) as post:
            _, reply = await post("/tokenize", model="tiny", messages=messages)
            _, bare = await post("/tokenize", messages=messages, add_generation_prompt=False)
            _, twice = await post("/tokenize", messages=messages, add_special_tokens=True)
            assert reply["tokens"][0] == IM_START
            assert reply["tokens"] == [*bare["tokens"], IM_START, *token_ids("assistant\n")]
            assert twice["tokens"] == [BOS, *reply["tokens"]]
            begun = [*messages, {"role": "assistant", "content": "so"}]
            _, continued = await post(
                "/tokenize",
                messages=begun,
                continue_final_message=True,
                add_generation_prompt=False,
            )
            assert continued["tokens"] == [*reply["tokens"], *token_ids("so")]

    run(test())


def test_ids_become_text_again_special_tokens_included(model: ScriptedModel) -> None:
    async def test() -> None:
        async with posting(model) as post:
            tokens = [BOS, *token_ids("hé🌍")]
            assert await post("/detokenize", model="tiny", tokens=tokens) == (
                200,
                {"prompt": "<|bos|>hé🌍"},
            )
            assert await post("/detokenize", tokens=[]) == (200, {"prompt": ""})

    run(test())


def test_a_long_prompt_is_tokenized_too(model: ScriptedModel) -> None:
    async def test() -> None:
        async with posting(model) as post:
            status, reply = await post("/tokenize", prompt="x" * 100_000)
            assert (status, reply["count"]) == (200, 100_001)

    run(test())


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {"model": "tiny"}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, 400, "prompt"),
        ("/tokenize", {"prompt": 5}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "chat_template": "x"}, 400, "chat_template"),
        (
            "/tokenize",
            {"messages": [], "continue_final_message": True},
            400,
            "continue_final_message",
        ),
        ("/tokenize", {"model": "other", "prompt": "a"}, 404, "model"),
        ("/detokenize", {"tokens": [260]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {}, 400, "tokens"),
    ],
)
def test_bad_requests_name_the_field(
    model: ScriptedModel, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    async def test() -> None:
        async with posting(model) as post:
            answered, reply = await post(path, **body)
            assert (answered, reply["error"]["param"]) == (status, param)

    run(test())


def test_the_model_may_be_left_out_only_where_there_is_one(
    tmp_path: Path, model: ScriptedModel
) -> None:
    async def test() -> None:
        other = ScriptedModel(write_tiny_model(tmp_path), name="other")
        async with posting(model, other) as post:
            status, reply = await post("/tokenize", prompt="a")
            assert (status, reply["error"]["param"]) == (400, "model")
            assert (await post("/tokenize", model="other", prompt="a"))[0] == 200

    run(test())
