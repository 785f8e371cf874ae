"""Bounds of requests' values in the document: those that requests are checked against. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from muster.frontend.anthropic.requests import MessagesRequest
from muster.frontend.openai.bounds import BIAS, CHAT, COMPLETION, MAX_STOPS, Bounds
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.frontend.responses.requests import ResponsesRequest

__all__ = ["with_bounds"]

Json = dict[str, Any]

_BY_TYPE: dict[type, Mapping[str, Bounds]] = {
    ChatRequest: CHAT,
    CompletionRequest: COMPLETION,
    # These are answered as chats, whose fields of the same name they are checked as.
    ResponsesRequest: CHAT | {"max_output_tokens": CHAT["max_completion_tokens"]},
    MessagesRequest: CHAT,
}
_STOPS = ("stop", "stop_sequences")


def with_bounds(schemas: Mapping[str, Json]) -> dict[str, Json]:
    """The schemas of types, by name, with the bounds of the values of requests."""
    found = dict(schemas)
    for kind, bounds in _BY_TYPE.items():
        name = kind.__name__
        if name in found:
            found[name] = _bounded(found[name], bounds)
    return found


def _bounded(schema: Json, bounds: Mapping[str, Bounds]) -> Json:
    schema = copy.deepcopy(schema)
    fields = schema["properties"]
    for field in fields.keys() & bounds.keys():
        for form in _forms(fields[field], "number", "integer"):
            form |= _keywords(bounds[field])
    for field in fields.keys() & set(_STOPS):
        for form in _forms(fields[field], "array"):
            form["maxItems"] = MAX_STOPS
    for form in _forms(fields.get("logit_bias", {}), "object"):
        form["additionalProperties"] |= _keywords(BIAS)
    return schema


def _forms(schema: Json, *types: str) -> list[Json]:
    """The forms of a value that are of one of these types."""
    return [form for form in schema.get("anyOf", [schema]) if form.get("type") in types]


def _keywords(bounds: Bounds) -> Json:
    low = "exclusiveMinimum" if bounds.above else "minimum"
    high = {} if bounds.high == math.inf else {"maximum": bounds.high}
    return {low: bounds.low, **high}
