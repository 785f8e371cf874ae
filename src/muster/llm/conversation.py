"""A conversation as the API received it, and as a chat template wants it.

Pure functions on JSON values: messages stay plain objects because templates, which belong to
models, decide which keys exist. Nothing the caller passed in is changed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.errors import InvalidArgument

__all__ = [
    "USUAL_CALLS",
    "CallForm",
    "ContentForm",
    "Conversation",
    "Message",
    "complete_tools",
    "normalize_messages",
    "template_options",
]

Message = dict[str, Any]

_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "video_url": "video",
    "audio_url": "audio",
    "input_audio": "audio",
}
"""Content parts that only hold a place in the prompt; what they hold travels beside it."""

_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")


class ContentForm(enum.Enum):
    """What a template makes of a message's content.

    * ``TEXT``: it shows texts; of a list it would print Python's notation. A list of text parts
      becomes one text, joined with newlines; a list with other parts stays one.
    * ``PARTS``: it shows lists of parts only. A text becomes a list of one part.
    * ``EITHER``: it knows both, and gets what was sent.
    """

    TEXT = "text"
    PARTS = "parts"
    EITHER = "either"


class CallForm(msgspec.Struct, frozen=True):
    """What a template wants of an assistant's message that calls functions.

    Attributes:
        text_arguments: The arguments as the text they came as. Else they become objects.
        null_content: A content that is null, where there is no text: it shows calls only then.
    """

    text_arguments: bool = False
    null_content: bool = False


USUAL_CALLS = CallForm()
"""What nearly all templates want."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat template renders.

    Attributes:
        messages: OpenAI messages, as JSON objects.
        tools: OpenAI tools, as JSON objects; none is the same as an empty list.
        documents: Documents for retrieval templates, as JSON objects.
        add_generation_prompt: Whether to end with the beginning of an answer. ``None``: yes, unless
            the last message is the assistant's or is to be continued.
        continue_final_message: Whether the reply continues the last message: the prompt then ends
            where that message's text ends.
        reasoning_effort: Passed to the template when set.
        template_kwargs: Further variables for the template; they override all others.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    reasoning_effort: str | None = None
    template_kwargs: Mapping[str, Any] = {}

    def wants_generation_prompt(self) -> bool:
        """Resolve ``add_generation_prompt``.

        Raises:
            InvalidArgument: If it is asked for together with ``continue_final_message``.
        """
        if self.continue_final_message:
            if self.add_generation_prompt:
                raise InvalidArgument(
                    "add_generation_prompt and continue_final_message cannot both be true"
                )
            return False
        if self.add_generation_prompt is not None:
            return self.add_generation_prompt
        return not self.messages or self.messages[-1].get("role") != "assistant"


def template_options(conversation: Conversation) -> dict[str, Any]:
    """The variables a client set for the template.

    ``enable_thinking: false`` is said in the other two ways models know as well, unless the client
    said those itself.
    """
    options = dict(conversation.template_kwargs)
    if options.get("enable_thinking") is False:
        options.setdefault("thinking", False)
        options.setdefault("thinking_mode", "disabled")
    if conversation.reasoning_effort is not None:
        options.setdefault("reasoning_effort", conversation.reasoning_effort)
    return options


def complete_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Fill in what tools may lack but templates read without asking; ``None`` for no tools.

    Dynamo fills in the same.
    """
    return [_complete_tool(tool) for tool in tools] if tools else None


def _complete_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """What is missing comes last: templates print tools, in the order of their keys."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)
    parameters = function.get("parameters")
    schema = dict(parameters) if isinstance(parameters, Mapping) else {}
    schema = {**({} if "type" in schema else {"type": "object"}), **schema}
    schema.setdefault("properties", {})
    whole = {
        **function,
        "description": function.get("description") or "",
        "parameters": schema,
    }
    return {**({} if "type" in tool else {"type": "function"}), **tool, "function": whole}


def normalize_messages(
    messages: Sequence[Mapping[str, Any]], *, form: ContentForm, calls: CallForm = USUAL_CALLS
) -> list[Message]:
    """The messages in the form the template expects: copies, without keys whose value is null.

    Args:
        messages: As the API received them.
        form: What the template wants. In lists, media are reduced to their kind.
        calls: What it wants of messages that call functions.

    Raises:
        InvalidArgument: If a message is not an object with a ``role``, or its ``tool_calls`` are no
            list; the message says which.
    """
    return [_normalize(message, position, form, calls) for position, message in enumerate(messages)]


def _normalize(message: object, position: int, form: ContentForm, call_form: CallForm) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidArgument(f"messages[{position}] is not an object with a role")
    # as transformers does: templates handle a missing key, and print a null as "None"
    out = {key: value for key, value in message.items() if value is not None}
    content = out.get("content")
    if isinstance(content, list):
        out["content"] = _parts(content, form)
    elif form is ContentForm.PARTS and isinstance(content, str):
        out["content"] = [{"type": "text", "text": content}]
    if calls := out.get("tool_calls"):
        if not isinstance(calls, list):
            raise InvalidArgument(f"messages[{position}].tool_calls is not a list")
        if call_form.null_content and not content:
            out["content"] = None
        if not call_form.text_arguments:
            out["tool_calls"] = [_parse_arguments(call) for call in calls]
    reasoning = next((out[key] for key in _REASONING_KEYS if key in out), None)
    if reasoning is not None:
        # templates read one name or the other for the same thing
        out = {"thinking": reasoning, **out, "reasoning_content": reasoning}
    return out


def _parts(content: list[Any], form: ContentForm) -> str | list[Any]:
    parts = [_part(part) for part in content]
    texts = [part["text"] for part in parts if isinstance(part, dict) and part["type"] == "text"]
    if form is not ContentForm.TEXT or len(texts) != len(parts):
        return parts
    return "\n".join(texts)


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise InvalidArgument("a content part is not an object")
    kind = part.get("type")
    if kind in _MEDIA:
        return {"type": _MEDIA[str(kind)]}
    text = part.get("refusal") if kind == "refusal" else part.get("text")
    if isinstance(text, str):
        return {**part, "type": "text", "text": text}
    return {**part, "type": kind if isinstance(kind, str) and kind != "text" else "unknown"}


def _parse_arguments(call: Any) -> Any:
    """OpenAI sends a call's arguments as JSON text; templates want the object."""
    if not isinstance(call, Mapping) or not isinstance(function := call.get("function"), Mapping):
        return call
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        parsed = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": parsed}}
