"""The official ``anthropic`` client, with either engine and over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import pytest

from muster.config.settings import GuardSettings
from muster.frontend.guard.keys import key_line, new_key
from muster.testing.deployment import Background, Deployment, Running, background, deployed
from muster.testing.loops import run

TOOL: Any = {
    "name": "weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'


def ask(model: str, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 200, "messages": messages} | more


def blocks(message: Any) -> list[tuple[str, Any]]:
    """Kind and content of each block."""
    names = {"text": "text", "thinking": "thinking", "tool_use": "input"}
    return [(block.type, getattr(block, names[block.type])) for block in message.content]


def test_a_message_is_what_the_echo_was_told(echo: Deployment) -> None:
    with echo.anthropic() as client:
        message = client.messages.create(**ask("echo", "Guten Tag 🌍"))
        assert blocks(message) == [("text", "Guten Tag 🌍")]
        assert (message.stop_reason, message.model) == ("end_turn", "echo")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (14, 14)


def test_a_stream_becomes_the_same_message(deployment: Deployment) -> None:
    request = ask(deployment.model, "a text of some length", max_tokens=9)
    with deployment.anthropic() as client:
        whole = client.messages.create(**request)
        with client.messages.stream(**request) as stream:
            kinds = [event.type for event in stream]
            message = stream.get_final_message()
        assert kinds[0] == "message_start"
        assert kinds[-1] == "message_stop"
        assert blocks(message) == blocks(whole)
        assert message.stop_reason == whole.stop_reason == "max_tokens"
        assert message.usage.output_tokens == whole.usage.output_tokens == 9
        assert whole._request_id


def test_a_stop_sequence_is_named(echo: Deployment) -> None:
    with echo.anthropic() as client:
        message = client.messages.create(**ask("echo", "so far END more", stop_sequences=["END"]))
        assert blocks(message) == [("text", "so far ")]
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_text_and_calls_are_blocks(echo: Deployment, stream: bool) -> None:
    request = ask("echo", f"<think>hm</think>Look: {CALL}", tools=[TOOL])
    with echo.anthropic() as client:
        if stream:
            with client.messages.stream(**request) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(**request)
    thinking, text, call = blocks(message)
    assert thinking == ("thinking", "hm")
    assert text[1].strip() == "Look:"
    assert call == ("tool_use", {"city": "Bonn"})
    assert message.content[2].name == "weather"
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"type": "any"}, '[{"name": "weather", "parameters": {"city": "Bonn"}}]'),
        ({"type": "tool", "name": "weather"}, '{"city": "Bonn"}'),
        ({"type": "auto"}, CALL),
    ],
)
def test_a_choice_of_tools_decides_how_a_call_is_read(
    echo: Deployment, choice: Any, text: str
) -> None:
    with echo.anthropic() as client:
        message = client.messages.create(**ask("echo", text, tools=[TOOL], tool_choice=choice))
        assert ("tool_use", {"city": "Bonn"}) in blocks(message)
        assert message.stop_reason == "tool_use"


def test_no_tool_is_called_where_none_may_be(echo: Deployment) -> None:
    with echo.anthropic() as client:
        request = ask("echo", CALL, tools=[TOOL], tool_choice={"type": "none"})
        assert blocks(client.messages.create(**request)) == [("text", CALL)]


def test_counted_tokens_are_used_tokens(deployment: Deployment) -> None:
    with deployment.anthropic() as client:
        messages: Any = [{"role": "user", "content": "count me"}]
        counted = client.messages.count_tokens(
            model=deployment.model, messages=messages, system="be brief"
        )
        used = client.messages.create(
            model=deployment.model, messages=messages, system="be brief", max_tokens=1
        )
        assert counted.input_tokens == used.usage.input_tokens


def test_models_are_listed_in_anthropics_shape(deployment: Deployment) -> None:
    with deployment.anthropic() as client:
        found = {model.id: model for model in client.models.list()}
        assert found[deployment.model].type == "model"
        assert client.models.retrieve(deployment.model).id == deployment.model


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("InvalidArgument 0", anthropic.BadRequestError, "invalid_request_error"),
        ("EngineError 0", anthropic.InternalServerError, "api_error"),
        ("Overloaded 0", anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_an_engines_errors_are_the_clients_exceptions(
    running: Background[Running],
    text: str,
    kind: type[anthropic.APIStatusError],
    name: str,
    stream: bool,
) -> None:
    with running.value.of("failing").anthropic() as client:
        if stream:
            with (
                pytest.raises(anthropic.APIStatusError) as caught,
                client.messages.stream(**ask("failing", text)) as events,
            ):
                events.until_done()
        else:
            with pytest.raises(kind) as caught:
                client.messages.create(**ask("failing", text))
        body: Any = caught.value.body
        assert body["type"] == "error"
        assert body["error"]["type"] == name


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError),
        ({"max_tokens": 0}, anthropic.BadRequestError),
        ({"messages": []}, anthropic.BadRequestError),
        ({"extra_body": {"temperature": 3}}, anthropic.BadRequestError),
    ],
)
def test_a_bad_request_is_an_exception_by_its_class(
    deployment: Deployment, change: dict[str, Any], kind: type[anthropic.APIStatusError]
) -> None:
    with deployment.anthropic() as client, pytest.raises(kind) as caught:
        client.messages.create(**(ask(deployment.model, "hi") | change))
    assert caught.value.request_id
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_a_key_comes_in_its_own_header(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "keys").write_text(f"{key_line('alice', key)}\n")
    (tmp_path / "site").mkdir()
    guard = GuardSettings(keys_file=tmp_path / "keys")
    with background(deployed(tmp_path / "site", guard=guard)) as running:
        site = running.value.of("echo")
        with site.anthropic(api_key=key) as client:
            assert blocks(client.messages.create(**ask("echo", "hi"))) == [("text", "hi")]
        with site.anthropic() as nobody, pytest.raises(anthropic.AuthenticationError) as caught:
            nobody.messages.create(**ask("echo", "hi"))
        body: Any = caught.value.body
        assert body["error"]["type"] == "authentication_error"


def test_the_async_client_streams_too(deployment: Deployment) -> None:
    async def test() -> None:
        request = ask(deployment.model, "a text of some length", max_tokens=5)
        async with deployment.async_anthropic() as client:
            async with client.messages.stream(**request) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                message = await stream.get_final_message()
            assert blocks(message) == [("text", text)]

    run(test())
