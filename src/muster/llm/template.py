"""Chat templates: from a conversation to the text of a prompt, as Hugging Face ``transformers`` does it.

``ChatTemplate`` compiles once; rendering takes some tens of microseconds for a short conversation,
and at most the time limit for a hostile template (what is bounded, and what is not, is listed in
``muster.llm.sandbox``). Rendering is synchronous: a caller on an event loop renders long
conversations in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from muster.clock import SYSTEM_CLOCK, Clock
from muster.errors import CardError, InvalidArgument
from muster.llm.conversation import (
    Conversation,
    Message,
    complete_tools,
    normalize_messages,
    template_options,
)
from muster.llm.generation import special_token_text
from muster.llm.json_file import read_json_object, read_text
from muster.llm.sandbox import (
    Budget,
    RaisedByTemplate,
    TemplateCutOff,
    TemplateEnvironment,
    TemplateLimits,
)

__all__ = ["ChatTemplate", "TemplateLimits", "find_template_sources", "special_tokens_of"]

logger = logging.getLogger(__name__)

MAX_TEMPLATE_BYTES = 1 << 20
"""Larger templates are refused; the largest published ones have some tens of kilobytes."""

_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

_DEFAULT, _TOOL_USE = "default", "tool_use"

# The trailing space shows whether the template trims the message's text.
_CONTINUE = "{muster:continue-here} "

_PROBE = "muster-probe"

TemplateSources = dict[str, str]
"""Template texts by name; a single template is called ``default``."""


def special_tokens_of(
    tokenizer_config: Mapping[str, Any], special_tokens_map: Mapping[str, Any]
) -> dict[str, str]:
    """The special tokens a template sees (``bos_token``, ...), without those nobody defines."""
    found = {
        name: special_token_text(tokenizer_config.get(name))
        or special_token_text(special_tokens_map.get(name))
        for name in _SPECIAL_TOKENS
    }
    return {name: text for name, text in found.items() if text is not None}


def find_template_sources(
    tokenizer_config: Mapping[str, Any], template_file: Path | None
) -> TemplateSources:
    """The templates a model comes with; empty if it has none (then it serves completions only).

    Args:
        tokenizer_config: The parsed tokenizer_config.json; its ``chat_template`` is a text, or a list
            of ``{"name", "template"}``.
        template_file: A chat_template.jinja, a chat_template.json, or a custom template (Jinja text
            unless it is called ``*.json``). Takes precedence.

    Raises:
        CardError: If the file cannot be read, or what is found is no template; says which file.
    """
    if template_file is None:
        return _named(tokenizer_config.get("chat_template"), "tokenizer_config.json")
    if template_file.suffix == ".json":
        return _named(read_json_object(template_file).get("chat_template"), str(template_file))
    return {_DEFAULT: read_text(template_file, max_bytes=MAX_TEMPLATE_BYTES)}


def _named(value: object, where: str) -> TemplateSources:
    if value is None:
        return {}
    if isinstance(value, str):
        return {_DEFAULT: value}
    entries = value if isinstance(value, list) else []
    sources = {
        str(entry["name"]): str(entry["template"])
        for entry in entries
        if isinstance(entry, dict) and {"name", "template"} <= entry.keys()
    }
    if not sources or len(sources) != len(entries):
        raise CardError(
            f"the chat_template in {where} is neither a text nor a list of named templates"
        )
    return sources


class ChatTemplate:
    """A model's compiled chat template, or its several named ones.

    With tools, the one named ``tool_use`` is used if there is one, else ``default``; others are never
    used, nor compiled. Whether a
    template wants message contents as lists of parts is found out by rendering a message each way:
    it does if the text comes through as a list and not as a text.

    Args:
        sources: Template texts by name, not empty.
        special_tokens: What ``bos_token`` and its kin mean in the templates.
        limits: How far one rendering may go.
        clock: What ``strftime_now`` reads.

    Raises:
        CardError: If a template is too large or does not compile; the message names the line.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        special_tokens: Mapping[str, str],
        *,
        limits: TemplateLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._limits = limits or TemplateLimits()
        self._special_tokens = dict(special_tokens)
        environment = TemplateEnvironment(self._limits, clock)
        self._names = tuple(sources)
        self._templates = {
            name: _compile(environment, name, sources[name])
            for name in (_DEFAULT, _TOOL_USE)
            if name in sources
        }
        self._content_arrays = {
            name: self._wants_arrays(template) for name, template in self._templates.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all templates the model has, also of those that are never used."""
        return self._names

    def render(self, conversation: Conversation) -> str:
        """The prompt for a conversation.

        Raises:
            InvalidArgument: If the template refuses (the message is its own text), cannot cope with
                these messages, or is cut off at a limit.
        """
        add_generation_prompt = conversation.wants_generation_prompt()
        tools = complete_tools(conversation.tools)
        name = self._choose(with_tools=tools is not None)
        messages = normalize_messages(
            conversation.messages, content_arrays=self._content_arrays[name]
        )
        if conversation.continue_final_message:
            _mark_end(messages)
        documents = conversation.documents
        text = self._render(
            self._templates[name],
            {
                **self._special_tokens,
                "messages": messages,
                "tools": tools,
                "documents": None if documents is None else [dict(one) for one in documents],
                "add_generation_prompt": add_generation_prompt,
                **template_options(conversation),
            },
        )
        return _cut_at_mark(text) if conversation.continue_final_message else text

    def _choose(self, *, with_tools: bool) -> str:
        if with_tools and _TOOL_USE in self._templates:
            return _TOOL_USE
        if _DEFAULT in self._templates:
            return _DEFAULT
        raise InvalidArgument(
            f"the model has no default chat template, only {', '.join(self._names)}"
        )

    def _render(self, template: jinja2.Template, variables: dict[str, Any]) -> str:
        # last, so that no client's variable takes its place
        variables["muster_budget"] = Budget(self._limits)
        try:
            return self._collect(template, variables)
        except RaisedByTemplate as error:
            raise InvalidArgument(str(error)) from error
        except TemplateCutOff as error:
            logger.warning("%s", error)
            raise InvalidArgument(
                str(error), hint="shorten the conversation, or repair the model's chat template"
            ) from error
        except RecursionError as error:
            raise InvalidArgument("the chat template calls itself without end") from error
        except Exception as error:
            # A template is a program: whatever Python raises in it is about these messages.
            raise InvalidArgument(
                f"the chat template cannot render these messages: {error}"
            ) from error

    def _collect(self, template: jinja2.Template, variables: dict[str, Any]) -> str:
        left = self._limits.characters
        pieces = []
        for piece in template.generate(variables):
            left -= len(piece)
            if left < 0:
                raise TemplateCutOff(
                    f"the prompt has more than {self._limits.characters} characters"
                )
            pieces.append(piece)
        return "".join(pieces)

    def _wants_arrays(self, template: jinja2.Template) -> bool:
        return self._shows_probe(
            template, [{"type": "text", "text": _PROBE}]
        ) and not self._shows_probe(template, _PROBE)

    def _shows_probe(self, template: jinja2.Template, content: object) -> bool:
        variables = {
            **self._special_tokens,
            "messages": [{"role": "user", "content": content}],
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
        }
        try:
            return _PROBE in self._render(template, variables)
        except InvalidArgument:
            return False


def _compile(environment: TemplateEnvironment, name: str, source: str) -> jinja2.Template:
    if len(source) > MAX_TEMPLATE_BYTES:
        raise CardError(
            f"the chat template {name!r} is larger than {MAX_TEMPLATE_BYTES} characters"
        )
    try:
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise CardError(
            f"the chat template {name!r} does not compile: {error.message} (line {error.lineno})"
        ) from error
    except Exception as error:
        # Jinja leaves the rest to Python: nesting too deep, numbers too long, ...
        raise CardError(f"the chat template {name!r} does not compile: {error}") from error
    # Jinja chains them to the environment's, in case those change, and walks the chain at every
    # rendering: that was half of a short one's cost. They do not change here.
    template.globals = dict(template.globals)
    return template


def _mark_end(messages: list[Message]) -> None:
    """Put a mark after the last message's text; the messages are our own copies."""
    if not messages:
        raise InvalidArgument("continue_final_message needs a message to continue")
    message = messages[-1]
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + _CONTINUE
        return
    parts = content if isinstance(content, list) else []
    for position in reversed(range(len(parts))):
        if "text" in parts[position]:
            marked = {**parts[position], "text": parts[position]["text"] + _CONTINUE}
            message["content"] = [*parts[:position], marked, *parts[position + 1 :]]
            return
    raise InvalidArgument("continue_final_message needs a last message with text in its content")


def _cut_at_mark(text: str) -> str:
    end = text.rfind(_CONTINUE.strip())
    if end < 0:
        raise InvalidArgument("the chat template does not show the final message to be continued")
    # If the space after the mark is gone, the template trims, and would have trimmed the text too.
    prompt = text[:end] if text.startswith(_CONTINUE, end) else text[:end].rstrip()
    # A template may show the message earlier as well.
    return prompt.replace(_CONTINUE, "").replace(_CONTINUE.strip(), "")
