"""What a worker receives from Dynamo's frontend and from ours, for the same requests of clients.

One worker of Dynamo's writes down all it gets. Each request is sent to both frontends, and the two
engine requests are compared as maps. Where ours is meant to differ, the table says so, and the test
fails as well if it does not.
"""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.testing.api import Api
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

WORKER = """
import asyncio, json, os, uvloop
from dynamo.llm import ModelInput, ModelRuntimeConfig, ModelType, WorkerType, register_model
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    name = os.environ["NAME"]
    endpoint = runtime.endpoint(f"engines.{name}.generate")
    config = ModelRuntimeConfig()
    if name == "thinks":
        config.reasoning_parser = "qwen3"
        config.tool_call_parser = "hermes"
    out = open(os.environ["OUT"], "a")

    async def handler(request, context):
        told = {"request": request, "metadata": dict(context.metadata), "id": context.id()}
        out.write(json.dumps(told) + "\\n")
        out.flush()
        for byte in b"Hi!":
            yield {"token_ids": [byte], "index": 0, "log_probs": [-0.5]}
        yield {"token_ids": [], "finish_reason": "stop", "stop_reason": "why", "index": 0}

    await register_model(ModelInput.Tokens, ModelType.Chat | ModelType.Completions, endpoint,
                         os.environ["MODEL"], name, worker_type=WorkerType.Aggregated,
                         runtime_config=config)
    await endpoint.serve_endpoint(handler)
uvloop.run(main())
"""

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
BARE_TOOL = {"type": "function", "function": {"name": "g"}}
WITH_DEFINITIONS = {
    "type": "function",
    "function": {
        "name": "h",
        "parameters": {
            "$defs": {"q": {"type": "string"}},
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/q"}},
        },
    },
}
NAMED = {"type": "function", "function": {"name": "f"}}


