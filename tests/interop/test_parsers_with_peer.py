"""Replies of one worker read by a Muster frontend and by a real Dynamo's: they say the same.

The worker answers with the user's own message, so that a case is a text. Dynamo takes a marker that
comes one character a token for text, and leaves white space before a call where it was: whole
replies are compared, without white space around them, and ours must not depend on how they came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muster.testing.api import Api
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

WORKER = """
import asyncio, json, uvloop
from muster import ModelInput, ModelRuntimeConfig, ModelType, WorkerType, register_model
from muster.runtime import DistributedRuntime

async def handler(request, context):
    prompt = bytes(token if token < 256 else 0 for token in request["token_ids"])
    reply = prompt.rpartition(b"user\\n")[2].partition(b"\\0")[0]
    step, _, reply = reply.partition(b":")
    for at in range(0, len(reply), int(step)):
        yield {"token_ids": list(reply[at : at + int(step)])}
    yield {"token_ids": [], "finish_reason": "stop"}

async def main():
    async with DistributedRuntime() as runtime:
        serving = []
        for at, (tools, reasoning) in enumerate(json.loads(PAIRS)):
            endpoint = runtime.endpoint(f"interop.m{at}.generate")
            config = ModelRuntimeConfig(tool_call_parser=tools, reasoning_parser=reasoning)
            await register_model(
                ModelInput.Tokens, ModelType.Chat, endpoint, MODEL, f"m{at}",
                worker_type=WorkerType.Aggregated, runtime_config=config,
            )
            serving.append(endpoint.serve_endpoint(handler))
        await asyncio.gather(*serving)
uvloop.run(main())
"""

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "where": {"type": "object"},
                    "tags": {"type": "array"},
                },
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
    },
]


class Reply(NamedTuple):
    """What a client gets."""

    reasoning: str
    content: str
    calls: list[tuple[str, Any]]
    finish_reason: str


class Case(NamedTuple):
    """A card's parsers, and what the model says."""

    calls: str | None
    reasoning: str | None
    text: str


def bar(words: str) -> str:
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


J = '{"city": "Köln", "days": 2}'
DSML = "\uff5cDSML\uff5c"
AS_OBJECTS = f'[{{"name": "weather", "arguments": {J}}}, {{"name": "now", "arguments": {{}}}}]'
TAGS = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n"
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"
)
GLM = (
    "<tool_call>weather<arg_key>city</arg_key><arg_value>Köln</arg_value><arg_key>days</arg_key>"
    "<arg_value>2</arg_value></tool_call><tool_call>now</tool_call>"
)
KIMI = (
    f"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
    f"<|tool_call_argument_begin|>{J}<|tool_call_end|><|tool_call_begin|>functions.now:1"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
)
INVOKES = (
    f'<{DSML}invoke name="weather">\n<{DSML}parameter name="city" string="true">Köln'
    f'</{DSML}parameter>\n<{DSML}parameter name="where" string="false">{{"a": [1]}}'
    f'</{DSML}parameter>\n</{DSML}invoke>\n<{DSML}invoke name="now">\n</{DSML}invoke>\n'
)
M3 = (
    '@<tool_call>@<invoke name="weather">@<city>Köln@</city>@<days>2@</days>'
    "@<where>@<a>1@</a>@</where>@<tags>@<item>x@</item>@<item>y@</item>@</tags>@</invoke>"
    "@</tool_call>"
).replace("@", "]<]minimax[>[")
K3 = (
    '<|open|>tools<|sep|><|open|>call tool="weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Köln<|close|>argument<|sep|>'
    '<|open|>argument key="days" type="number"<|sep|>2<|close|>argument<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>"
)
ATEM = (
    '<atem:function_calls><atem:invoke name="weather"><atem:parameter name="city">"Köln"'
    "</atem:parameter></atem:invoke></atem:function_calls><|eom|>"
)

