"""What a request says of the form its answers must have, as the engine is told it. Pure.

Clients have three ways: OpenAI's ``response_format``, the ``guided_*`` fields of Dynamo and of older
vLLM, and vLLM's ``structured_outputs``. All become one ``GuidedDecoding``; nothing is enforced here.
"""

from __future__ import annotations

import re
from typing import Any

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import GenerationRequest
from muster.llm.protocol import GuidedDecoding

__all__ = ["ANY_OBJECT", "guided_decoding", "refuse_beside_calls"]

ANY_OBJECT: dict[str, Any] = {"type": "object"}
"""The schema that stands for ``json_object``; Dynamo's."""

_KINDS = ("json", "regex", "choice", "grammar")
_SCHEMA_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_FORMATS = ("text", "json_object", "json_schema")
_OUTPUTS = frozenset({*_KINDS, "json_object", "whitespace_pattern"})


def guided_decoding(request: GenerationRequest) -> GuidedDecoding | None:
    """The constraint a request names; ``None`` if it names none.

    A backend or a pattern for whitespace alone is none, nor is an empty list of choices. Where
    ``response_format`` and ``guided_json`` both name a schema, the latter wins, as in Dynamo 1.6.1.

    Raises:
        ApiError: 400 for a value of a wrong shape, or for more than one constraint.
    """
    if (
        request.response_format is None
        and request.guided_json is None
        and request.guided_regex is None
        and request.guided_choice is None
        and request.guided_grammar is None
        and request.structured_outputs is None
    ):
        return None
    schema = _of_format(request.response_format)
    found: dict[str, Any] = {
        "json": schema if request.guided_json is None else request.guided_json,
        "regex": request.guided_regex,
        "choice": request.guided_choice or None,
        "grammar": request.guided_grammar,
    }
    whitespace = request.guided_whitespace_pattern
    if request.structured_outputs is not None:
        own = _of_outputs(request.structured_outputs)
        whitespace = own.pop("whitespace_pattern", None) or whitespace
        twice = [kind for kind in own if found[kind] is not None]
        if twice:
            raise _fail(
                "structured_outputs",
                "Only one guided-decoding constraint can be set; received: "
                f"{twice[0]} in `structured_outputs` and outside of it",
            )
        found |= own
    named = [kind for kind in _KINDS if found[kind] is not None]
    if not named:
        return None
    if len(named) > 1:
        raise _fail(
            _field_of(request, named[-1]),
            f"Only one guided-decoding constraint can be set; received: {', '.join(named)}",
        )
    return GuidedDecoding(
        **found, backend=request.guided_decoding_backend, whitespace_pattern=whitespace
    )


def refuse_beside_calls(request: GenerationRequest) -> None:
    """Refuse a constraint of the client's own beside one that its choice of a tool makes.

    ``response_format`` may be there: it is about text, and a reply that must be a call has none.

    Raises:
        ApiError: 400.
    """
    fields = [*(f"guided_{kind}" for kind in _KINDS), "structured_outputs"]
    given = [field for field in fields if getattr(request, field) not in (None, [])]
    if given:
        raise _fail(
            given[0],
            f"`{given[0]}` and a `tool_choice` that demands a call cannot both be met",
        )


def _fail(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, slug="invalid_value")


def _field_of(request: GenerationRequest, kind: str) -> str:
    return "structured_outputs" if getattr(request, f"guided_{kind}") is None else f"guided_{kind}"


def _of_format(value: dict[str, Any] | None) -> Any:
    """The schema a ``response_format`` stands for."""
    if value is None:
        return None
    kind = value.get("type")
    if kind not in _FORMATS:
        raise _fail(
            "response_format.type",
            f"response_format.type must be one of {', '.join(_FORMATS)}, got {kind!r}",
        )
    if kind == "text":
        return None
    return ANY_OBJECT if kind == "json_object" else _schema_in(value.get("json_schema"))


def _schema_in(value: object) -> Any:
    where = "response_format.json_schema"
    if not isinstance(value, dict):
        raise _fail(where, f"{where} must be an object with `name` and `schema`")
    name = value.get("name")
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise _fail(
            f"{where}.name",
            f"{where}.name must have 1 to 64 letters, digits, underscores and dashes, got {name!r}",
        )
    schema = value.get("schema")
    if not isinstance(schema, dict):
        raise _fail(f"{where}.schema", f"{where}.schema must be a JSON schema, an object")
    strict = value.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise _fail(f"{where}.strict", f"{where}.strict must be true or false, got {strict!r}")
    return schema


def _of_outputs(value: dict[str, Any]) -> dict[str, Any]:
    """The constraint in ``structured_outputs``, and the pattern for whitespace."""
    where = "structured_outputs"
    unknown = [key for key, item in value.items() if key not in _OUTPUTS and item]
    if unknown:
        raise ApiError(
            400,
            f"`{where}.{unknown[0]}` is not supported here",
            param=f"{where}.{unknown[0]}",
            slug="unsupported_parameter",
        )
    found = {key: value[key] for key in _KINDS if value.get(key) is not None}
    if value.get("json_object"):
        if "json" in found:
            raise _fail(where, f"{where} has both `json` and `json_object`")
        found["json"] = ANY_OBJECT
    for key in ("regex", "grammar", "whitespace_pattern"):
        if not isinstance(value.get(key, ""), str | None):
            raise _fail(f"{where}.{key}", f"{where}.{key} must be a string")
    choice = found.get("choice")
    if choice is not None and not (
        isinstance(choice, list) and all(isinstance(item, str) for item in choice)
    ):
        raise _fail(f"{where}.choice", f"{where}.choice must be a list of strings")
    if not found:
        raise _fail(where, f"{where} must have one of {', '.join(_KINDS)} and json_object")
    if value.get("whitespace_pattern"):
        found["whitespace_pattern"] = value["whitespace_pattern"]
    return found
