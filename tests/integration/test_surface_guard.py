"""The Messages and Responses APIs behind keys, with what they refuse and what they ask of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from muster.config.settings import GuardSettings
from muster.frontend.guard.keys import key_line, new_key
from muster.frontend.openai.route import LONG_BODY_BYTES
from muster.testing.clients import saying
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import write_tiny_model

ASK: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path)


@pytest.fixture
def model(directory: Path) -> ScriptedModel:
    return ScriptedModel(directory, script=saying("ok"))


def keys(tmp_path: Path, **options: str) -> tuple[GuardSettings, dict[str, str]]:
    """Keys by name, each with its options."""
    made = {name: new_key() for name in options}
    path = tmp_path / "keys"
    path.write_text("".join(f"{key_line(n, made[n])} {text}\n" for n, text in options.items()))
    return GuardSettings(keys_file=path), made


def test_the_anthropic_client_shows_its_key_as_it_does(
    model: ScriptedModel, tmp_path: Path
) -> None:
    guard, made = keys(tmp_path, alice="requests_per_minute=2")

    async def test() -> None:
        async with running_frontend(model, guard=guard) as frontend:
            at: dict[str, Any] = {
                "base_url": f"http://127.0.0.1:{frontend.port}",
                "max_retries": 0,
                "timeout": 20,
            }
            async with AsyncAnthropic(api_key="sk-ant-wrong", **at) as client:
                with pytest.raises(anthropic.AuthenticationError) as refused:
                    await client.messages.create(**ASK)
                body: Any = refused.value.body
                assert body["type"] == "error"
                assert body["error"]["type"] == "authentication_error"
            async with AsyncAnthropic(api_key=made["alice"], **at) as client:
                assert (await client.messages.create(**ASK)).stop_reason == "end_turn"
                async with client.messages.stream(**ASK) as stream:
                    assert await stream.get_final_text() == "ok"
                with pytest.raises(anthropic.RateLimitError) as limited:
                    await client.messages.create(**ASK)
                body = limited.value.body
                assert body["error"]["type"] == "rate_limit_error"
                assert int(limited.value.response.headers["retry-after"]) > 0
                page = await client.models.list()  # a GET is not counted
                assert [entry.id for entry in page.data] == ["tiny"]
                assert page.data[0].type == "model"
                assert not page.has_more
                assert (await client.models.retrieve("tiny")).display_name == "tiny"

    run(test())


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
            },
            "image",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            },
            "document",
        ),
        ({"type": "document", "source": {"type": "url", "url": "http://x/y.pdf"}}, "document"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place_and_kind(
    model: ScriptedModel, block: dict[str, Any], kind: str
) -> None:
    async def test() -> None:
        async with (
            running_frontend(model) as frontend,
            AsyncAnthropic(
                base_url=f"http://127.0.0.1:{frontend.port}", api_key="x", max_retries=0
            ) as client,
        ):
            content: Any = [{"type": "text", "text": "look"}, block]
            messages: Any = [{"role": "user", "content": content}]
            for call in (
                client.messages.create(model="tiny", max_tokens=5, messages=messages),
                client.messages.count_tokens(model="tiny", messages=messages),
            ):
                with pytest.raises(anthropic.BadRequestError) as refused:
                    await call
                body: Any = refused.value.body
                assert body["error"]["type"] == "invalid_request_error"
                assert "messages.0.content.1" in body["error"]["message"]
                assert repr(kind) in body["error"]["message"]

    run(test())


async def post(port: int, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}{path}", json=body) as reply,
    ):
        return reply.status, await reply.json()


def test_the_form_of_the_text_is_said_to_the_engine_on_each_surface(model: ScriptedModel) -> None:
    form = {"type": "json_schema", "name": "number", "schema": SCHEMA}

    async def test() -> None:
        async with running_frontend(model) as frontend:
            asked = {"model": "tiny", "input": "hi", "text": {"format": form}}
            status, reply = await post(frontend.port, "/v1/responses", asked)
            assert status == 200
            assert reply["text"]["format"]["schema"] == SCHEMA
            own = {"format": {"type": "json_schema", "schema": SCHEMA}}
            status, _ = await post(frontend.port, "/v1/messages", {**ASK, "output_config": own})
            assert status == 200
            for request in model.requests:
                guided = request.sampling_options.guided_decoding
                assert guided is not None
                assert guided.json == SCHEMA
            nameless = {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}
            status, reply = await post(frontend.port, "/v1/responses", {**asked, **nameless})
            assert (status, reply["error"]["param"]) == (400, "text.format.name")

    run(test())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("background", True),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_what_would_be_stored_is_refused_by_its_name(
    model: ScriptedModel, field: str, value: object
) -> None:
    async def test() -> None:
        async with (
            running_frontend(model) as frontend,
            AsyncOpenAI(
                base_url=f"http://127.0.0.1:{frontend.port}/v1", api_key="x", max_retries=0
            ) as client,
        ):
            more: Any = {field: value}
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="tiny", input="hi", **more)
            assert refused.value.param == field
            assert field in refused.value.message

    run(test())


def test_long_prompts_are_counted_as_they_are_used(directory: Path) -> None:
    """Beyond this length a thread does the work, on these surfaces as on the chat route."""
    text = "word " * LONG_BODY_BYTES

    async def test() -> None:
        long = ScriptedModel(directory, script=saying("ok"), context_length=0)
        async with running_frontend(long) as frontend:
            asked = {"model": "tiny", "messages": [{"role": "user", "content": text}]}
            port = frontend.port
            _, counted = await post(port, "/v1/messages/count_tokens", asked)
            _, message = await post(port, "/v1/messages", {**asked, "max_tokens": 5})
            items = {"model": "tiny", "input": text}
            _, told = await post(port, "/v1/responses/input_tokens", items)
            _, response = await post(port, "/v1/responses", items)
            (first, second) = (len(request.token_ids) for request in long.requests)
            assert first > LONG_BODY_BYTES
            assert counted["input_tokens"] == message["usage"]["input_tokens"] == first
            assert told["input_tokens"] == response["usage"]["input_tokens"] == second
            details = response["usage"]
            assert details["input_tokens_details"]["cached_tokens"] == 0
            assert details["output_tokens_details"]["reasoning_tokens"] == 0
            assert details["total_tokens"] == second + details["output_tokens"]
            assert response["store"] is False

    run(test())
