"""How a model is held to the syntax of tool calls while it generates."""

from __future__ import annotations

import enum

import msgspec

from muster.model.strictjson.compound import Field, Maybe, Record, if_none
from muster.model.strictjson.shape import BOOL, Choice

__all__ = [
    "STRUCTURAL_TAG",
    "ReasoningBoundary",
    "StructuralTag",
    "StructuralTagMode",
    "StructuralTagSchema",
    "StructuralTagScope",
]


class StructuralTagMode(enum.StrEnum):
    """Whether there is a structural tag."""

    OFF = "off"
    ON = "on"


class StructuralTagScope(enum.StrEnum):
    """When it is applied."""

    AUTO = "auto"
    ALWAYS = "always"


class StructuralTagSchema(enum.StrEnum):
    """How strictly arguments follow their schema."""

    AUTO = "auto"
    STRICT = "strict"


class ReasoningBoundary(enum.StrEnum):
    """Who finds where reasoning ends."""

    AUTO = "auto"
    STRUCTURAL_TAG = "structural_tag"
    BACKEND = "backend"


class StructuralTag(msgspec.Struct, frozen=True, kw_only=True):
    """The policy; a runtime configuration without one has it off."""

    scope: StructuralTagScope = StructuralTagScope.AUTO
    schema: StructuralTagSchema = StructuralTagSchema.AUTO
    allow_tool_calls_with_structured_output: bool = False
    exclude_special_tokens: bool | None = None
    reasoning_boundary: ReasoningBoundary = ReasoningBoundary.AUTO
    tool_arguments_any_order: bool = False


STRUCTURAL_TAG = Record(
    "struct StructuralTagConfig",
    StructuralTag,
    Field("scope", Choice(StructuralTagScope), StructuralTagScope.AUTO),
    Field("schema", Choice(StructuralTagSchema), StructuralTagSchema.AUTO),
    Field("allow_tool_calls_with_structured_output", BOOL, default=False),
    Field("exclude_special_tokens", Maybe(BOOL), None, omit=if_none),
    Field("reasoning_boundary", Choice(ReasoningBoundary), ReasoningBoundary.AUTO),
    Field("tool_arguments_any_order", BOOL, default=False),
)
