"""Tools of a chat request: are they sound, what is the engine asked, how is the reply read. Pure."""

from __future__ import annotations

from typing import Any

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import ChatRequest
from muster.frontend.served_model import ServedModel
from muster.llm.protocol import GuidedDecoding
from muster.llm.tool_calls.reply_parser import ReplyFormat

__all__ = ["check_tools", "forced_call_grammar", "named_tool", "reply_format"]

MAX_NAME = 128
"""Longest name of a function; OpenAI's bound is 64, Dynamo's this."""

_CHOICES = frozenset({"none", "auto", "required"})
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_PLAIN = ReplyFormat()


def _fail(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, slug="invalid_value")


def check_tools(request: ChatRequest) -> None:
    """Check ``tools`` and ``tool_choice``.

    Raises:
        ApiError: 400 if a function has no usable name, or the choice cannot be met.
    """
    if request.tools is None and request.tool_choice is None:
        return
    names = [_name(tool, f"tools[{at}]") for at, tool in enumerate(request.tools or ())]
    choice = request.tool_choice
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise _fail(
                "tool_choice",
                "tool_choice must be none, auto, required or the name of a function in an object, "
                f"got {choice!r}",
            )
        if choice == "required" and not names:
            raise _fail("tool_choice", "tool_choice is required, and there are no tools")
    elif choice is not None:
        named = named_tool(request)
        if named is None:
            raise _fail("tool_choice", "tool_choice must name a function: function.name is missing")
        if named not in names:
            raise _fail("tool_choice", f"tool_choice names {named!r}, which is not among the tools")


def _name(tool: dict[str, Any], where: str) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise _fail(where, f"{where}: function.name is missing")
    if len(name) > MAX_NAME:
        raise _fail(
            f"{where}.function.name",
            f"{where}: the name of a function may have {MAX_NAME} characters, got {len(name)}",
        )
    return name


def named_tool(request: ChatRequest) -> str | None:
    """The one function that must be called, if the client names one."""
    choice = request.tool_choice
    if not isinstance(choice, dict):
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def reply_format(request: ChatRequest, model: ServedModel) -> ReplyFormat:
    """How the replies to ``request`` are read.

    ``parallel_tool_calls: false`` keeps the first call of a reply and drops the others, as clients
    that ask for it can do nothing with them.
    """
    calls, reasoning = model.tool_call_parser, model.reasoning_parser
    guided = reasoning is not None and _is_json(request)
    if not request.tools or request.tool_choice == "none":
        if calls is None and reasoning is None:
            return _PLAIN
        # The format of calls may be that of everything else, too.
        return ReplyFormat(tool_call_parser=calls, reasoning_parser=reasoning, guided=guided)
    return ReplyFormat(
        tool_call_parser=calls,
        reasoning_parser=reasoning,
        tools=request.tools,
        required=request.tool_choice == "required",
        named=named_tool(request),
        parallel=request.parallel_tool_calls is not False,
        guided=guided,
    )


def _is_json(request: ChatRequest) -> bool:
    """Whether the engine may write nothing but JSON, once it has thought."""
    if request.guided_json is not None:
        return True
    form, outputs = request.response_format, request.structured_outputs
    if form is not None and form.get("type") in ("json_object", "json_schema"):
        return True
    return outputs is not None and bool(outputs.get("json") or outputs.get("json_object"))


def forced_call_grammar(request: ChatRequest) -> GuidedDecoding | None:
    """What the engine may generate for a ``tool_choice`` that demands a call; else ``None``.

    The request has been checked. The schemas are Dynamo 1.6.1's: the arguments of a named function, or an array of calls.
    """
    tools = [tool["function"] for tool in request.tools or ()]
    named = named_tool(request)
    if named is not None:
        found = [each for each in tools if each["name"] == named]
        return GuidedDecoding(json=_parameters(found[0]))
    if request.tool_choice != "required":
        return None
    definitions: dict[str, Any] = {}
    options = [_call_schema(function, definitions) for function in tools]
    schema: dict[str, Any] = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "anyOf": options},
    }
    if request.parallel_tool_calls is False:
        schema["maxItems"] = 1
    if definitions:
        schema["$defs"] = definitions
    return GuidedDecoding(json=schema)


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    return parameters if isinstance(parameters, dict) else _NO_PARAMETERS


def _call_schema(function: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One call. References point to the whole schema's definitions, so those go there."""
    parameters = _parameters(function)
    own = parameters.get("$defs")
    if isinstance(own, dict):
        definitions.update(own)
        parameters = {key: value for key, value in parameters.items() if key != "$defs"}
    return {
        "properties": {
            "name": {"type": "string", "enum": [function["name"]]},
            "parameters": parameters,
        },
        "required": ["name", "parameters"],
    }