SAME = [
    [
        Case("hermes", "qwen3", f'<think>\nHm.\n</think>\n\nSo. <tool_call>\n{{"name": "weather", "arguments": {J}}}\n</tool_call>\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'),
        Case("hermes", "qwen3", "<think>abc</think>def"),
        Case("hermes", "qwen3", "abc</think>def"),
        Case("hermes", "qwen3", "def"),
        Case("qwen25", "basic", f'<think>Hm.</think><tool_call>{{"name": "weather", "arguments": {J}}}</tool_call>'),
        Case("llama3_json", "granite", f'<|python_tag|>{{"name": "weather", "parameters": {J}}}'),
        Case("llama3_json", "granite", f'{{"name": "weather", "parameters": {J}}}'),
        Case("llama3_json", "granite", "Here is my thought process: abc Here is my response: def"),
        Case("mistral", None, f"[TOOL_CALLS] {AS_OBJECTS}"),
        Case("pythonic", "kimi", "[weather(city='Köln', days=2), now()]"),
        Case("pythonic", "kimi", "◁think▷abc◁/think▷def"),
        Case("phi4", "step3", f"abc</think>functools{AS_OBJECTS}"),
        Case("phi4", "step3", "abc"),
        Case("qwen3_coder", "qwen3", f"<think>Hm.</think>Hi.\n{TAGS}"),
        Case("nemotron_nano", "nemotron_nano", f"Hm.</think>{TAGS}"),
        Case("glm47", "glm45", f"<think>Hm.</think>{GLM}"),
    ],
    [
        Case("deepseek_v3", "deepseek_r1", f"Hm.</think>{bar('tool calls begin')}{bar('tool call begin')}function{bar('tool sep')}weather\n```json\n{J}\n```{bar('tool call end')}\n{bar('tool call begin')}function{bar('tool sep')}now\n```json\n{{}}\n```{bar('tool call end')}{bar('tool calls end')}"),
        Case("deepseek_v3", "deepseek_r1", "<think>abc</think>def"),
        Case("deepseek_v3", "deepseek_r1", "abc"),
        Case("deepseek_v3_1", None, f"So. {bar('tool calls begin')}{bar('tool call begin')}weather{bar('tool sep')}{J}{bar('tool call end')}{bar('tool call begin')}now{bar('tool sep')}{{}}{bar('tool call end')}{bar('tool calls end')}"),
        Case("deepseek_v3_2", "deepseek_v3_2", f"abc</think>So.\n\n<{DSML}function_calls>\n{INVOKES}</{DSML}function_calls>"),
        Case("deepseek_v4", "deepseek_v4", f"<think>abc</think>So.\n\n<{DSML}tool_calls>\n{INVOKES}</{DSML}tool_calls>"),
        Case("deepseek_v41", "deepseek_v41", f'<think>abc</think><{DSML} calls><{DSML} invoke name="weather">{J}</{DSML} invoke></{DSML} calls>'),
        Case("kimi_k2", "kimi_k25", f"Hm.</think>So.{KIMI}"),
        Case("kimi_k2", "kimi_k25", "Hm.</think>" + KIMI.replace("tool_calls_section", "tool_call_section")),
        Case("jamba", "nemotron_v3", f"abc</think><tool_calls>{AS_OBJECTS}</tool_calls>"),
        Case("nemotron_deci", "nemotron_deci", f"<think>abc</think><TOOLCALL>{AS_OBJECTS}</TOOLCALL>"),
        Case("default", "minimax_append_think", f'<TOOLCALL>{AS_OBJECTS}</TOOLCALL>'),
        Case("minimax_m2", "minimax_m2", 'abc</think><minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Köln</parameter>\n<parameter name="days">2</parameter>\n</invoke>\n</minimax:tool_call>'),
    ],
    [
        Case("minimax_m3", "minimax_m3", f"<mm:think>abc</mm:think>So.{M3}"),
        Case("gemma4", "gemma4", '<|channel>thought\nabc<channel|>So.<|tool_call>call:weather{city:<|"|>Köln<|"|>,days:2,where:{a:[1,<|"|>x<|"|>]}}<tool_call|><|tool_call>call:now{}<tool_call|>'),
        Case("kimi_k3", "kimi_k3", f"<|open|>think<|sep|>abc<|close|>think<|sep|><|open|>response<|sep|>def<|close|>response<|sep|>{K3}"),
        Case("muse", "muse", f' to=self<|message|>abc<|eom|><|start|>assistant to=weather<|message|>{ATEM}'),
        Case("muse", "muse", " to=self<|message|>abc<|eom|><|start|>assistant to=user<|message|>def<|eot|>"),
        Case("inkling", "inkling", f'<|content_thinking|>abc<|end_message|><|message_model|><|content_text|>def<|end_message|><|message_model|>weather<|content_invoke_tool_json|>{{"name": "weather", "args": {J}}}<|end_message|><|content_model_end_sampling|>'),
    ],
]  # fmt: skip

LOST = [
    Case("hermes", "qwen3", '<tool_call>\n{"name": "weather", "arguments": {oops}}\n</tool_call>'),
    Case("mistral", None, f"[TOOL_CALLS]weather[ARGS]{J}"),
    Case("glm47", "glm45", "<tool_call>weather<arg_key>city</arg_key>"),
]
"""What Dynamo leaves out without a word."""


