"""Calls that a template writes into a prompt are read back as they were.

What a template writes of an earlier turn is what the model was trained to write, so a parser that
belongs to the template must find the same calls in it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.llm.conversation import Conversation
from muster.llm.template import ChatTemplate
from muster.llm.tool_calls.events import CallArguments, CallEnded, CallStarted, Content
from muster.llm.tool_calls.reply_parser import ReplyFormat

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "templates"
OWN = ROOT / "tests" / "data" / "templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
QUESTION = {"role": "user", "content": "Weather?"}

CASES = [
    ("hermes", SHARED / "qwen2.5-instruct.jinja", "<|im_end|>"),
    ("qwen25", SHARED / "qwen2.5-instruct.jinja", "<|im_end|>"),
    ("hermes", OWN / "hermes-tools.jinja", "<|im_end|>"),
    ("qwen3", OWN / "qwen3.jinja", "<|im_end|>"),
    ("llama3_json", OWN / "llama-3.1.jinja", "<|eot_id|>"),
    ("mistral", OWN / "mistral-v3.jinja", "</s>"),
    ("glm45", OWN / "glm-4.jinja", "<|user|>"),
]
ONE_CALL = {"llama3_json"}

plain = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs", "Cc"]), max_size=8)
words = plain.map(lambda text: f"x{text}x")
values = st.fixed_dictionaries(
    {"city": words},
    optional={
        "days": st.integers(-(10**6), 10**6),
        "more": st.dictionaries(words, st.integers() | words, max_size=2).filter(
            lambda each: all(abs(v) < 2**53 for v in each.values() if isinstance(v, int))
        ),
    },
)
PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "more": {"type": "object"},
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells.",
            "parameters": {"type": "object", "properties": PROPERTIES},
        },
    }
]


@functools.cache
def compiled(path: Path) -> ChatTemplate:
    return ChatTemplate({"default": path.read_text("utf-8")}, TOKENS)


def written(template: ChatTemplate, calls: list[dict[str, Any]], end: str) -> str:
    """The reply that a conversation has between its prompt and the end of the turn."""
    answer = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call0000{number}",
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps(call, ensure_ascii=False)},
            }
            for number, call in enumerate(calls)
        ],
    }

    def render(*messages: dict[str, Any], prompt: bool) -> str:
        return template.render(
            Conversation(messages=messages, tools=TOOLS, add_generation_prompt=prompt)
        )

    prompt = render(QUESTION, prompt=True)
    whole = render(QUESTION, answer, prompt=False)
    # Some write more into the prompt than stands before an earlier answer.
    start = next(at for at in range(len(prompt), 0, -1) if whole.startswith(prompt[:at]))
    return whole[start:].removesuffix("\n").removesuffix(end)


@pytest.mark.parametrize(
    ("name", "path", "end"), CASES, ids=[f"{name}-{path.stem}" for name, path, _ in CASES]
)
@given(data=st.data())
def test_calls_that_the_template_writes_are_read_back(
    name: str, path: Path, end: str, data: st.DataObject
) -> None:
    if not path.is_file():
        pytest.skip("../shared/templates is not here")
    calls = data.draw(st.lists(values, min_size=1, max_size=1 if name in ONE_CALL else 3))
    template = compiled(path)
    form = ReplyFormat(tool_call_parser=name, reasoning_parser="qwen3", tools=TOOLS)
    parser = form.new_parser(lambda: "call-123456789")
    events = [*parser.feed(written(template, calls, end)), *parser.finish()]
    assert [event.text for event in events if isinstance(event, Content)] == []
    started = [event.name for event in events if isinstance(event, CallStarted)]
    assert started == ["weather"] * len(calls)
    assert len([event for event in events if isinstance(event, CallEnded)]) == len(calls)
    found = dict.fromkeys(range(len(calls)), "")
    for event in events:
        if isinstance(event, CallArguments):
            found[event.index] += event.text
    assert [json.loads(each) for each in found.values()] == calls


CONCATENATES = (
    "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}"
    "{{ '[' + c['function']['arguments'] + ']' }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}"
)
ASKS = CONCATENATES.replace(
    "{{ '[' + c['function']['arguments'] + ']' }}",
    "{% if c.function.arguments is string %}[{{ c.function.arguments }}]"
    "{% else %}{{ c.function.arguments | tojson }}{% endif %}",
)
NULL_ONLY = CONCATENATES.replace("{% if m.tool_calls %}", "{% if m['content'] is none %}")


@pytest.mark.parametrize("source", [CONCATENATES, ASKS, NULL_ONLY])
@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_arguments_stay_the_text_they_came_as_where_a_template_can_have_it(
    source: str, content: dict[str, Any]
) -> None:
    call = {"function": {"name": "f", "arguments": '{"a":  1}'}}
    answer = {"role": "assistant", "tool_calls": [call], **content}
    text = ChatTemplate({"default": source}, {}).render(
        Conversation(messages=[QUESTION, answer], add_generation_prompt=False)
    )
    assert text.removeprefix("Weather?").strip() == '[{"a":  1}]'
