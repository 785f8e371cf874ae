"""Chat templates: Hugging Face's semantics, our errors, and an end to every rendering."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from muster.errors import CardError, InvalidArgument
from muster.llm.conversation import Conversation
from muster.llm.template import (
    ChatTemplate,
    TemplateLimits,
)
from muster.llm.template_sources import find_template_sources, special_tokens_of

USER = {"role": "user", "content": "hi"}
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MANY = "range(100000)"
ANSWER = {"role": "assistant", "content": "It is "}
PARTS = {
    "role": "user",
    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
}
IMAGE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "u"}},
    ],
}
WANTS_ARRAYS = "{% for m in messages %}{% for p in m.content %}{{ p.type }}={{ p.text }};{% endfor %}{% endfor %}"
LIST = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


class FixedClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return time.mktime((2031, 7, 26, 12, 0, 0, 0, 0, -1))


def template(source: str, **options: Any) -> ChatTemplate:
    return ChatTemplate({"default": source}, options.pop("tokens", {}), **options)


def render(source: str, *messages: dict[str, Any], **conversation: Any) -> str:
    return template(source).render(Conversation(messages=messages or (USER,), **conversation))


KNOWS_BOTH = (
    "{% for m in messages %}{% if m.content is string %}text {{ m.content }}|"
    "{% else %}{% for p in m.content %}part {{ p.text }}|{% endfor %}{% endif %}{% endfor %}"
)


class TestSemantics:
    def test_blocks_leave_no_lines_behind(self) -> None:
        assert render("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"

    def test_special_tokens_are_defined_only_if_the_model_has_them(self) -> None:
        made = template("{{ bos_token }}|{{ eos_token is defined }}", tokens={"bos_token": "<s>"})
        assert made.render(Conversation(messages=[USER])) == "<s>|False"

    def test_tojson_is_pythons_json_without_html_escapes(self) -> None:
        source = "{{ messages[0] | tojson }} {{ [1] | tojson(indent=2) }}"
        assert render(source, {"role": "user", "content": "<é>"}) == (
            '{"role": "user", "content": "<é>"} [\n  1\n]'
        )

    def test_tojson_takes_the_arguments_of_transformers(self) -> None:
        source = "{{ {'b': 1, 'a': 'é'} | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}"
        assert render(source) == '{"a":"\\u00e9","b":1}'

    def test_loop_controls(self) -> None:
        source = "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        assert render(source) == "02"

    def test_generation_blocks_are_transparent(self) -> None:
        source = "a{% generation %}\n{% set x = 1 %}b{% endgeneration %}\nc{{ x }}"
        assert render(source) == "abc"

    def test_the_clock_is_a_parameter(self) -> None:
        made = template("{{ strftime_now('%d %b %Y') }}", clock=FixedClock())
        assert made.render(Conversation(messages=[USER])) == "26 Jul 2031"

    def test_namespaces_and_dicts(self) -> None:
        source = "{% set ns = namespace(n=1) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ dict(a=2).a }}"
        assert render(source) == "42"

    def test_operators_and_filters_that_are_measured_still_do_their_work(self) -> None:
        source = (
            "{{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} {{ 2 ** 3 }} {{ [1] + [2] }} {{ 'x'|center(3) }}|"
            "{{ 'a\nb'|indent(2) }} {{ [1, 2]|join('-') }} {{ messages|join(',', attribute='role') }} "
            "{{ 'aXbX'|replace('X', '_', 1) }} {{ 'abc'.replace('b', 'd') }} {{ '-'.join(['p', 'q']) }} "
            "{{ [1, 2, 3]|batch(2)|list }} {{ [1, 2, 3]|slice(2)|list }} {{ '7'.zfill(3) }}"
        )
        assert render(source) == (
            "a1None abab 8 [1, 2]  x |a\n  b 1-2 user a_bX adc p-q [[1, 2], [3]] [[1, 2], [3]] 007"
        )

    def test_formats_and_sums_that_are_measured_still_do_their_work(self) -> None:
        source = (
            "{{ ('%5.2f|%s' % (1.5, 'x' * 99)) | length }} {{ '%s' % messages[0].role }} "
            "{{ '%(a)03d' | format(a=7) }} {{ '%s-%s' | format(1, 2) }} {{ '{:>4}{}'.format(1, 'z') }} "
            "{{ '{a}'.format(a=1) }} {{ '{a}'.format_map({'a': 2}) }} {{ 'ab'.translate({97: 'x'}) }} "
            "{{ [1, 2] | sum }} {{ [[1], [2]] | sum(start=[]) }} {{ 'a\tb'.expandtabs(4) }} "
            "{{ [{'n': 2}, {'n': 3}] | sum(attribute='n') }} {{ 7 % 4 }} {{ (1).to_bytes(2, 'big') }}"
        )
        assert render(source).split(" ", 1)[1] == (
            "user 007 1-2    1z 1 2 xb 3 [1, 2] a   b 5 3 b'\\x00\\x01'"
        )

    def test_tools_and_documents_and_kwargs_are_variables(self) -> None:
        source = "{{ tools[0].function.name }} {{ documents[0].title }} {{ style }} {{ reasoning_effort }}"
        text = render(
            source,
            tools=[{"type": "function", "function": {"name": "f"}}],
            documents=[{"title": "t"}],
            template_kwargs={"style": "brief"},
            reasoning_effort="low",
        )
        assert text == "f t brief low"

    def test_no_tools_and_an_empty_list_of_tools_are_the_same(self) -> None:
        assert render("{{ tools is none }}", tools=[]) == render("{{ tools is none }}") == "True"

    def test_thinking_switched_off_is_said_in_every_spelling(self) -> None:
        source = "{{ enable_thinking }} {{ thinking }} {{ thinking_mode }}"
        assert render(source, template_kwargs={"enable_thinking": False}) == "False False disabled"

    def test_nothing_the_caller_passed_is_changed(self) -> None:
        message = {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}],
            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
        }
        before = json.dumps(message)
        render("{{ messages }}", message, continue_final_message=True)
        assert json.dumps(message) == before


class TestGenerationPrompt:
    def test_is_added_after_a_user_message(self) -> None:
        assert render(CHATML).endswith("<|assistant|>")

    def test_is_not_added_after_an_assistant_message(self) -> None:
        text = render(CHATML, USER, {"role": "assistant", "content": "yo"})
        assert text == "<|user|>hi<|end|>\n<|assistant|>yo<|end|>\n"

    def test_can_be_asked_for_and_refused(self) -> None:
        assert render(CHATML, add_generation_prompt=False).endswith("<|end|>\n")
        answer = {"role": "assistant", "content": "yo"}
        assert render(CHATML, answer, add_generation_prompt=True).endswith("<|assistant|>")


class TestContinuedMessage:
    def test_the_prompt_ends_where_the_message_does(self) -> None:
        text = render(CHATML, USER, ANSWER, continue_final_message=True)
        assert text == "<|user|>hi<|end|>\n<|assistant|>It is "

    def test_a_template_that_trims_trims_the_end_too(self) -> None:
        source = "{% for m in messages %}{{ m.content | trim }};{% endfor %}"
        assert render(source, ANSWER, continue_final_message=True) == "It is"

    def test_the_last_text_part_is_continued(self) -> None:
        source = "{% for p in messages[0].content %}{{ p.text }}{% if p.type == 'image' %}I{% endif %}{% endfor %}"
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]
        message = {"role": "assistant", "content": parts}
        assert render(source, message, continue_final_message=True) == "a"

    def test_a_message_shown_twice_is_continued_at_the_second(self) -> None:
        source = "{{ messages[0].content }}|{{ messages[0].content }}|"
        assert render(source, ANSWER, continue_final_message=True) == "It is |It is "

    def test_contradicts_a_generation_prompt(self) -> None:
        with pytest.raises(InvalidArgument, match="cannot both be true"):
            render(CHATML, ANSWER, continue_final_message=True, add_generation_prompt=True)

    def test_needs_a_text_to_continue(self) -> None:
        with pytest.raises(InvalidArgument, match="with text in its content"):
            render(CHATML, {"role": "assistant", "content": None}, continue_final_message=True)

    def test_needs_a_template_that_shows_it(self) -> None:
        with pytest.raises(InvalidArgument, match="does not show the final message"):
            render("nothing", ANSWER, continue_final_message=True)

    def test_needs_a_template_that_shows_all_of_it(self) -> None:
        source = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
        message = {"role": "assistant", "content": "<think>why</think>so"}
        with pytest.raises(InvalidArgument, match="not all of it"):
            render(source, message, continue_final_message=True)


class TestContent:
    def test_text_parts_are_joined_by_newlines(self) -> None:
        assert render("{{ messages[0].content }}", PARTS) == "a\nb"

    def test_a_template_that_wants_arrays_gets_arrays(self) -> None:
        assert render(WANTS_ARRAYS, PARTS) == "text=a;text=b;"
        assert render(WANTS_ARRAYS) == "text=hi;"

    def test_a_template_that_knows_both_gets_what_was_sent(self) -> None:
        assert render(KNOWS_BOTH, PARTS) == "part a|part b|"
        assert render(KNOWS_BOTH) == "text hi|"

    @pytest.mark.parametrize("filter_", ["tojson", "string", "pprint", "string | upper"])
    def test_a_list_printed_as_it_is_does_not_count_as_known(self, filter_: str) -> None:
        source = "{{ messages[0].content | " + filter_ + " }}"
        assert "{" not in render(source, PARTS)

    def test_media_keep_their_place_and_lose_their_bytes(self) -> None:
        assert render("{{ messages[0].content }}", IMAGE) == (
            "[{'type': 'text', 'text': 'a'}, {'type': 'image'}]"
        )

    def test_arguments_of_tool_calls_become_objects(self) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1]}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        source = "{{ messages[0].tool_calls[0].function.arguments.x[0] }}"
        assert render(source, message) == "1"

    def test_arguments_that_are_not_json_stay_text(self) -> None:
        call = {"function": {"name": "f", "arguments": "{oops"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert render("{{ messages[0].tool_calls[0].function.arguments }}", message) == "{oops"

    def test_nulls_are_as_good_as_missing(self) -> None:
        message = {"role": "assistant", "content": None, "name": None}
        assert render("{{ messages[0] }}{{ messages[0].content }}", message) == (
            "{'role': 'assistant'}"
        )

    def test_incomplete_tools_are_completed(self) -> None:
        text = render("{{ tools | tojson }}", tools=[{"function": {"name": "f"}}])
        assert json.loads(text) == [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ]

    def test_the_keys_of_tools_keep_their_order(self) -> None:
        tool = {
            "function": {
                "parameters": {"properties": {"x": {}}, "type": "object"},
                "strict": True,
                "description": "d",
                "name": "f",
            },
            "type": "function",
        }
        assert render("{{ tools | tojson }}", tools=[tool]) == json.dumps([tool])

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
    def test_reasoning_is_found_under_each_name(self, name: str) -> None:
        message = {"role": "assistant", "content": "x", name: "why"}
        source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}"
        assert render(source, message) == "whywhy"

    def test_a_message_without_a_role_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match=r"messages\[1\]"):
            render(CHATML, USER, {"content": "x"})


class TestNamedTemplates:
    def test_tool_use_is_for_requests_with_tools(self) -> None:
        made = ChatTemplate(find_template_sources({"chat_template": LIST}, None), {})
        assert made.names == ("default", "tool_use")
        assert made.render(Conversation(messages=[USER])) == "D"
        assert made.render(Conversation(messages=[USER], tools=TOOLS)) == "T"
        assert made.render(Conversation(messages=[USER], tools=[])) == "D"

    def test_a_single_template_is_for_both(self) -> None:
        made = ChatTemplate(find_template_sources({"chat_template": "S"}, None), {})
        assert made.render(Conversation(messages=[USER], tools=TOOLS)) == "S"

    def test_no_default_is_said(self) -> None:
        made = ChatTemplate({"rag": "R"}, {})
        with pytest.raises(InvalidArgument, match="no default chat template, only rag"):
            made.render(Conversation(messages=[USER]))


class TestSources:
    def test_none_is_a_state_not_a_failure(self) -> None:
        assert find_template_sources({}, None) == {}

    def test_a_file_takes_precedence(self, tmp_path: Path) -> None:
        path = tmp_path / "chat_template.jinja"
        path.write_text("from the file")
        assert find_template_sources({"chat_template": "x"}, path) == {"default": "from the file"}

    def test_a_json_file_holds_it_under_its_key(self, tmp_path: Path) -> None:
        path = tmp_path / "chat_template.json"
        path.write_text(json.dumps({"chat_template": LIST}))
        assert find_template_sources({}, path) == {"default": "D", "tool_use": "T"}

    @pytest.mark.parametrize("value", [7, {"default": "x"}, [], ["x"], [{"name": "x"}]])
    def test_what_is_no_template_is_refused(self, value: object) -> None:
        with pytest.raises(CardError, match=r"tokenizer_config\.json is neither"):
            find_template_sources({"chat_template": value}, None)

    def test_special_tokens_may_be_objects_or_come_from_the_map(self) -> None:
        found = special_tokens_of(
            {
                "bos_token": {"content": "<s>", "lstrip": False},
                "eos_token": "</s>",
                "pad_token": None,
            },
            {"unk_token": {"content": "<unk>"}, "eos_token": "ignored"},
        )
        assert found == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class TestErrors:
    def test_what_the_template_raises_reaches_the_client(self) -> None:
        with pytest.raises(InvalidArgument) as caught:
            render("{{ raise_exception('roles must alternate') }}")
        assert caught.value.message == "roles must alternate"

    def test_a_template_that_fails_says_why(self) -> None:
        with pytest.raises(InvalidArgument, match="has no attribute 'nope'"):
            render("{{ messages[0].nope.deeper }}")

    def test_a_template_that_does_not_compile_names_the_line(self) -> None:
        with pytest.raises(CardError, match="line 2"):
            template("ok\n{% if %}")

    def test_a_template_nested_too_deeply_is_refused(self) -> None:
        with pytest.raises(CardError, match="does not compile"):
            template("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}")

    def test_a_huge_template_is_refused(self) -> None:
        with pytest.raises(CardError, match="larger than"):
            template("x" * ((1 << 20) + 1))

    @pytest.mark.parametrize(
        "source",
        [
            "{{ ''.__class__.__mro__ }}",
            "{{ messages.append(1) }}",
            "{{ dict.fromkeys.__globals__.x }}",
            "{% set ns = namespace(__class__=1) %}",
            "{% include 'x' %}",
            "{{ lipsum() }}",
        ],
    )
    def test_the_sandbox_holds(self, source: str) -> None:
        with pytest.raises(InvalidArgument):
            render(source)


DOUBLE = "{% set ns = namespace(x='ab') %}{% for i in range(64) %}{% set ns.x = EXPR %}{% endfor %}"
NEST = "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for a in MANY %}{% for b in MANY %}{% endfor %}{% endfor %}", "did not finish"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
            "did not finish",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{% for a in MANY recursive %}{{ loop(MANY) }}{% endfor %}", "calls itself without end"),
        ("{% for a in MANY %}{{ 'x' * 1000 }}{% endfor %}", "characters"),
        (
            "{% set x %}{% for a in MANY %}" + "y" * 9000 + "{% endfor %}{% endset %}",
            "too much text",
        ),
        ("{% set x %}{% for a in MANY %}{{ 'y' * 9000 }}{% endfor %}{% endset %}", "too much text"),
        ("{{ 'x' * 10**12 }}", "too large"),
        ("{{ 10**12 * 'x' }}", "too large"),
        ("{{ [1] * 10**12 }}", "too large"),
        ("{{ 10 ** (10 ** 10) }}", "too large"),
        ("{{ 'x' | center(10**11) }}", "too large"),
        ("{{ 'x' | indent(10**11) }}", "too large"),
        ("{{ [1] | batch(10**11, 0) | list }}", "too large"),
        ("{{ [1] | slice(10**11) | list }}", "too large"),
        ("{{ 'x'.rjust(10**11) }}", "too large"),
        ("{{ [1] | tojson(indent=10**11) }}", "too large"),
        (DOUBLE.replace("EXPR", "ns.x + ns.x"), "too large"),
        (DOUBLE.replace("EXPR", "ns.x ~ ns.x"), "too large"),
        (DOUBLE.replace("EXPR", "ns.x | replace('a', ns.x)"), "too large"),
        (DOUBLE.replace("EXPR", "ns.x.replace('a', ns.x)"), "too large"),
        (DOUBLE.replace("EXPR", "[ns.x, ns.x] | join(ns.x)"), "too large"),
        (DOUBLE.replace("EXPR", "ns.x.join([ns.x, ns.x])"), "too large"),
        ("{{ '%99999999999d' % 1 }}", "too large"),
        ("{{ '%*d' % (10**11, 1) }}", "too large"),
        ("{{ '%.99999999999f' | format(1.5) }}", "too large"),
        ("{{ '{:99999999999}'.format(1) }}", "too large"),
        ("{{ '{:{}}'.format(1, 10**11) }}", "too large"),
        ("{{ '{a:99999999999}'.format_map({'a': 1}) }}", "too large"),
        ("{{ '{:{}}'.format(1, 10**" + "9" * 4 + ") }}", "too large"),
        ("{{ ('x' | escape).ljust(10**11) }}", "too large"),
        ("{{ 'x'.encode().ljust(10**11) }}", "too large"),
        ("{{ 'a\tb'.expandtabs(10**11) }}", "too large"),
        ("{{ (1).to_bytes(10**11, 'big') }}", "too large"),
        ("{{ ('x' * 9999).translate({120: 'y' * 9999}) }}", "too large"),
        ("{{ ([[1] * 9999] * 9999) | sum(start=[]) | length }}", "too large"),
        (NEST + "{{ ns.x }}", "too large"),
        (NEST + "{{ ns.x | tojson }}", "too large"),
        (NEST + "{{ ns.x ~ '' }}", "too large"),
    ],
)
def test_a_template_without_end_is_cut_off(source: str, reason: str) -> None:
    made = template(
        source.replace("MANY", MANY), limits=TemplateLimits(time_s=0.3, characters=1 << 20)
    )
    started = time.monotonic()
    with pytest.raises(InvalidArgument, match=reason):
        made.render(Conversation(messages=[USER]))
    assert time.monotonic() - started < 5


def test_a_client_cannot_take_the_budget_away() -> None:
    made = template(
        "{% for a in MANY %}{% for b in MANY %}{% endfor %}{% endfor %}".replace("MANY", MANY),
        limits=TemplateLimits(time_s=0.2),
    )
    with pytest.raises(InvalidArgument, match="did not finish"):
        made.render(Conversation(messages=[USER], template_kwargs={"muster_budget": None}))


def test_a_long_conversation_stays_within_the_limits() -> None:
    messages = [{"role": "user", "content": "x" * 1000}] * 5000
    assert len(render(CHATML, *messages)) > 5_000_000
