"""Chat templates: from a conversation to the text of a prompt, as Hugging Face ``transformers`` does it.

``ChatTemplate`` compiles once; rendering takes some tens of microseconds for a short conversation,
and at most the time limit for a hostile template (what is bounded, and what is not, is listed in
``muster.llm.sandbox``). Rendering is synchronous: a caller on an event loop renders long
conversations in a thread.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import jinja2

from muster.clock import SYSTEM_CLOCK, Clock
from muster.errors import CardError, InvalidArgument
from muster.llm.conversation import (
    CallForm,
    ContentForm,
    Conversation,
    Message,
    complete_tools,
    normalize_messages,
    template_options,
)
from muster.llm.sandbox.budget import Budget, TemplateCutOff, TemplateLimits
from muster.llm.sandbox.environment import TemplateEnvironment
from muster.llm.sandbox.instrument import BUDGET
from muster.llm.sandbox.offers import RaisedByTemplate
from muster.llm.template_sources import DEFAULT, MAX_TEMPLATE_BYTES

__all__ = ["ChatTemplate", "TemplateLimits"]

logger = logging.getLogger(__name__)

_TOOL_USE = "tool_use"

# The trailing space shows whether the template trims the message's text.
_CONTINUE = "{muster:continue-here} "

_PROBE = "muster-probe"

_TELLS_TEXT = re.compile(r"\barguments['\"\]]*\s+is\s+(?:not\s+)?string\b")
"""A template that asks whether a call's arguments are text."""

_NOTATION = re.compile(rf"""['"]text\\?['"]: *\\?['"]{_PROBE}""")
"""A part printed as Python or JSON writes it, rather than its text."""


class ChatTemplate:
    """A model's compiled chat template, or its several named ones.

    With tools, the one named ``tool_use`` is used if there is one, else ``default``; others are never
    used, nor compiled. Whether a template wants message contents as texts, as lists of parts or as
    either is found out by rendering a message each way. The arguments of calls stay the text they
    came as where a template asks for that or cannot do without: what a model wrote is then in the
    next prompt as it was.

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
            for name in (DEFAULT, _TOOL_USE)
            if name in sources
        }
        self._forms = {name: self._form(template) for name, template in self._templates.items()}
        self._calls = {
            name: self._call_form(template, sources[name])
            for name, template in self._templates.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all templates the model has, also of those that are never used."""
        return self._names

    def content_form(self, *, with_tools: bool = False) -> ContentForm:
        """In which form the template wants the contents of messages.

        Raises:
            InvalidArgument: If there is no template for such requests.
        """
        return self._forms[self._choose(with_tools=with_tools)]

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
            conversation.messages,
            form=self._forms[name],
            calls=self._calls[name],
        )
        continued = _mark_end(messages) if conversation.continue_final_message else None
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
        return text if continued is None else _cut_at_mark(text, continued)

    def _choose(self, *, with_tools: bool) -> str:
        if with_tools and _TOOL_USE in self._templates:
            return _TOOL_USE
        if DEFAULT in self._templates:
            return DEFAULT
        raise InvalidArgument(
            f"the model has no default chat template, only {', '.join(self._names)}"
        )

    def _render(self, template: jinja2.Template, variables: dict[str, Any]) -> str:
        # last, so that no client's variable takes its place
        variables[BUDGET] = Budget(self._limits)
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

    def _form(self, template: jinja2.Template) -> ContentForm:
        listed = self._try(template, {"content": [{"type": "text", "text": _PROBE}]})
        plain = self._try(template, {"content": _PROBE})
        if _PROBE not in listed:
            return ContentForm.TEXT
        if _PROBE not in plain:
            return ContentForm.PARTS
        return ContentForm.TEXT if _NOTATION.search(listed) else ContentForm.EITHER

    def _call_form(self, template: jinja2.Template, source: str) -> CallForm:
        """How messages must be for the template to show their calls."""
        as_object, as_text = {"a": _PROBE}, f'{{"a": "{_PROBE}"}}'
        tells = _TELLS_TEXT.search(source) is not None
        for null in (False, True):
            content = {"content": None} if null else {}
            if self._shows_call(template, as_object, content):
                return CallForm(text_arguments=tells, null_content=null)
            if self._shows_call(template, as_text, content):
                return CallForm(text_arguments=True, null_content=null)
        return CallForm(text_arguments=tells)

    def _shows_call(
        self, template: jinja2.Template, arguments: object, content: dict[str, None]
    ) -> bool:
        function = {"name": "f", "arguments": arguments}
        call = {"id": "call00001", "type": "function", "function": function}
        question = {"role": "user", "content": "?"}
        answer = {"role": "assistant", "tool_calls": [call], **content}
        return _PROBE in self._try(template, question, answer)

    def _try(self, template: jinja2.Template, *messages: dict[str, Any]) -> str:
        """What the template makes of messages, of the user if they do not say; empty if it refuses."""
        variables = {
            **self._special_tokens,
            "messages": [{"role": "user", **message} for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
        }
        try:
            return self._render(template, variables)
        except InvalidArgument:
            return ""


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


def _mark_end(messages: list[Message]) -> str:
    """Put a mark after the last message's text, and return it; the messages are our own copies."""
    if not messages:
        raise InvalidArgument("continue_final_message needs a message to continue")
    message = messages[-1]
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + _CONTINUE
        return content
    parts = content if isinstance(content, list) else []
    for position in reversed(range(len(parts))):
        if "text" in parts[position]:
            last = str(parts[position]["text"])
            marked = {**parts[position], "text": last + _CONTINUE}
            message["content"] = [*parts[:position], marked, *parts[position + 1 :]]
            return last
    raise InvalidArgument("continue_final_message needs a last message with text in its content")


def _cut_at_mark(text: str, continued: str) -> str:
    end = text.rfind(_CONTINUE.strip())
    if end < 0 or continued.strip() not in text:
        raise InvalidArgument(
            "the chat template does not show the final message to be continued, or not all of it"
        )
    # If the space after the mark is gone, the template trims, and would have trimmed the text too.
    prompt = text[:end] if text.startswith(_CONTINUE, end) else text[:end].rstrip()
    # A template may show the message earlier as well.
    return prompt.replace(_CONTINUE, "").replace(_CONTINUE.strip(), "")
