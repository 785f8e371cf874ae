"""Prompts and token ids equal those of Hugging Face ``transformers``.

The peer's Python (environment variable ``PEER``: a virtual environment that has ``transformers``)
renders the same conversations with the same templates in one run of a subprocess.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from muster.errors import InvalidArgument
from muster.llm.conversation import ContentForm, Conversation
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.template import ChatTemplate

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / ".." / "shared"
OWN = ROOT / "tests" / "data" / "templates"
MODEL = SHARED / "models" / "deepseek"
PEER = Path(os.environ.get("PEER", ROOT / ".peer"))

TOKENS = {
    "bos_token": "<｜begin▁of▁sentence｜>",  # noqa: RUF001 - its spelling
    "eos_token": "<｜end▁of▁sentence｜>",  # noqa: RUF001 - its spelling
    "pad_token": "<｜end▁of▁sentence｜>",  # noqa: RUF001 - its spelling
}

# Reads cases from standard input, writes for each {"text"} or {"error"} and for each text its ids.
PEER_SCRIPT = """
import json, sys
from transformers import PreTrainedTokenizerFast
work = json.load(sys.stdin)
tokenizer = PreTrainedTokenizerFast(tokenizer_file=work["tokenizer"], **work["tokens"])
def render(case):
    try:
        return {"text": tokenizer.apply_chat_template(tokenize=False, **case)}
    except Exception as error:
        return {"error": str(error)}
