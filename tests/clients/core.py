"""The core of what clients rely on, of any deployment: Muster's, and both mixed with Dynamo's parts.

Every prompt is longer than the reply it is let have, so that a mock and an echo alike give replies
of exactly ``max_tokens`` tokens.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from muster.testing.deployment import Deployment
from muster.testing.loops import run

SENTENCE = "Say something about the sea, the wind and whatever else there is to be said of it."
MESSAGES: list[Any] = [{"role": "user", "content": SENTENCE}]


def chat_of(deployment: Deployment, **more: Any) -> dict[str, Any]:
    return {"model": deployment.model, "messages": MESSAGES, "max_tokens": 8, "seed": 7} | more


def completion_of(deployment: Deployment, **more: Any) -> dict[str, Any]:
    return {"model": deployment.model, "prompt": SENTENCE, "max_tokens": 8, "seed": 7} | more


def streamed(client: openai.OpenAI, **request: Any) -> list[Any]:
    return list(client.chat.completions.create(stream=True, **request))


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


class CoreSuite:
    """Take it up with a ``deployment`` fixture."""

    # -- models --------------------------------------------------------------------------------

    def test_a_model_is_listed_and_found_by_name(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            listed = {model.id: model for model in client.models.list()}
            assert deployment.model in listed
            one = client.models.retrieve(deployment.model)
            assert (one.id, one.object) == (deployment.model, "model")
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("nobody/knows-this")

    def test_the_time_a_model_was_created_does_not_change(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            first = client.models.retrieve(deployment.model).created
            run(asyncio.sleep(1.1))  # whole seconds are told
            assert client.models.retrieve(deployment.model).created == first

    # -- chat ----------------------------------------------------------------------------------

    def test_a_chat_is_answered(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            reply = client.chat.completions.create(**chat_of(deployment))
            assert (reply.object, reply.model) == ("chat.completion", deployment.model)
            assert reply.id.startswith("chatcmpl-")
            (choice,) = reply.choices
            assert (choice.index, choice.finish_reason) == (0, "length")
            assert choice.message.role == "assistant"
            assert choice.message.content
            usage = reply.usage
            assert usage is not None
            assert usage.completion_tokens == 8
            assert usage.prompt_tokens > 8
            assert usage.total_tokens == usage.prompt_tokens + 8

    def test_a_streamed_chat_has_one_id_one_role_and_one_end(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            chunks = streamed(client, **chat_of(deployment))
            assert len({chunk.id for chunk in chunks}) == 1
            assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
            choices = [chunk.choices[0] for chunk in chunks]
            assert choices[0].delta.role == "assistant"
            reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
            assert reasons == ["length"]
            assert choices[-1].finish_reason == "length"
            assert text_of(chunks)

    def test_usage_is_the_last_chunk_if_asked_for(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            options = {"include_usage": True}
            *rest, last = streamed(client, **chat_of(deployment, stream_options=options))
            assert all(chunk.choices for chunk in rest)
            assert all(chunk.usage is None for chunk in rest)
            assert last.choices == []
            assert last.usage.completion_tokens == 8
            assert last.usage.total_tokens == last.usage.prompt_tokens + 8

    def test_a_stream_says_what_the_whole_reply_says(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            whole = client.chat.completions.create(**chat_of(deployment))
            assert text_of(streamed(client, **chat_of(deployment))) == (
                whole.choices[0].message.content
            )

    def test_a_stop_string_ends_the_reply_and_is_not_said(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            whole = client.chat.completions.create(**chat_of(deployment, max_tokens=30))
            text = whole.choices[0].message.content or ""
            stop = text[3:6]
            request = chat_of(deployment, max_tokens=30, stop=["\x00never", stop])
            ended = client.chat.completions.create(**request)
            assert ended.choices[0].message.content == text[: text.index(stop)]
            assert ended.choices[0].finish_reason == "stop"
            chunks = streamed(client, **request)
            assert text_of(chunks) == text[: text.index(stop)]
            assert chunks[-1].choices[0].finish_reason == "stop"

    def test_the_newer_name_of_max_tokens_counts(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            request = chat_of(deployment, max_completion_tokens=3)
            del request["max_tokens"]
            usage = client.chat.completions.create(**request).usage
            assert usage is not None
            assert usage.completion_tokens == 3

    def test_options_an_engine_may_use_are_taken(self, deployment: Deployment) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        with deployment.openai() as client:
            for options in (
                {"temperature": 0.5, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": -1},
                {"user": "me", "logit_bias": {"5": 1}, "parallel_tool_calls": False},
                {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
                {"response_format": {"type": "text"}},
                {"response_format": {"type": "json_object"}},
                {"response_format": wanted},
                {"extra_body": {"guided_choice": ["yes", "no"]}},
                {"extra_body": {"nvext": {"greed_sampling": True}}},
                {"extra_body": {"min_tokens": 1, "ignore_eos": True, "top_k": 5, "min_p": 0.1}},
            ):
                reply = client.chat.completions.create(**chat_of(deployment, **options))
                assert reply.choices[0].finish_reason == "length", options

    def test_each_of_n_choices_is_whole(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            request = chat_of(deployment, n=2, temperature=1)
            reply = client.chat.completions.create(**request)
            assert [choice.index for choice in reply.choices] == [0, 1]
            assert [choice.finish_reason for choice in reply.choices] == ["length"] * 2
            assert reply.usage is not None
            assert reply.usage.completion_tokens == 16
            ended = [
                choice.index
                for chunk in streamed(client, **request)
                for choice in chunk.choices
                if choice.finish_reason
            ]
            assert sorted(ended) == [0, 1]

    def test_messages_may_have_parts_and_other_roles(self, deployment: Deployment) -> None:
        messages = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": [{"type": "text", "text": SENTENCE}]},
        ]
        with deployment.openai() as client:
            reply = client.chat.completions.create(**chat_of(deployment, messages=messages))
            assert reply.choices[0].message.content

    # -- completions ---------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("prompt", "count"),
        [
            (SENTENCE, 1),
            ([SENTENCE, SENTENCE[::-1]], 2),
            ([*range(40, 70)], 1),
            ([[*range(40, 70)], [*range(50, 80)]], 2),
        ],
    )
    def test_completions_take_every_form_of_prompt(
        self, deployment: Deployment, prompt: Any, count: int
    ) -> None:
        with deployment.openai() as client:
            request = completion_of(deployment, prompt=prompt)
            reply = client.completions.create(**request)
            assert reply.object == "text_completion"
            assert reply.id.startswith("cmpl-")
            assert [choice.index for choice in reply.choices] == [*range(count)]
            assert {choice.finish_reason for choice in reply.choices} == {"length"}
            assert all(choice.text for choice in reply.choices)
            assert reply.usage is not None
            assert reply.usage.completion_tokens == 8 * count
            texts = [""] * count
            for chunk in client.completions.create(**request, stream=True):
                for choice in chunk.choices:
                    texts[choice.index] += choice.text
            assert all(texts)

    # -- the other surfaces --------------------------------------------------------------------

    def test_a_response_is_made(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            response = client.responses.create(
                model=deployment.model, input=SENTENCE, max_output_tokens=8
            )
            assert (response.object, response.status) == ("response", "incomplete")
            assert response.id.startswith("resp_")
            assert response.output_text
            assert response.usage is not None
            assert response.usage.output_tokens == 8

    def test_a_responses_events_are_the_clients_own(self, deployment: Deployment) -> None:
        with (
            deployment.openai() as client,
            client.responses.stream(
                model=deployment.model, input=SENTENCE, max_output_tokens=8
            ) as stream,
        ):
            events: list[Any] = list(stream)
            kinds = [event.type for event in events]
            assert kinds[:2] == ["response.created", "response.in_progress"]
            assert kinds[-1] == "response.incomplete"
            said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
            assert said
            assert events[-1].response.output_text == said

    def test_a_message_is_answered(self, deployment: Deployment) -> None:
        with deployment.anthropic() as client:
            message = client.messages.create(
                model=deployment.model, max_tokens=8, messages=MESSAGES, system="be brief"
            )
            assert (message.type, message.role) == ("message", "assistant")
            assert message.stop_reason == "max_tokens"
            assert message.content[0].type == "text"
            assert message.usage.output_tokens == 8

    def test_a_messages_stream_is_taken_by_the_client(self, deployment: Deployment) -> None:
        with (
            deployment.anthropic() as client,
            client.messages.stream(
                model=deployment.model, max_tokens=8, messages=MESSAGES
            ) as stream,
        ):
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert text
        assert message.content[0].type == "text"
        assert message.content[0].text == text
        assert message.stop_reason == "max_tokens"

    def test_counted_tokens_are_those_that_are_used(self, deployment: Deployment) -> None:
        with deployment.anthropic() as messages, deployment.openai() as client:
            used = messages.messages.create(
                model=deployment.model, max_tokens=1, messages=MESSAGES
            ).usage.input_tokens
            counted = messages.messages.count_tokens(model=deployment.model, messages=MESSAGES)
            assert counted.input_tokens == used
            other = client.responses.input_tokens.count(model=deployment.model, input=SENTENCE)
            assert other.input_tokens == used

    # -- errors --------------------------------------------------------------------------------

    def test_an_unknown_model_is_not_found(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            for stream in (False, True):
                with pytest.raises(openai.NotFoundError):
                    client.chat.completions.create(
                        **chat_of(deployment, model="nobody", stream=stream)
                    )
            with pytest.raises(openai.NotFoundError):
                client.completions.create(**completion_of(deployment, model="nobody"))
            with pytest.raises(openai.NotFoundError):
                client.responses.create(model="nobody", input="x")
        with deployment.anthropic() as messages, pytest.raises(anthropic.NotFoundError):
            messages.messages.create(model="nobody", max_tokens=1, messages=MESSAGES)

    @pytest.mark.parametrize(
        "options",
        [
            {"temperature": 3},
            {"top_p": 2},
            {"n": 0},
            {"max_tokens": 0},
            {"messages": []},
            {"stop": ["x"] * 40},
            {"stop": [""]},
            {"user": ""},
            {"stream_options": {"include_usage": True}},
            {"extra_body": {"max_tokens": "many"}},
            {"extra_body": {"messages": "hi"}},
            {"messages": [{"role": "king", "content": "x"}]},
            {"messages": [{"role": "user", "content": None}]},
            {"tool_choice": "required"},
        ],
    )
    def test_what_is_out_of_bounds_is_a_bad_request(
        self, deployment: Deployment, options: dict[str, Any]
    ) -> None:
        with deployment.openai() as client, pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**chat_of(deployment, **options))
        assert caught.value.message

    def test_a_bad_requests_field_is_named(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(**chat_of(deployment, temperature=3))
            assert caught.value.param == "temperature"
            assert caught.value.code == "invalid_value"
            with pytest.raises(openai.NotFoundError) as unknown:
                client.chat.completions.create(**chat_of(deployment, model="nobody"))
            assert unknown.value.param == "model"
            assert unknown.value.code == "model_not_found"

    def test_what_is_no_request_has_its_status(self, deployment: Deployment) -> None:
        url = f"{deployment.url}/v1/chat/completions"
        with httpx2.Client() as http:
            json_type = {"content-type": "application/json"}
            assert http.post(url, content=b"{", headers=json_type).status_code == 400
            text = {"content-type": "text/plain"}
            assert http.post(url, content=b"{}", headers=text).status_code == 415
            refused = http.get(url)
            assert refused.status_code == 405
            assert "POST" in refused.headers["allow"]
            assert http.get(f"{deployment.url}/v1/nowhere").status_code == 404

    def test_every_error_is_json_with_a_message(self, deployment: Deployment) -> None:
        url = f"{deployment.url}/v1/chat/completions"
        with httpx2.Client() as http:
            for answer in (
                http.post(url, content=b"{", headers={"content-type": "application/json"}),
                http.post(url, content=b"{}", headers={"content-type": "text/plain"}),
                http.post(url, json={"model": "nobody", "messages": MESSAGES}),
                http.get(url),
            ):
                assert answer.json()["error"]["message"]

    # -- around it -----------------------------------------------------------------------------

    def test_a_request_id_comes_back(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            raw = client.chat.completions.with_raw_response.create(
                **chat_of(deployment), extra_headers={"x-request-id": "of-mine"}
            )
            assert raw.headers["x-request-id"] == "of-mine"
            assert raw.parse().choices

    def test_requests_at_once_are_all_answered(self, deployment: Deployment) -> None:
        async def test() -> None:
            async with deployment.async_openai() as client:
                requests = [chat_of(deployment, max_tokens=1 + number) for number in range(16)]
                replies = await asyncio.gather(
                    *(client.chat.completions.create(**request) for request in requests)
                )
                counts = [reply.usage.completion_tokens for reply in replies if reply.usage]
                assert counts == [*range(1, 17)]

        run(test())

    def test_one_who_leaves_a_stream_does_no_harm(self, deployment: Deployment) -> None:
        with deployment.openai() as client:
            for _ in range(3):
                with client.chat.completions.create(**chat_of(deployment), stream=True) as stream:
                    assert next(iter(stream)).choices
            assert client.chat.completions.create(**chat_of(deployment)).choices

    def test_probes_and_metrics_are_there(self, deployment: Deployment) -> None:
        with deployment.openai() as client, httpx2.Client(base_url=deployment.url) as http:
            client.chat.completions.create(**chat_of(deployment))
            assert http.get("/live").status_code == 200
            assert http.get("/health").status_code == 200
            assert "dynamo_frontend_requests_total" in http.get("/metrics").text
            assert "/v1/chat/completions" in http.get("/openapi.json").json()["paths"]
