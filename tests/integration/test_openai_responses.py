"""The official ``openai`` client's Responses API against a running frontend with scripted engines."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from muster.errors import EngineError
from muster.llm.protocol import CompletionUsage, EngineOutput, PromptTokensDetails, TopLogprob
from muster.testing.clients import Tiny, failing, leave_once_seen, prompt_of, saying, serving_openai
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import Script, ScriptedStream, outputs


def test_a_text_is_answered(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("Guten Tag 🌍"), name="org/tiny", aliases=("tiny",))
        async with serving_openai(model) as client:
            response = await client.responses.create(
                model="tiny",
                input="hi",
                instructions="be brief",
                metadata={"a": "b"},
                temperature=0.5,
                top_p=0.25,
                max_output_tokens=50,
                user="me",
            )
            assert prompt_of(model) == (
                "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                "<|im_start|>assistant\n"
            )
            assert response.output_text == "Guten Tag 🌍"
            assert response.id == f"resp_{model.request_ids[0].replace('-', '')}"
            assert (response.object, response.status) == ("response", "completed")
            assert (response.model, response.store) == ("org/tiny", False)  # type: ignore[attr-defined]
            assert (response.instructions, response.metadata) == ("be brief", {"a": "b"})
            assert (response.temperature, response.top_p) == (0.5, 0.25)
            assert (response.max_output_tokens, response.user) == (50, "me")
            assert response.completed_at is not None
            assert response.error is None
            assert response.incomplete_details is None
            usage = response.usage
            assert usage is not None
            prompt = len(model.requests[0].token_ids)
            assert (usage.input_tokens, usage.output_tokens) == (prompt, 14)
            assert usage.total_tokens == prompt + 14
            sampling = model.requests[0].sampling_options
            assert (sampling.temperature, sampling.top_p) == (0.5, 0.25)
            assert model.requests[0].stop_conditions.max_tokens == 50

    run(test())


def test_items_become_turns(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        items: Any = [
            {"role": "developer", "content": "D"},
            {"role": "user", "content": [{"type": "input_text", "text": "A"}]},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "B", "annotations": []}],
            },
            {"role": "user", "content": "C"},
        ]
        async with serving_openai(model) as client:
            await client.responses.create(model="tiny", input=items)
            said = "".join(
                f"<|im_start|>{role}\n{text}<|im_end|>\n"
                for role, text in [
                    ("developer", "D"),
                    ("user", "A"),
                    ("assistant", "B"),
                    ("user", "C"),
                ]
            )
            assert prompt_of(model) == said + "<|im_start|>assistant\n"

    run(test())


def test_an_output_can_be_sent_back_as_input(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("one"))
        async with serving_openai(model) as client:
            first = await client.responses.create(model="tiny", input="hi")
            items: Any = [
                {"role": "user", "content": "hi"},
                *[item.model_dump() for item in first.output],
                {"role": "user", "content": "and?"},
            ]
            await client.responses.create(model="tiny", input=items)
            assert "<|im_start|>assistant\none<|im_end|>" in prompt_of(model, 1)

    run(test())


@pytest.mark.parametrize("size", [1, 100])
def test_a_stream_has_the_named_events_in_order(tiny: Tiny, size: int) -> None:
    text = "a漢\u2028 end"

    async def test() -> None:
        model = tiny(saying(text, size=size))
        async with serving_openai(model) as client:
            stream = await client.responses.create(model="tiny", input="hi", stream=True)
            events: list[Any] = [event async for event in stream]
            assert [event.sequence_number for event in events] == [*range(len(events))]
            kinds = [event.type for event in events]
            deltas = [event.delta for event in events if event.type.endswith("delta")]
            assert "".join(deltas) == text
            assert kinds == [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                *["response.output_text.delta"] * len(deltas),
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ]
            assert events[0].response.status == "in_progress"
            assert events[0].response.output == []
            item_id = events[2].item.id
            named = {event.item_id for event in events if hasattr(event, "item_id")}
            assert named == {item_id}
            last = events[-1].response
            assert (last.output_text, last.status) == (text, "completed")
            assert last.output[0].id == item_id
            assert events[-2].item == last.output[0]
            assert (last.id, last.model) == (events[0].response.id, "tiny")
            assert last.usage.input_tokens == len(model.requests[0].token_ids)
            assert last.usage.output_tokens == len(text.encode())

    run(test())


def test_the_clients_own_accumulator_takes_the_stream(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("Guten Tag"))) as client:
            async with client.responses.stream(model="tiny", input="hi") as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_response()
            assert kinds[-1] == "response.completed"
            assert final.output_text == "Guten Tag"

    run(test())


def test_a_stream_ends_without_done(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            async with client.responses.with_streaming_response.create(
                model="tiny", input="hi", stream=True
            ) as response:
                body = await response.read()
            *_, last, rest = body.split(b"\n\n")
            assert rest == b""
            assert last.startswith(b"event: response.completed\ndata: {")
            assert b"[DONE]" not in body

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_cut_off_is_incomplete(tiny: Tiny, stream: bool) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("abcdef"))) as client:
            made = await client.responses.create(
                model="tiny", input="hi", max_output_tokens=3, stream=stream
            )
            if isinstance(made, openai.AsyncStream):
                events: list[Any] = [event async for event in made]
                assert events[-1].type == "response.incomplete"
                response = events[-1].response
            else:
                response = made
            assert (response.status, response.output_text) == ("incomplete", "abc")
            assert response.incomplete_details.reason == "max_output_tokens"
            assert response.output[0].status == "incomplete"

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_text_has_an_empty_message(tiny: Tiny, stream: bool) -> None:
    async def test() -> None:
        script: Script = lambda _: ScriptedStream().push(*outputs([257], "stop")).end()  # noqa: E731 - a script is one
        async with serving_openai(tiny(script)) as client:
            made = await client.responses.create(model="tiny", input="hi", stream=stream)
            if isinstance(made, openai.AsyncStream):
                events: list[Any] = [event async for event in made]
                response = events[-1].response
            else:
                response = made
            assert (response.output_text, len(response.output)) == ("", 1)

    run(test())


def test_cached_tokens_and_logprobs_are_passed_on(tiny: Tiny) -> None:
    def script(_: object) -> ScriptedStream:
        usage = CompletionUsage(
            prompt_tokens=9, prompt_tokens_details=PromptTokensDetails(cached_tokens=4)
        )
        top = [TopLogprob(rank=1, token_id=65, token="A", logprob=-0.5)]
        output = EngineOutput(
            token_ids=[65],
            log_probs=[-0.5],
            top_logprobs=[top],
            finish_reason="stop",
            completion_usage=usage,
        )
        return ScriptedStream().push(output).end()

    async def test() -> None:
        model = tiny(script)
        async with serving_openai(model) as client:
            response: Any = await client.responses.create(
                model="tiny",
                input="hi",
                include=["message.output_text.logprobs"],
                top_logprobs=1,
            )
            assert response.usage.input_tokens_details.cached_tokens == 4
            (score,) = response.output[0].content[0].logprobs
            assert (score.token, score.logprob, score.bytes) == ("A", -0.5, [65])
            assert score.top_logprobs[0].token == "A"
            stream = await client.responses.create(
                model="tiny", input="hi", top_logprobs=1, stream=True
            )
            deltas: list[Any] = [e async for e in stream if e.type == "response.output_text.delta"]
            assert deltas[0].logprobs[0].token == "A"

    run(test())


def test_an_error_after_the_start_is_an_event_and_a_failed_response(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(failing(EngineError("out of paper"), "abc"))) as client:
            stream = await client.responses.create(model="tiny", input="hi", stream=True)
            events: list[Any] = [event async for event in stream]
            assert [event.type for event in events[-2:]] == ["error", "response.failed"]
            assert "out of paper" in events[-2].message
            failed = events[-1].response
            assert (failed.status, failed.error.code) == ("failed", "server_error")
            assert failed.output_text == "abc"

    run(test())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
        ("store", True),
        ("truncation", "auto"),
    ],
)
def test_what_is_stateful_is_refused_by_its_name(tiny: Tiny, field: str, value: Any) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            with pytest.raises(openai.BadRequestError, match=f"`{field}`") as caught:
                await client.responses.create(model="tiny", input="hi", **{field: value})
            assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")

    run(test())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": "hi", "temperature": 3}, "temperature"),
        ({"input": "hi", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "hi", "top_logprobs": 21}, "top_logprobs"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": "x" * 3000}, "input"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "hi", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": 5}, "input"),
        ({"input": "hi", "extra_body": {"verbosity": "low"}}, "verbosity"),
    ],
)
def test_errors_name_this_apis_fields(tiny: Tiny, fields: dict[str, Any], param: str) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.responses.create(model="tiny", **fields)
            assert caught.value.param == param

    run(test())


def test_input_tokens_are_counted(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny(saying("x"))
        async with serving_openai(model) as client:
            counted = await client.responses.input_tokens.count(model="tiny", input="hi")
            response = await client.responses.create(model="tiny", input="hi")
            assert response.usage is not None
            assert counted.input_tokens == response.usage.input_tokens
            assert counted.object == "response.input_tokens"
            assert counted.input_tokens == len(model.requests[0].token_ids)

    run(test())


def test_an_unknown_model_and_a_wrong_content_type_have_their_statuses(tiny: Tiny) -> None:
    async def test() -> None:
        async with serving_openai(tiny(saying("x"))) as client:
            with pytest.raises(openai.NotFoundError, match="`tiny`"):
                await client.responses.create(model="other", input="hi")
            with pytest.raises(openai.APIStatusError) as caught:
                await client.post(
                    "/responses",
                    content=b"{",
                    cast_to=object,
                    options={"headers": {"content-type": "text/plain"}},
                )
            assert caught.value.status_code == 415

    run(test())


def test_a_client_that_leaves_stops_the_engine(tiny: Tiny) -> None:
    async def test() -> None:
        model = tiny()
        async with running_frontend(model) as frontend:
            await leave_once_seen(
                model,
                frontend.port,
                "/v1/responses",
                {"model": "tiny", "input": "hi", "stream": True},
                said="abc",
                seen=b'"delta":"abc"',
            )
            assert frontend.in_flight == 0

    run(test())