class Frontends:
    """Both frontends before one set of workers.

    Attributes:
        instances: The id of each worker by its model.
        site: Where they are.
    """

    def __init__(
        self, dynamo: Api, muster: Api, out: Path, instances: dict[str, int], site: Site
    ) -> None:
        self.site = site
        self.dynamo = dynamo
        self.muster = muster
        self.instances = instances
        self._out = out

    def ask(
        self, api: Api, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[int, str, list[Any]]:
        """Status, body, and what workers were told because of it."""
        before = len(self._told())
        prompt: dict[str, Any] = (
            {"messages": [{"role": "user", "content": "x"}]} if path == CHAT else {"prompt": "x"}
        )
        request = urllib.request.Request(
            api.url + path,
            data=json.dumps({"model": "plain", **prompt, **body}).encode(),
            headers={"content-type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, text, [json.loads(line) for line in self._told()[before:]]

    def engine_requests(
        self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[Any, Any]:
        """What the one worker was told by Dynamo's frontend, and by ours."""
        both = []
        for api in (self.dynamo, self.muster):
            status, text, told = self.ask(api, path, body, headers)
            assert status == 200, text
            assert len(told) == 1
            both.append(comparable(told[0]))
        return both[0], both[1]

    def _told(self) -> list[str]:
        return self._out.read_text().splitlines()


def comparable(told: Any) -> Any:
    """What was told without what differs by nature: ids, and floats beyond Dynamo's 32 bits."""
    request, metadata = told["request"], told["metadata"]

    def narrow(value: Any) -> Any:
        if isinstance(value, float):
            return struct.unpack("f", struct.pack("f", value))[0]
        if isinstance(value, dict):
            return {key: narrow(item) for key, item in value.items()}
        return [narrow(item) for item in value] if isinstance(value, list) else value

    return narrow({**request, "metadata": metadata})


def difference(dynamo: Any, muster: Any, at: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two maps differ, by dotted path; ``...`` stands for nothing at all."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*dynamo, *muster}):
        ours, theirs = muster.get(key, ...), dynamo.get(key, ...)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found |= difference(theirs, ours, f"{at}{key}.")
        elif ours != theirs or type(ours) is not type(theirs):
            found[f"{at}{key}"] = (theirs, ours)
    return found


def start(root: Path, peer: Path, *options: str) -> Iterator[Frontends]:
    (root / "model").mkdir()
    model, out = write_tiny_model(root / "model"), root / "told.jsonl"
    out.touch()
    with Site(root, peer) as site:
        for name in ("plain", "thinks"):
            env = {"NAME": name, "MODEL": str(model), "OUT": str(out), "DYN_SYSTEM_PORT": "0"}
            site.dynamo_script(WORKER, role=name, **env)
        dynamo = site.dynamo_frontend(*options)
        muster = site.frontend(*options, MUSTER_SAMPLING_DEFAULTS="0")
        for api in (dynamo, muster):
            for name in ("plain", "thinks"):
                api.wait_for_model(name)

        def instances() -> dict[str, int]:
            return {
                record["component"]: record["instance_id"]
                for record in site.records("v1/instances").values()
            }

        found = wait_until(lambda: instances().keys() >= {"plain"} and instances(), "instances")
        yield Frontends(dynamo, muster, out, found, site)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, peer: Path) -> Iterator[Frontends]:
    yield from start(tmp_path_factory.mktemp("both"), peer)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory, peer: Path) -> Iterator[Frontends]:
    yield from start(tmp_path_factory.mktemp("direct"), peer, "--router-mode", "direct")


OUR_OWN = {"stop_conditions.max_tokens": None, "output_options.skip_special_tokens": None}
"""Where Dynamo leaves it to the engine, ours says how long an answer may be: what the context leaves.
And that special tokens are wanted, where the markers of calls may be such."""

SAME_CHAT: list[dict[str, Any]] = [
    {},
    {"max_tokens": 5},
    {"max_tokens": 5, "max_completion_tokens": 6},
    {"temperature": 0},
    {"temperature": 0.2, "top_p": 0.3, "min_p": 0.1, "seed": 5, "n": 1},
    {"top_k": 0},
    {"top_k": 7, "presence_penalty": 1, "frequency_penalty": -0.5, "repetition_penalty": 1.5},
    {"stop": "q"},
    {"stop": ["q", "r"], "include_stop_str_in_output": True},
    {"stop_token_ids": [7], "min_tokens": 1},
    {"ignore_eos": True},
    {"skip_special_tokens": False},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 3},
    {"top_logprobs": 3},
    {"logprobs": True, "return_tokens_as_token_ids": True},
    {"thinking_token_budget": 5},
    {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"cache_salt": "c"},
    # structured output
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
        }
    },
    {"guided_json": SCHEMA},
    {"guided_json": json.dumps(SCHEMA)},
    {"guided_regex": "a+"},
    {"guided_choice": ["a", "b"]},
    {"guided_choice": []},
    {"guided_grammar": "root ::= x"},
    {"guided_decoding_backend": "xgrammar"},
    {"guided_whitespace_pattern": " ?"},
    {"guided_json": {}, "guided_decoding_backend": "x", "guided_whitespace_pattern": " ?"},
    {"response_format": {"type": "text"}, "guided_regex": "a"},
    {"response_format": {"type": "json_object"}, "guided_json": {"type": "string"}},
    # tools
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "none"},
    {"tools": [TOOL, BARE_TOOL], "tool_choice": "required"},
    {"tools": [TOOL, WITH_DEFINITIONS], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    {"tools": [TOOL], "tool_choice": NAMED},
    {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
    {"tools": [TOOL], "response_format": {"type": "json_object"}},
    # nvext
    {"nvext": {}},
    {"nvext": {"annotations": ["request_id", "token_ids"]}, "stream": True},
    {"nvext": {"extra_fields": ["timing", "worker_id", "nobody knows"]}},
    {"nvext": {"token_data": [72, 105, 33]}},
    {"nvext": {"max_thinking_tokens": 0}},
    {"nvext": {"cache_salt": "n"}, "cache_salt": "c"},
    {"nvext": {"cache_salt": ""}},
    {"nvext": {"agent_hints": {"priority": 5, "osl": 7}}},
    {"nvext": {"agent_hints": {"priority": -5, "strict_priority": 2}}},
    {"nvext": {"agent_hints": {"latency_sensitivity": 2.5}}},
    {"nvext": {"request_timestamp_ms": 12.5}},
    {"nvext": {"routing_constraints": {"preferred_taints": {"a": 1.0}}}},
    {"nvext": {"router": {"ttft_target": 1.5, "itl_target": 2}}},
    {"nvext": {"prefill_worker_id": 4, "prefill_dp_rank": 1}},
]

THINKING: list[dict[str, Any]] = [
    {},
    {"response_format": {"type": "json_object"}},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL]},
    {"guided_regex": "a", "chat_template_kwargs": {"enable_thinking": False}},
    {"guided_regex": "a", "chat_template_kwargs": {"thinking": False}},
    {"guided_regex": "a", "chat_template_args": {"enable_thinking": True}},
    {"guided_regex": "a", "reasoning_effort": "none"},
    {"response_format": {"type": "json_object"}, "chat_template_kwargs": {"thinking": False}},
    {"response_format": {"type": "json_object"}, "guided_json": SCHEMA},
    {"nvext": {"max_thinking_tokens": 4}},
    {"thinking_token_budget": 4, "chat_template_kwargs": {"enable_thinking": False}},
    {"tools": [TOOL], "tool_choice": "none", "response_format": {"type": "json_object"}},
    {"reasoning_effort": "low"},
    {"chat_template_kwargs": {"x": 1}},
]

