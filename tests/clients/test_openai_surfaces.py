"""Completions, responses, embeddings and keys through the official ``openai`` client."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from muster.config.settings import GuardSettings
from muster.frontend.guard.keys import key_line, new_key
from muster.testing.deployment import Background, Deployment, Running, background, deployed

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


# -- completions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("ab", ["ab"]),
        (["a", "bc"], ["a", "bc"]),
        ([97, 98], ["ab"]),
        ([[97], [98, 99]], ["a", "bc"]),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_every_form_of_prompt_is_echoed(
    echo: Deployment, prompt: Any, texts: list[str], n: int
) -> None:
    wanted = [text for text in texts for _ in range(n)]
    with echo.openai() as client:
        request: Any = {"model": "echo", "prompt": prompt, "n": n, "temperature": 1}
        reply = client.completions.create(**request)
        assert [choice.text for choice in reply.choices] == wanted
        assert [choice.index for choice in reply.choices] == [*range(len(wanted))]
        streamed = [""] * len(wanted)
        for chunk in client.completions.create(**request, stream=True):
            for choice in chunk.choices:
                streamed[choice.index] += choice.text
        assert streamed == wanted


@pytest.mark.parametrize("prompt", [[], "", [""], [[]], ["a", 5]])
def test_a_prompt_that_is_none_is_refused(deployment: Deployment, prompt: Any) -> None:
    with deployment.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=deployment.model, prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_said_before_its_completion(deployment: Deployment, stream: bool) -> None:
    request: Any = {"model": deployment.model, "prompt": "Once upon a time", "max_tokens": 4}
    with deployment.openai() as client:
        rest = client.completions.create(**request).choices[0].text
        if stream:
            chunks = client.completions.create(**request, echo=True, stream=True)
            text = "".join(chunk.choices[0].text for chunk in chunks)
        else:
            text = client.completions.create(**request, echo=True).choices[0].text
    assert text == "Once upon a time" + rest


def test_offsets_of_scores_count_characters(running: Background[Running]) -> None:
    with running.value.of("scored").openai() as client:
        reply = client.completions.create(model="scored", prompt="añb", logprobs=1)
        scores = reply.choices[0].logprobs
        assert scores is not None
        assert scores.text_offset is not None
        assert scores.token_logprobs == [0, -0.125, -0.25, -0.375]
        assert (scores.text_offset[0], scores.text_offset[-1]) == (0, 2)
        assert scores.text_offset == sorted(scores.text_offset)


# -- responses -------------------------------------------------------------------------------------


def test_a_response_has_reasoning_text_and_calls_and_its_stream_the_same(echo: Deployment) -> None:
    asked: Any = {"model": "echo", "input": f"<think>hm</think>Look: {CALL}", "tools": [TOOL]}
    with echo.openai() as client:
        whole = client.responses.create(**asked)
        with client.responses.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_response()
        for response in (whole, streamed):
            found: list[Any] = list(response.output)
            assert [item.type for item in found] == ["reasoning", "message", "function_call"]
            assert found[0].content[0].text == "hm"
            assert response.output_text.strip() == "Look:"
            assert (found[2].name, json.loads(found[2].arguments)) == ("weather", {"city": "Bonn"})
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert "response.function_call_arguments.delta" in kinds
        assert "response.function_call_arguments.done" in kinds


def test_input_tokens_are_those_a_response_uses(deployment: Deployment) -> None:
    with deployment.openai() as client:
        asked: Any = {"model": deployment.model, "input": "hi", "instructions": "be brief"}
        counted = client.responses.input_tokens.count(**asked)
        usage = client.responses.create(**asked, max_output_tokens=4).usage
        assert usage is not None
        assert counted.input_tokens == usage.input_tokens


def test_what_needs_a_memory_is_refused_by_name(deployment: Deployment) -> None:
    with deployment.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=deployment.model, input="hi", previous_response_id="resp_1")
    assert (caught.value.param, caught.value.code) == (
        "previous_response_id",
        "unsupported_parameter",
    )


# -- embeddings ------------------------------------------------------------------------------------


def test_embeddings_come_as_numbers_and_as_base64(running: Background[Running]) -> None:
    with running.value.of("vectors").openai() as client:
        asked: Any = {"model": "vectors", "input": ["one", "two"], "dimensions": 16}
        numbers = client.embeddings.create(**asked, encoding_format="float")
        assert [each.index for each in numbers.data] == [0, 1]
        assert [len(each.embedding) for each in numbers.data] == [16, 16]
        assert math.isclose(math.hypot(*numbers.data[0].embedding), 1, rel_tol=1e-3)
        assert numbers.data[0].embedding != numbers.data[1].embedding
        assert numbers.usage.prompt_tokens == 6
        by_default = client.embeddings.create(**asked)  # the client asks for base64 and decodes
        coded: Any = client.embeddings.create(**asked, encoding_format="base64")
        for ours, other, text in zip(numbers.data, by_default.data, coded.data, strict=True):
            assert other.embedding == pytest.approx(ours.embedding)
            unpacked = struct.unpack("<16f", base64.b64decode(text.embedding))
            assert list(unpacked) == pytest.approx(ours.embedding)


def test_ids_are_embedded_as_the_text_they_are(running: Background[Running]) -> None:
    with running.value.of("vectors").openai() as client:

        def vector(given: Any) -> list[float]:
            return client.embeddings.create(model="vectors", input=given).data[0].embedding

        assert vector([97, 98]) == vector([[97, 98]]) == vector("ab")


def test_a_surface_a_model_lacks_is_refused(running: Background[Running]) -> None:
    with running.value.of("mock").openai() as client:
        with pytest.raises(openai.APIStatusError) as chat:
            client.embeddings.create(model="mock", input="x")
        assert chat.value.status_code in (400, 404)
        assert chat.value.param == "model"
        with pytest.raises(openai.APIStatusError) as vectors:
            client.completions.create(model="vectors", prompt="x")
        assert vectors.value.status_code in (400, 404)
        assert vectors.value.param == "model"


# -- keys and limits -------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded(root: Path, **holders: str) -> Iterator[tuple[Deployment, dict[str, str]]]:
    """A deployment that asks for keys, and each holder's."""
    keys = {name: new_key() for name in holders}
    path = root / "keys"
    path.write_text("".join(f"{key_line(name, keys[name])} {holders[name]}\n" for name in holders))
    site = root / "site"
    site.mkdir()
    with background(deployed(site, guard=GuardSettings(keys_file=path))) as running:
        yield running.value.of("echo"), keys


def test_keys_and_rates_are_the_clients_exceptions(tmp_path: Path) -> None:
    with guarded(tmp_path, alice="requests_per_minute=2", bob="concurrent=1") as (site, keys):
        ask: Any = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
        with site.openai() as nobody:
            with pytest.raises(openai.AuthenticationError) as refused:
                nobody.chat.completions.create(**ask)
            assert refused.value.code == "invalid_api_key"
            with pytest.raises(openai.AuthenticationError):
                nobody.models.list()
        with site.openai(api_key=keys["alice"]) as alice:
            for _ in range(2):
                assert alice.chat.completions.create(**ask).choices[0].message.content == "hi"
            with pytest.raises(openai.RateLimitError) as limited:
                alice.chat.completions.create(**ask)
            assert limited.value.code == "rate_limit_exceeded"
            assert int(limited.value.response.headers["retry-after"]) >= 1
        with site.openai(api_key=keys["bob"]) as bob:
            slow = {**ask, "model": "slow", "messages": [{"role": "user", "content": "x" * 60}]}
            with bob.chat.completions.create(**slow, stream=True) as stream:
                assert next(iter(stream)).choices
                with pytest.raises(openai.RateLimitError):
                    bob.chat.completions.create(**ask)