def asked(api: Api, model: str, text: str) -> Reply:
    more = {"enable_thinking": True}
    reply = api.chat(
        model,
        messages=[{"role": "user", "content": f"4096:{text}"}],
        tools=TOOLS,
        max_tokens=4096,
        skip_special_tokens=False,
        chat_template_kwargs=more,
    )
    (choice,) = reply["choices"]
    message = choice["message"]
    calls = [each["function"] for each in message.get("tool_calls") or ()]
    return Reply(
        (message.get("reasoning_content") or "").strip(),
        (message.get("content") or "").strip(),
        [(each["name"], json.loads(each["arguments"])) for each in calls],
        choice["finish_reason"],
    )


def streamed(api: Api, model: str, text: str) -> Reply:
    """As ``asked``, one byte a token."""
    reasoning = content = ""
    calls: dict[int, list[str]] = {}
    reasons = []
    events = api.stream(
        model,
        messages=[{"role": "user", "content": f"1:{text}"}],
        tools=TOOLS,
        max_tokens=4096,
        chat_template_kwargs={"enable_thinking": True},
    )
    for event in events:
        if event == "[DONE]":
            break
        for choice in json.loads(event)["choices"]:
            delta = choice["delta"]
            reasoning += delta.get("reasoning_content") or ""
            content += delta.get("content") or ""
            reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
            for each in delta.get("tool_calls") or ():
                known = calls.setdefault(each["index"], ["", ""])
                known[0] += each["function"].get("name") or ""
                known[1] += each["function"].get("arguments") or ""
    (reason,) = reasons
    assert list(calls) == [*range(len(calls))]
    found = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return Reply(reasoning.strip(), content.strip(), found, reason)


class Both:
    """The two frontends over a worker that serves each pair of parsers as a model."""

    def __init__(self, site: Site, cases: list[Case]) -> None:
        self.pairs = sorted({(case.calls, case.reasoning) for case in cases}, key=str)
        directory = site.root / "model"
        directory.mkdir()
        model = write_tiny_model(directory, context_length=65536)
        script = WORKER.replace(" MODEL,", f" {str(model)!r},")
        script = script.replace("PAIRS", repr(json.dumps(self.pairs)))
        site.script(script, role="worker", DYN_SYSTEM_PORT="0")
        self.ours, self.theirs = site.frontend(), site.dynamo_frontend()
        for api in (self.ours, self.theirs):
            for at in range(len(self.pairs)):
                api.wait_for_model(f"m{at}")

    def read(self, cases: list[Case]) -> Iterator[tuple[Case, Reply, Reply]]:
        """Each case, ours and theirs."""
        for case in cases:
            model = f"m{self.pairs.index((case.calls, case.reasoning))}"
            yield case, asked(self.ours, model, case.text), asked(self.theirs, model, case.text)

    def stream(self, case: Case) -> Reply:
        """A case as we stream it."""
        return streamed(self.ours, f"m{self.pairs.index((case.calls, case.reasoning))}", case.text)


@pytest.mark.parametrize("cases", SAME, ids=["first", "second", "third"])
def test_well_formed_replies_are_read_as_dynamo_reads_them(site: Site, cases: list[Case]) -> None:
    both = Both(site, cases)
    for case, ours, theirs in both.read(cases):
        assert ours == theirs, case
        assert ours == both.stream(case), case


def test_what_dynamo_loses_is_kept(site: Site) -> None:
    for case, ours, theirs in Both(site, LOST).read(LOST):
        assert theirs[:3] == ("", "", [])
        if case.calls == "mistral":
            assert ours.calls == [("weather", {"city": "Köln", "days": 2})]
        else:
            assert (ours.content, ours.calls) == (case.text.strip(), [])


def test_the_script_is_what_it_looks_like() -> None:
    compile(WORKER, "script", "exec")


def test_all_of_dynamos_names_are_known(peer: Path, site: Site) -> None:
    from muster.llm.reasoning.registry import REASONING_PARSERS
    from muster.llm.tool_calls.registry import TOOL_CALL_PARSERS

    code = (
        "import json, dynamo._core as core\n"
        "print(json.dumps([core.get_tool_parser_names(), core.get_reasoning_parser_names()]))"
    )
    script = site.dynamo_script(code, role="names")
    script.wait(60)
    calls, reasoning = json.loads(script.text().splitlines()[-1])
    assert set(calls) - TOOL_CALL_PARSERS.keys() == set()
    assert set(reasoning) - REASONING_PARSERS == set()
