"""Chat through the official ``openai`` client, with either engine and over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest

from muster.testing.deployment import Background, Deployment, Running
from muster.testing.loops import run

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
]
ARGUMENTS = {"city": "Köln", "days": 2}
CALL = f"<tool_call>\n{json.dumps({'name': 'weather', 'arguments': ARGUMENTS})}\n</tool_call>"


def said(text: str) -> list[Any]:
    """The messages an echo answers with ``text``."""
    return [{"role": "user", "content": text}]


def ask(model: str, text: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": said(text)} | more


# -- choices, stops, seeds -------------------------------------------------------------------------


def test_each_of_n_choices_is_whole(deployment: Deployment) -> None:
    request = ask(deployment.model, "Guten Tag, Welt", n=3, max_tokens=10, temperature=1)
    with deployment.openai() as client:
        reply = client.chat.completions.create(**request)
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert {choice.finish_reason for choice in reply.choices} == {"length"}
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 30
        texts = ["", "", ""]
        reasons: dict[int, str] = {}
        for chunk in client.chat.completions.create(**request, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
        assert texts == [choice.message.content for choice in reply.choices]
        assert reasons == dict.fromkeys(range(3), "length")


def test_a_seed_decides_what_the_mock_says(mock: Deployment) -> None:
    with mock.openai() as client:

        def text(seed: int) -> object:
            reply = client.chat.completions.create(**ask("mock", "hi", seed=seed, max_tokens=20))
            return reply.choices[0].message.content

        assert text(1) == text(1)
        assert text(1) != text(2)


@pytest.mark.parametrize("text", ['aé漢🌍\u200d🚀 \u2028\x00"\\ end', "{{ not.a.template }}"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_character_comes_back_from_the_echo(
    echo: Deployment, text: str, stream: bool
) -> None:
    with echo.openai() as client:
        if stream:
            chunks = client.chat.completions.create(**ask("echo", text), stream=True)
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == text
        else:
            reply = client.chat.completions.create(**ask("echo", text))
            assert reply.choices[0].message.content == text
            assert reply.choices[0].finish_reason == "stop"


def test_one_stop_as_a_text_and_several_as_a_list(echo: Deployment) -> None:
    with echo.openai() as client:
        for stop in ("END", ["nowhere", "END"]):
            reply = client.chat.completions.create(**ask("echo", "say it END no more", stop=stop))
            assert reply.choices[0].message.content == "say it "
            assert reply.choices[0].finish_reason == "stop"


def test_log_probabilities_are_in_the_clients_types(running: Background[Running]) -> None:
    with running.value.of("scored").openai() as client:
        request = ask("scored", "abc", logprobs=True, top_logprobs=2)
        reply = client.chat.completions.create(**request)
        whole = reply.choices[0].logprobs
        assert whole is not None
        assert whole.content is not None
        assert [token.token for token in whole.content] == ["a", "b", "c"]
        assert [token.logprob for token in whole.content] == [0, -0.125, -0.25]
        assert [top.token for top in whole.content[0].top_logprobs] == ["a", "b"]
        streamed: list[Any] = []
        for chunk in client.chat.completions.create(**request, stream=True):
            scores = chunk.choices[0].logprobs
            streamed += (scores.content or []) if scores else []
        assert streamed == whole.content


# -- tools and reasoning ---------------------------------------------------------------------------


def test_a_call_comes_whole_and_streamed_alike(echo: Deployment) -> None:
    request = ask("echo", f"Let me see. {CALL}", tools=TOOLS)
    with echo.openai() as client:
        reply = client.chat.completions.create(**request)
        (choice,) = reply.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me see. "
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments) == ARGUMENTS
        with client.chat.completions.stream(**request) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion().choices[0]
        assert "tool_calls.function.arguments.delta" in kinds
        assert "tool_calls.function.arguments.done" in kinds
        assert final.finish_reason == "tool_calls"
        assert final.message.content == "Let me see. "
        assert final.message.tool_calls is not None
        streamed = final.message.tool_calls[0]
        assert (streamed.function.name, streamed.type) == ("weather", "function")
        assert json.loads(streamed.function.arguments) == ARGUMENTS


@pytest.mark.parametrize("options", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_to_call_markers_are_text(echo: Deployment, options: dict[str, Any]) -> None:
    with echo.openai() as client:
        reply = client.chat.completions.create(**ask("echo", CALL, **options))
        assert reply.choices[0].message.content == CALL
        assert reply.choices[0].message.tool_calls is None
        assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_function_gets_the_reply_as_its_arguments(echo: Deployment, stream: bool) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    request = ask("echo", json.dumps(ARGUMENTS), tools=TOOLS, tool_choice=choice)
    with echo.openai() as client:
        name, arguments = call_of(client, stream, request)
    assert name == "weather"
    assert json.loads(arguments) == ARGUMENTS


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_read_from_json(echo: Deployment, stream: bool) -> None:
    text = json.dumps([{"name": "weather", "parameters": ARGUMENTS}])
    with echo.openai() as client:
        request = ask("echo", text, tools=TOOLS, tool_choice="required")
        name, arguments = call_of(client, stream, request)
    assert name == "weather"
    assert json.loads(arguments) == ARGUMENTS


def call_of(client: openai.OpenAI, stream: bool, request: dict[str, Any]) -> tuple[str, str]:
    """Name and arguments of the only call of a reply."""
    if not stream:
        calls = client.chat.completions.create(**request).choices[0].message.tool_calls
        assert calls is not None
        (call,) = calls
        assert call.type == "function"
        return call.function.name, call.function.arguments
    name, arguments = "", ""
    for chunk in client.chat.completions.create(**request, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            assert delta.index == 0
            assert delta.function is not None
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    return name, arguments


@pytest.mark.parametrize(
    "options",
    [
        {"tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tools": [{"type": "function"}]},
    ],
)
def test_what_cannot_be_called_is_refused(deployment: Deployment, options: dict[str, Any]) -> None:
    with deployment.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ask(deployment.model, "hi", **options))
    assert (caught.value.param or "").startswith("tool")


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_apart_from_the_content(echo: Deployment, stream: bool) -> None:
    request = ask("echo", "<think>hm, so</think>Yes.")
    with echo.openai() as client:
        if stream:
            deltas = [
                c.choices[0].delta for c in client.chat.completions.create(**request, stream=True)
            ]
            content = "".join(delta.content or "" for delta in deltas)
            thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        else:
            message: Any = client.chat.completions.create(**request).choices[0].message
            content, thought = message.content, message.reasoning_content
    assert (content, thought) == ("Yes.", "hm, so")


# -- the form of the reply -------------------------------------------------------------------------


class Weather(pydantic.BaseModel):
    city: str
    days: int = 1


def test_a_reply_is_parsed_into_the_clients_own_type(echo: Deployment) -> None:
    with echo.openai() as client:
        request = ask("echo", json.dumps(ARGUMENTS))
        parsed = client.chat.completions.parse(**request, response_format=Weather)
        assert parsed.choices[0].message.parsed == Weather(city="Köln", days=2)
        with client.chat.completions.stream(**request, response_format=Weather) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert {"content.delta", "content.done"} <= kinds
        assert final.choices[0].message.parsed == Weather(city="Köln", days=2)


def test_a_call_is_parsed_with_the_tools_own_schema(echo: Deployment) -> None:
    with echo.openai() as client:
        tool = openai.pydantic_function_tool(Weather, name="weather")
        parsed = client.chat.completions.parse(**ask("echo", CALL, tools=[tool]))
        calls = parsed.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.parsed_arguments == Weather(city="Köln", days=2)


@pytest.mark.parametrize(
    "form",
    [
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}},
    ],
)
def test_a_form_nobody_knows_is_refused(deployment: Deployment, form: dict[str, Any]) -> None:
    with deployment.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ask(deployment.model, "hi", response_format=form))
    assert (caught.value.param or "").startswith("response_format")


# -- names -----------------------------------------------------------------------------------------


def test_adapters_and_aliases_answer_by_name(echo: Deployment) -> None:
    with echo.openai() as client:
        listed: dict[str, Any] = {model.id: model for model in client.models.list()}
        assert {"echo", "echo-lora", "echo-alias", "mock", "mock-alias"} <= set(listed)
        assert listed["echo-lora"].parent == "echo"
        assert client.models.retrieve("echo-alias").id == "echo-alias"
        assert client.chat.completions.create(**ask("echo-lora", "hi")).model == "echo-lora"
        assert client.chat.completions.create(**ask("echo-alias", "hi")).model == "echo"


# -- errors, deadlines, ids ------------------------------------------------------------------------


@pytest.mark.parametrize("surface", ["chat", "completions"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        ("InvalidArgument", openai.BadRequestError, 400, "invalid_argument"),
        ("EngineError", openai.InternalServerError, 500, "unknown"),
        ("WorkerUnavailable", openai.InternalServerError, 503, "worker_unavailable"),
        ("Overloaded", openai.InternalServerError, 529, "overloaded"),
    ],
)
def test_an_engines_errors_are_the_clients_exceptions(
    running: Background[Running],
    surface: str,
    stream: bool,
    error: str,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
) -> None:
    with running.value.of("failing").openai() as client:
        ways: dict[str, Callable[[str], object]] = {
            "chat": lambda text: client.chat.completions.create(
                **ask("failing", text), stream=stream
            ),
            "completions": lambda text: client.completions.create(
                model="failing", prompt=text, stream=stream
            ),
        }
        with pytest.raises(kind) as caught:
            ways[surface](f"{error} 0")
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert caught.value.response.headers["x-request-id"]
        assert ("retry-after" in caught.value.response.headers) == (status in (503, 529))


def test_an_error_after_the_start_ends_the_clients_stream(running: Background[Running]) -> None:
    with running.value.of("failing").openai() as client:
        stream = client.chat.completions.create(**ask("failing", "EngineError 3"), stream=True)
        texts = [next(stream).choices[0].delta.content or ""]
        with pytest.raises(openai.APIError, match="as asked"):
            texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert "".join(texts) == "xxx"


def test_a_clients_deadline_ends_the_engines_work(running: Background[Running]) -> None:
    text = "a text that takes the slow one some seconds to say" * 4
    with running.value.of("slow").openai(timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(**ask("slow", text))
        site = running.value.site
        running.call(site.until(lambda: not site.server.in_flight))
        running.call(site.until(lambda: not running.value.in_engines))
        assert client.with_options(timeout=20).chat.completions.create(**ask("slow", "ok")).choices


def test_every_answer_has_a_request_id(deployment: Deployment) -> None:
    with deployment.openai() as client:
        request = ask(deployment.model, "hi", max_tokens=2)
        first = client.chat.completions.with_raw_response.create(**request)
        second = client.chat.completions.with_raw_response.create(**request)
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert first.parse()._request_id == first.headers["x-request-id"]  # the client's own name
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(**ask("nobody", "hi"))
        assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_the_async_client_streams_many_at_once(deployment: Deployment) -> None:
    async def test() -> None:
        async with deployment.async_openai() as client:

            async def one(number: int) -> tuple[str, int]:
                options: Any = {"include_usage": True}
                text, tokens = "", 0
                stream = await client.chat.completions.create(
                    **ask(deployment.model, f"number {number} of many", max_tokens=12),
                    stream=True,
                    stream_options=options,
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                    tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                return text, tokens

            replies = await asyncio.gather(*(one(number) for number in range(20)))
            assert [tokens for _, tokens in replies] == [12] * 20
            if deployment.engine == "echo":
                texts = [f"number {number} of many"[:12] for number in range(20)]
                assert [text for text, _ in replies] == texts

    run(test())
