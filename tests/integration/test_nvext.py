"""``nvext``, its headers and vLLM's ids over the wire: what engines are told, what replies add."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.llm.generation import SamplingDefaults
from muster.llm.protocol import EngineOutput
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PROMPTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "x"}]},
    COMPLETIONS: {"prompt": "x"},
}
CHAT_PROMPT = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
ID = "6d1a98de-6490-406e-8b95-1c64c5548038"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def hi(request: Any) -> ScriptedStream:
    """``Hi!`` a byte at a time for each answer, then an end with a reason."""
    stream = ScriptedStream()
    stream.journey.instance_id = 7
    for index in range(request.sampling_options.n or 1):
        for item in outputs(token_ids("Hi!"), index=index):
            item.log_probs = [-0.5]
            stream.push(item)
        stream.push(EngineOutput(index=index, finish_reason="stop", stop_reason="why"))
    return stream.end()


class Asked:
    """One exchange: the request an engine got, and what was answered."""

    def __init__(self, status: int, text: str, model: ScriptedModel) -> None:
        self.status = status
        self.text = text
        self.requests = model.requests
        self.contexts = model.contexts

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def chunks(self) -> list[Any]:
        lines = [line for line in self.text.splitlines() if line.startswith("data: {")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]


def ask(
    directory: Path,
    path: str = CHAT,
    *,
    headers: dict[str, str] | None = None,
    http: dict[str, Any] | None = None,
    sampling: SamplingDefaults | None = None,
    **fields: Any,
) -> Asked:
    async def exchange() -> Asked:
        model = ScriptedModel(directory, script=hi)
        model.served = dataclasses.replace(model.served, sampling=sampling)
        async with (
            running_frontend(model, **(http or {})) as frontend,
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{frontend.port}{path}",
                json={"model": "tiny", **PROMPTS[path], **fields},
                headers=headers,
            ) as reply,
        ):
            return Asked(reply.status, await reply.text(), model)

    return run(exchange())


FIELDS = ["timing", "worker_id", "stop_reason", "completion_token_ids", "prompt_token_ids"]
TIMES = (
    *("request_received_ms", "prefill_wait_time_ms", "prefill_time_ms", "ttft_ms"),
    "total_time_ms",
)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_whole_reply_says_beside_itself_what_is_asked_for(directory: Path, path: str) -> None:
    asked = ask(directory, path, nvext={"extra_fields": FIELDS})
    nvext = asked.json["nvext"]
    timing = nvext.pop("timing")
    assert tuple(timing) == TIMES
    assert 0 <= timing["prefill_wait_time_ms"] <= timing["ttft_ms"] <= timing["total_time_ms"]
    assert nvext == {
        "worker_id": {"prefill_worker_id": 7, "decode_worker_id": 7},
        "completion_token_ids": token_ids("Hi!"),
        "stop_reason": "why",
        "prompt_token_ids": asked.requests[0].token_ids,
    }
    assert asked.requests[0].extra_args == {"nvext": {"extra_fields": FIELDS}}
    assert "nvext" not in ask(directory, path, nvext={"extra_fields": ["what"]}).json


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_stream_says_ids_as_they_come_and_the_rest_at_the_end(directory: Path, path: str) -> None:
    asked = ask(directory, path, nvext={"extra_fields": FIELDS}, stream=True)
    found = [chunk["nvext"] for chunk in asked.chunks]
    assert [each["completion_token_ids"] for each in found] == [[72], [105], [33], []]
    assert all(each["worker_id"]["decode_worker_id"] == 7 for each in found)
    assert all({*each} == {"worker_id", "completion_token_ids"} for each in found[:-1])
    assert {*found[-1]} == {*FIELDS}
    assert asked.text.endswith("data: [DONE]\n\n")


def test_a_stop_string_is_the_reason_it_ended_for(directory: Path) -> None:
    asked = ask(directory, nvext={"extra_fields": FIELDS}, stop=["i"])
    assert asked.json["nvext"]["stop_reason"] == "i"
    assert asked.json["nvext"]["completion_token_ids"] == token_ids("Hi")


def test_annotations_come_first_in_a_stream_and_nowhere_else(directory: Path) -> None:
    names = ["token_ids", "formatted_prompt", "request_id"]
    headers = {"x-dynamo-request-id": ID}
    asked = ask(directory, nvext={"annotations": names}, stream=True, headers=headers)
    ids = json.dumps(asked.requests[0].token_ids, separators=(",", ":"))
    beginning = (
        f'event: request_id\n: "{ID}"\n\n'
        f"event: formatted_prompt\n: {json.dumps(CHAT_PROMPT)}\n\n"
        f'event: token_ids\n: "{ids}"\n\ndata: {{'
    )
    assert asked.text.startswith(beginning)
    assert asked.requests[0].annotations == names
    assert "event" not in ask(directory, nvext={"annotations": names}).text


def test_each_prompt_of_a_completion_has_its_token_ids(directory: Path) -> None:
    nvext = {"annotations": ["token_ids", "formatted_prompt"]}
    asked = ask(directory, COMPLETIONS, prompt=["a", "b"], nvext=nvext, stream=True)
    assert asked.text.startswith('event: token_ids\n: "[97]"\n\nevent: token_ids\n: "[98]"\n\ndata')


def test_ids_in_place_of_a_prompt_are_the_prompt(directory: Path) -> None:
    for path in (CHAT, COMPLETIONS):
        asked = ask(directory, path, nvext={"token_data": [72, 105]})
        assert asked.requests[0].token_ids == [72, 105]
    refused = ask(directory, nvext={"token_data": [72, 260]})
    assert refused.status == 400
    assert refused.json["error"]["param"] == "nvext.token_data"
    assert "260" in refused.json["error"]["message"]


def test_a_raw_prompt_goes_without_the_template(directory: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    for content, prompt in (("hey", "hey"), (parts, "a\nb")):
        messages = [{"role": "user", "content": content}]
        asked = ask(directory, messages=messages, nvext={"use_raw_prompt": True})
        assert asked.requests[0].token_ids == token_ids(prompt)


def test_greedy_is_temperature_zero(directory: Path) -> None:
    nvext = {"greed_sampling": True, "max_thinking_tokens": 5}
    defaults = SamplingDefaults(temperature=0.7, top_p=0.8, repetition_penalty=1.1)
    asked = ask(directory, nvext=nvext, temperature=1.5, top_p=0.5, sampling=defaults)
    sampling = asked.requests[0].sampling_options
    assert (sampling.temperature, sampling.top_p, sampling.repetition_penalty) == (0.0, None, 1.1)
    assert asked.requests[0].stop_conditions.max_thinking_tokens == 5


def test_headers_reach_the_worker(directory: Path) -> None:
    headers = {
        "x-tenant-id": "t",
        "x-dynamo-meta-colour": "blue",
        "x-dynamo-request-priority": "4",
    }
    asked = ask(directory, headers=headers)
    assert asked.contexts[0].metadata == {"colour": "blue"}
    routing = {"cache_salt": "t", "priority": 4, "priority_jump": 4.0}
    assert asked.requests[0].routing == routing
    assert ask(directory, headers={"x-dynamo-request-priority": "x"}).status == 400


def test_switched_off_it_is_ignored_but_for_its_salt(directory: Path) -> None:
    nvext = {
        "cache_salt": "s",
        "greed_sampling": True,
        "annotations": ["request_id"],
        "token_data": [1],
    }
    asked = ask(
        directory,
        nvext=nvext,
        stream=True,
        temperature=0.5,
        http={"disable_nvext": True},
        headers={"x-dynamo-request-priority": "4"},
    )
    request = asked.requests[0]
    assert asked.text.startswith("data: ")
    assert request.sampling_options.temperature == 0.5
    assert request.routing == {"cache_salt": "s"}
    assert len(request.token_ids) > 1


def test_token_ids_are_returned_in_vllms_places(directory: Path) -> None:
    chat = ask(directory, return_token_ids=True, n=2, temperature=1)
    assert [choice["token_ids"] for choice in chat.json["choices"]] == [token_ids("Hi!")] * 2
    assert chat.json["prompt_token_ids"] == chat.requests[0].token_ids
    whole = ask(directory, COMPLETIONS, prompt=["a", "b"], return_token_ids=True).json
    assert [choice["prompt_token_ids"] for choice in whole["choices"]] == [[97], [98]]
    streamed = ask(directory, return_token_ids=True, stream=True)
    ids = [chunk["choices"][0]["token_ids"] for chunk in streamed.chunks]
    assert ids == [[72], [105], [33], []]
    prompts = [chunk.get("prompt_token_ids") for chunk in streamed.chunks]
    assert prompts == [streamed.requests[0].token_ids, None, None, None]


def test_scores_may_name_tokens_by_their_ids(directory: Path) -> None:
    chat = ask(directory, logprobs=True, return_tokens_as_token_ids=True).json
    tokens = [entry["token"] for entry in chat["choices"][0]["logprobs"]["content"]]
    assert tokens == ["token_id:72", "token_id:105", "token_id:33"]
    whole = ask(directory, COMPLETIONS, logprobs=0, return_tokens_as_token_ids=True).json
    assert whole["choices"][0]["logprobs"]["tokens"] == tokens


def test_images_are_refused_with_their_place(directory: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}
    refused = ask(directory, messages=[{"role": "user", "content": [image]}])
    assert refused.status == 400
    assert refused.json["error"]["param"] == "messages[0].content[0]"
    assert "image_url" in refused.json["error"]["message"]


def test_what_is_guided_from_its_first_token_is_content(directory: Path) -> None:
    async def exchange(**fields: Any) -> Any:
        model = ScriptedModel(directory, script=hi)
        model.served = dataclasses.replace(model.served, reasoning_parser="deepseek_r1")
        async with (
            running_frontend(model) as frontend,
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{frontend.port}{CHAT}",
                json={"model": "tiny", **PROMPTS[CHAT], **fields},
            ) as reply,
        ):
            return (await reply.json())["choices"][0]["message"]

    assert run(exchange())["reasoning_content"] == "Hi!"
    assert run(exchange(guided_choice=["Hi!", "Ho!"]))["content"] == "Hi!"