SAME_COMPLETIONS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 3},
    {"prompt": [5, 6]},
    {"logprobs": 0},
    {"logprobs": 2},
    {"best_of": 2},
    {"guided_regex": "a"},
    {"guided_json": SCHEMA},
    {"cache_salt": "c"},
    {"nvext": {"token_data": [72]}},
    {"nvext": {"extra_fields": ["completion_token_ids"]}},
]

HEADERS: list[dict[str, str]] = [
    {"x-tenant-id": "t"},
    {"x-dynamo-request-priority": "3"},
    {"x-dynamo-request-priority": "-2"},
    {"x-dynamo-request-strict-priority": "4"},
    {"x-dynamo-meta-foo-Bar": "v", "x-dynamo-meta-a_b": "1"},
    {"x-dynamo-prefill-instance-id": "3"},
    {"x-tenant-id": "", "x-request-id": "abc"},
]


@pytest.mark.parametrize(
    ("path", "model", "bodies"),
    [
        (CHAT, "plain", SAME_CHAT),
        (CHAT, "thinks", THINKING),
        (COMPLETIONS, "plain", SAME_COMPLETIONS),
    ],
    ids=["chat", "a model that reasons", "completions"],
)
def test_engines_are_asked_the_same(
    both: Frontends, path: str, model: str, bodies: list[dict[str, Any]]
) -> None:
    found = {}
    for body in bodies:
        differs = difference(*both.engine_requests(path, {"model": model, **body}))
        if {
            where for where, (theirs, _) in differs.items() if theirs is not OUR_OWN.get(where, ...)
        }:
            found[json.dumps(body)] = differs
    assert not found, json.dumps(found, default=repr, indent=1)


def test_headers_say_the_same(both: Frontends) -> None:
    body = {"max_tokens": 4, "cache_salt": "c", "nvext": {"agent_hints": {"priority": 9}}}
    found = {}
    for headers in HEADERS:
        differs = difference(*both.engine_requests(CHAT, body, headers))
        if differs:
            found[json.dumps(headers)] = differs
    assert not found, json.dumps(found, default=repr, indent=1)


def test_an_instance_named_in_any_way_gets_the_same(direct: Frontends) -> None:
    instance = direct.instances["plain"]
    ways: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {"x-dynamo-worker-instance-id": str(instance)}),
        ({}, {"x-worker-instance-id": str(instance), "x-dp-rank": "0"}),
        ({"nvext": {"backend_instance_id": 5}}, {"x-worker-instance-id": str(instance)}),
        ({"nvext": {"backend_instance_id": instance}}, {}),
    ]
    found = []
    for body, headers in ways:
        differs = difference(*direct.engine_requests(CHAT, {"max_tokens": 4, **body}, headers))
        if differs:
            found.append((body, headers, differs))
    assert found == []


DIFFERENT: list[tuple[dict[str, Any], dict[str, tuple[Any, Any]]]] = [
    # Left out, most engines sample at temperature 1.
    (
        {"nvext": {"greed_sampling": True}, "top_p": 0.5},
        {"sampling_options.temperature": (None, 0.0)},
    ),
    # Dynamo checks it and drops it.
    ({"logit_bias": {"5": 1}}, {"extra_args": (..., {"logit_bias": {"5": 1.0}})}),
    # Who ignores the end of sequence still has stops of their own.
    (
        {"ignore_eos": True, "stop": ["q"], "stop_token_ids": [7]},
        {"stop_conditions.stop": (None, ["q"]), "stop_conditions.stop_token_ids": (None, [7])},
    ),
]