json.dump({
    "rendered": [render(case) for case in work["cases"]],
    "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in work["texts"]],
    "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in work["ids"]],
}, sys.stdout)
"""

USER = {"role": "user", "content": "What is 2 < 3 & 'four'?\n\n"}
ANSWER = {"role": "assistant", "content": "  It is true. 好 🙂 "}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call-1",
            "type": "function",
            "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2.5]}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": '{"t": "<7°>"}'}
FUNCTION: dict[str, Any] = {
    "name": "weather",
    "description": "Looks out of the <window> & tells.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Größe"}},
        "required": ["city"],
    },
}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": FUNCTION}]

PARALLEL: dict[str, Any] = {
    "role": "assistant",
    "content": "Let me look. ",
    "tool_calls": [
        {
            "id": f"call-{number}",
            "type": "function",
            "function": {
                "name": "weather",
                "arguments": {"city": city, "more": {"a": [None, True]}},
            },
        }
        for number, city in enumerate(["Łódź", "東京"], 2)
    ],
}
PARTS: dict[str, Any] = {
    "role": "user",
    "content": [
        {"type": "text", "text": " What is "},
        {"type": "image"},
        {"type": "text", "text": "on it?\n"},
    ],
}

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "user": [USER],
    "system and user": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, USER],
    "turns without system": [USER, ANSWER, USER, ANSWER, USER],
    "ends with the assistant": [USER, ANSWER],
    "two users": [USER, USER],
    "assistant first": [ANSWER, USER],
    "late system": [USER, SYSTEM],
    "tool call": [USER, CALL, RESULT],
    "empty texts": [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
    "unknown role": [{"role": "narrator", "content": "x"}],
    "reasoning": [USER, {**ANSWER, "reasoning_content": "because"}, USER],
    "reasoning in the text": [
        USER,
        {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nbecause"},
        USER,
        {"role": "assistant", "content": "<think>again</think>so"},
    ],
    "reasoning and a call": [USER, {**CALL, "reasoning": "I must look"}, RESULT],
    "parallel calls": [
        SYSTEM,
        USER,
        PARALLEL,
        {**RESULT, "tool_call_id": "call-2"},
        {**RESULT, "tool_call_id": "call-3", "content": "no"},
        ANSWER,
        USER,
    ],
    "unicode": [
        {"role": "system", "content": "\u202eيمين \u200d\ufeff e\u0301 Ω"},
        {"role": "user", "content": "👩‍👩‍👧‍👦 \U0001f3f4 \x00\x1b[0m \u2028 ｆｕｌｌ"},  # noqa: RUF001 - the point
    ],
    "white space": [
        {"role": "system", "content": " \n "},
        {"role": "user", "content": "\n\n\ta \r\n"},
        {"role": "assistant", "content": "\n"},
        {"role": "user", "content": "\u00a0\u3000x\u2003"},
    ],
    "looks like a template": [
        {"role": "user", "content": "{{ 7 * 7 }}{% raw %}{# no #}\\n\"'<|im_end|>"},
    ],
    "extra keys": [
        {**SYSTEM, "name": "boss", "x": {"y": 1}},
        {**USER, "name": "Ann", "prefix": True, "tool_calls": None},
        {**ANSWER, "refusal": None, "audio": None, "annotations": []},
        {"role": "developer", "content": "later"},
        USER,
    ],
    "long": [SYSTEM, *[USER, ANSWER] * 5, USER],
    "parts": [PARTS],
    "parts of all": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        PARTS,
        {"role": "assistant", "content": [{"type": "text", "text": " Yes. "}]},
    ],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "prompt": {"add_generation_prompt": True},
    "no prompt": {"add_generation_prompt": False},
    "tools": {"add_generation_prompt": True, "tools": TOOLS},
    "continue": {"continue_final_message": True},
    "documents": {
        "add_generation_prompt": True,
        "documents": [{"title": "T", "text": "<é>"}, {"title": "U", "text": "", "n": 1}],
    },
    "all": {
        "add_generation_prompt": True,
        "tools": [*TOOLS, {**TOOLS[0], "function": {**FUNCTION, "name": "other"}}],
        "documents": [{"title": "T", "text": "x"}],
        "enable_thinking": True,
        "date_string": "1 May 2030",
        "controls": {"citations": True},
        "bos_token": "<mine>",
    },
}
KWARGS = ("enable_thinking", "date_string", "controls", "bos_token")

FEATURES = {
    "whitespace": "  {% if true %}\n a \n  {%- endif +%}\n\n  {# note #}\nb\n",
    "tojson": "{{ messages | tojson }}{{ tools | tojson(indent=2) }}{{ {'b': 1, 'a': '<é>'} | tojson(sort_keys=True) }}",
    "tojson ascii": "{{ messages | tojson(ensure_ascii=True, separators=(',', ':')) }}",
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "loop": "{% for m in messages %}{{ loop.index }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem is defined }}{{ loop.nextitem.role }}{{ loop.cycle('a', 'b') }}{% else %}none{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}\n{% set x = m.content %}{{ x }}{% endgeneration %}\n{{ x }}|{% endfor %}",
    "namespace": "{% set ns = namespace(seen=[], n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen + [m.role] %}{% endfor %}{{ ns.n }}{{ ns.seen }}",
    "macros": "{% macro show(m, sep='-') %}{{ m.role ~ sep ~ (m.content or '') }}{{ caller() if caller }}{% endmacro %}{% for m in messages %}{{ show(m) }}{% call show({'role': m.role}, sep=1) %}called{% endcall %}{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('content', 'none') | map(attribute='content') | map('trim') | list }} {{ 'a b' | title | replace('A', 'x') | upper | indent(3) | center(12) }} {{ [3, 1, 2] | sort | batch(2, 0) | list }} {{ [1, 2, 3] | slice(2) | list }} {{ '%s-%d' | format('x', 3) }} {{ messages | length }} {{ none | default('d', true) }} {{ {'k': 1} | items | list }} {{ {'k': 1} | dictsort }} {{ [[1, 2], [3]] | sum(start=[]) }}",
    "methods": "{{ 'a,b'.split(',') }} {{ 'abc'.startswith('a') }} {{ ' x '.strip() }} {{ 'abc'.replace('b', '') }} {{ '-'.join(['a', 'b']) }} {{ {'a': 1}.items() | list }} {{ {'a': 1}.get('b', 2) }} {{ 'x'.ljust(4) }}| {{ 'ab'[::-1] }} {{ 'ab'[1:] }}",
    "operators": "{{ 1 + 2 * 3 ** 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 'a' * 3 }} {{ [1] * 2 + [3] }} {{ 'a' ~ 1 ~ none ~ true ~ undefined_thing }} {{ 'a%sb' % 1 }} {{ 1 < 2 < 3 }} {{ 'a' in 'cat' }} {{ not messages }} {{ 1 if false }} {{ 'x' is string }} {{ messages is iterable }} {{ tools is none }} {{ (1, 2) }} {{ 1.5 }} {{ {'a': [none, true]} }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ unk_token is defined }}",
    "documents": "{{ documents is none }}{{ documents }}",
    "set block": "{% set text %}{% for m in messages %}{{ m.role }}{% endfor %}{% endset %}{{ text | length }}{% filter upper %}{{ text }}{% endfilter %}",
    "recursion": "{% for part in [1, [2, [3]]] recursive %}{{ loop(part) if part is iterable else part }}{% endfor %}",
    "dict": "{{ dict(a=1, b=messages | length) }}{{ dict.fromkeys(['x'], 0) }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}",
    "arguments": "{% for m in messages if m.tool_calls %}{% for c in m.tool_calls %}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v | tojson if v is not string else v }};{% endfor %}{% endfor %}{% endfor %}",
    "raise": "{{ raise_exception('no: ' ~ messages[0].role) }}",
    "trimmed": "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.type }}:{{ p.text }};{% endfor %}{% endif %}{% endfor %}",
    "only parts": "{% for m in messages %}{% for p in m.content %}{{ '<' ~ p.type ~ '>' }}{{ p['text'] | trim if p.type == 'text' }}{% endfor %}{% endfor %}",
    "slices": "{{ messages[-1].role }}{{ messages[:-1] | length }}{{ messages[::-1][0].role }}{{ messages[1:3] | map(attribute='role') | list }}{{ (messages | last).role }}{{ (messages | first).role }}{{ 'abc'[-2:] }}{{ messages[99] is defined }}",
    "tests": "{% for m in messages %}{{ m.content is defined }}{{ m.nothing is defined }}{{ m is mapping }}{{ m.content is none }}{{ m.content is sequence }}{{ m.role is in ['user'] }}{{ loop.index is odd }}{{ loop.index is divisibleby 3 }}{{ m.role is eq 'user' }}{{ 1.0 is float }}{{ true is boolean }}{{ 'x' is sameas 'x' }}{% endfor %}",
    "more filters": "{{ messages | groupby('role') | map('first') | list }} {{ messages | map(attribute='role') | unique | list }} {{ 'a-b'|replace('-', '_')|capitalize }} {{ '<a>' | escape }} {{ 'a b c' | wordcount }} {{ [1, 2] | max }} {{ 3.7 | int }} {{ '4' | float }} {{ -2 | abs }} {{ 2.567 | round(1) }} {{ {'x': 1} | xmlattr }} {{ 'long text' | truncate(6) }} {{ 'x y' | urlencode }} {{ ['a', 'b'] | reverse | list }} {{ 'ab' | list }} {{ {'a': 1}.keys() | list }} {{ '\n a' | trim }} {{ 'a\nb' | indent(2, true) }} {{ [[2, 'b'], [1, 'a']] | sort(attribute=0) }} {{ 'é' | upper }} {{ 'x' | string }} {{ [1, 2, 3] | select('odd') | list }} {{ [0, 1] | reject | list }} {{ 'abc' | wordwrap(2) }} {{ 5 | filesizeformat }} {{ 'a' | pprint }} {{ '<b>x</b>' | striptags }}",
    "json": "{{ 'é<&>' | tojson }}{{ {'b': [1, 2.0, none, true], 'a': {}} | tojson(indent=2) }}{{ [1, 2] | tojson(separators=(',', ':')) }}{{ 'x\u2028' | tojson }}{{ 1e100 | tojson }}",
    "raised in a macro": "{% macro check(m) %}{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('no: ' ~ m.role) }}{% endif %}{{ m.role }}{% endmacro %}{% for m in messages %}{{ check(m) }}{% endfor %}",
    "scoped loops": "{% set x = 0 %}{% for m in messages recursive %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}{% with y = messages | length %}{{ y }}{% endwith %}{{ y is defined }}",
    "raw and comments": "{% raw %}{{ no }}{% endraw %}{# {{ no }} #}{{ '{{ no }}' }}{%+ if true %}x{% endif +%}\n y",
    "year": "{{ strftime_now('%Y') | length }}",
    "joiner and cycler": "{% set j = joiner('|') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.current }}",
}

# transformers refuses to continue a message if the template's source lacks the word "content";
# we look at what the template makes of it instead.
NULL_CONTENT_DROPPED = "'dict object' has no attribute 'content'"
"""What transformers says where a template shows calls only beside a null content, which it drops."""

REFUSED_UNTRIED = 'continue_final_message is set to "content" but this is not an accepted field'

TEXTS = [
    "",
    " ",
    "Hello, world!  Two spaces\n\n\tand a tab 12345 3.14159",
    "你好，世界！ 🙂🙃👩‍👩‍👧‍👦 naïve café ﬁ Ⅷ 한국어 ไทย \u200b\ufeff\u0000",  # noqa: RUF001 - real text
    "<｜User｜>hi<｜Assistant｜> <｜end▁of▁sentence｜>",  # noqa: RUF001 - special tokens
    "def f(x):\n    return {'a': [x ** 2 for _ in range(10)]}  # <|im_end|>\r\n",
]


@functools.cache
def _model() -> Preprocessor:
    return Preprocessor.load(ModelFiles.of_directory(MODEL), context_length=0)


def _templates() -> dict[str, str]:
    real = {
        f"{label}: {path.stem}": path.read_text()
        for label, folder in (("shared", SHARED / "templates"), ("own", OWN))
        for path in sorted(folder.glob("*.jinja"))
    }
    return {**real, **{f"feature: {name}": text for name, text in FEATURES.items()}}


def _cases() -> dict[str, dict[str, Any]]:
    return {
        f"{template} / {conversation} / {option}": {
            "chat_template": text,
            "conversation": messages,
            **options,
        }
        for template, text in _templates().items()
        for conversation, messages in CONVERSATIONS.items()
        for option, options in OPTIONS.items()
    }


@pytest.fixture(scope="module")
def peer() -> dict[str, Any]:
    python = PEER / "bin" / "python"
    if not python.is_file():
        pytest.skip("set PEER to a virtual environment with transformers")
    if not MODEL.is_dir() or not (SHARED / "templates").is_dir():
        pytest.skip("the shared templates and model files are not there")
    probe = subprocess.run(
        [python, "-c", "import transformers"], capture_output=True, timeout=120, check=False
    )
    if probe.returncode:
        pytest.skip("the peer has no transformers")
    model = _model()
    work = {
        "tokenizer": str(MODEL / "tokenizer.json"),
        "tokens": TOKENS,
        "cases": list(_cases().values()),
        "texts": TEXTS,
        "ids": [model.encode(text) for text in TEXTS],
    }
    done = subprocess.run(
        [python, "-c", PEER_SCRIPT],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@functools.cache
def _compiled(source: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, TOKENS)


def _means_the_same(case: dict[str, Any]) -> bool:
    """Whether both hand the template the same messages.

    A template that only knows texts gets one from us instead of a list, and one that only knows
    lists gets a list instead of a text. (And ``transformers`` takes no empty conversation.)
    """
    listed = [isinstance(message.get("content"), list) for message in case["conversation"]]
    match _compiled(case["chat_template"]).content_form():
        case ContentForm.TEXT:
            return not any(listed)
        case ContentForm.PARTS:
            return all(listed)
        case ContentForm.EITHER:
            return True


def _ours(case: dict[str, Any]) -> dict[str, str]:
    template = _compiled(case["chat_template"])
    conversation = Conversation(
        messages=[_as_sent(message) for message in case["conversation"]],
        tools=case.get("tools"),
        add_generation_prompt=case.get("add_generation_prompt"),
        continue_final_message=case.get("continue_final_message", False),
        documents=case.get("documents"),
        template_kwargs={key: case[key] for key in KWARGS if key in case},
    )
    try:
        return {"text": template.render(conversation)}
    except InvalidArgument as error:
        return {"error": error.message}


def _as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form: arguments of tool calls are JSON text."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {
            **call,
            "function": {
                **call["function"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_every_prompt_is_that_of_transformers(peer: dict[str, Any]) -> None:
    different = {}
    rendered = refused = 0
    for (name, case), theirs in zip(_cases().items(), peer["rendered"], strict=True):
        if not _means_the_same(case):
            continue
        ours = _ours(case)
        rendered += "text" in theirs
        refused += "error" in theirs
        if theirs.get("error", "").startswith(REFUSED_UNTRIED):
            continue
        if "text" in ours and theirs.get("error") == NULL_CONTENT_DROPPED:
            continue
        if ours.keys() != theirs.keys() or ("text" in theirs and ours != theirs):
            different[name] = (ours, theirs)
    assert not different, json.dumps(dict(list(different.items())[:12]), indent=1)
    assert rendered > 4000  # the comparison compared something
    assert refused > 200


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_what_a_template_raises_is_worded_as_in_transformers(peer: dict[str, Any]) -> None:
    checked = 0
    for (name, case), theirs in zip(_cases().items(), peer["rendered"], strict=True):
        if name.startswith("feature: raise") and theirs.get("error", "").startswith("no: "):
            assert _ours(case)["error"] == theirs["error"]
            checked += 1
    assert checked


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_ids_and_decoded_texts_are_those_of_transformers(peer: dict[str, Any]) -> None:
    model = _model()
    assert [model.encode(text) for text in TEXTS] == peer["ids"]
    assert [model.decode(ids) for ids in peer["ids"]] == peer["decoded"]