@pytest.mark.parametrize(("body", "expected"), DIFFERENT)
def test_what_differs_is_what_is_meant_to(
    both: Frontends, body: dict[str, Any], expected: dict[str, tuple[Any, Any]]
) -> None:
    dynamo, muster = both.engine_requests(CHAT, {"max_tokens": 4, **body})
    assert difference(dynamo, muster) == expected


def test_the_models_own_temperature_is_sent_unless_switched_off(both: Frontends) -> None:
    frontend = both.site.frontend(role="with-defaults")
    frontend.wait_for_model("plain")
    for body, expected in (({}, 0.7), ({"temperature": 0.5}, 0.5)):
        status, text, (told,) = both.ask(frontend, CHAT, body)
        assert status == 200, text
        assert told["request"]["sampling_options"]["temperature"] == pytest.approx(expected)


REFUSED: list[dict[str, Any]] = [
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    {"response_format": {"type": "xml"}},
    {"response_format": {}},
    {"response_format": "json_object"},
    {"guided_choice": "a"},
    {"guided_regex": "a", "guided_choice": ["b"]},
    {"response_format": {"type": "json_object"}, "guided_regex": "a"},
    {"tools": [TOOL], "tool_choice": "required", "guided_regex": "a"},
    {"tools": [TOOL], "tool_choice": NAMED, "guided_json": SCHEMA},
    {"nvext": {"foo": 1}},
    {"nvext": {"agent_hints": {"foo": 1}}},
    {"nvext": {"agent_hints": {"priority": 2.5}}},
    {"nvext": {"token_data": [72, 105, 300]}},
    {"nvext": {"backend_instance_id": 5}},
    {"nvext": {"decode_worker_id": 5}},
    {"nvext": {"dp_rank": 1}},
    {"nvext": {"extra_fields": ["completion_token_ids"]}, "n": 2},
]


def test_both_refuse_the_same_and_ours_says_where(both: Frontends) -> None:
    for body in REFUSED:
        status, text, told = both.ask(both.dynamo, CHAT, body)
        assert (status, told) == (400, []), (body, text)
        status, text, told = both.ask(both.muster, CHAT, body)
        assert (status, told) == (400, []), (body, text)
        error = json.loads(text)["error"]
        assert error["message"] != "Invalid request"


def test_one_text_says_that_there_are_two_constraints(both: Frontends) -> None:
    body = {"guided_json": SCHEMA, "guided_grammar": "x", "guided_choice": ["b"]}
    dynamo = json.loads(both.ask(both.dynamo, CHAT, body)[1])
    muster = json.loads(both.ask(both.muster, CHAT, body)[1])
    assert muster["error"]["message"] == dynamo["message"]


def shape(value: Any) -> Any:
    """A reply without its values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_what_is_asked_for_beside_the_answer_comes_in_the_same_form(
    both: Frontends, path: str
) -> None:
    fields = ["timing", "worker_id", "stop_reason", "completion_token_ids", "prompt_token_ids"]
    body = {"nvext": {"extra_fields": fields}}
    replies = [
        json.loads(both.ask(api, path, body)[1])["nvext"] for api in (both.dynamo, both.muster)
    ]
    dynamo, muster = replies
    for each in replies:
        each["timing"] = shape({key: float(value) for key, value in each["timing"].items()})
    assert muster == dynamo
    assert muster["completion_token_ids"] == list(b"Hi!")


def events(text: str) -> list[str]:
    return text.removesuffix("\n\n").split("\n\n")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_annotations_are_the_same_events(both: Frontends, path: str) -> None:
    body = {
        "stream": True,
        "nvext": {"annotations": ["request_id", "formatted_prompt", "token_ids", "foo"]},
    }
    id_ = "6d1a98de-6490-406e-8b95-1c64c5548038"
    headers = {"x-dynamo-request-id": id_}
    dynamo, muster = (
        [event for event in events(both.ask(api, path, body, headers)[1]) if ": " in event]
        for api in (both.dynamo, both.muster)
    )
    theirs, ours = (
        [each for each in all_ if each.startswith("event")] for all_ in (dynamo, muster)
    )
    assert sorted(ours) == sorted(theirs)  # theirs are in no order
    assert ours[0] == f'event: request_id\n: "{id_}"'
