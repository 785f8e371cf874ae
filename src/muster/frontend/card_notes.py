"""What a model is served without because its card names something nobody here knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from muster.llm.reasoning.registry import REASONING_PARSERS
from muster.llm.tool_calls.registry import TOOL_CALL_PARSERS
from muster.model.runtime_config import ModelRuntimeConfig

__all__ = ["card_notes"]


def card_notes(config: ModelRuntimeConfig) -> tuple[str, ...]:
    """One sentence for each parser that is not known; replies are served as text then."""
    return tuple(_notes(config))


def _notes(config: ModelRuntimeConfig) -> Iterator[str]:
    calls, reasoning = config.tool_call_parser, config.reasoning_parser
    if calls is not None and calls not in TOOL_CALL_PARSERS:
        yield f"the tool call parser {calls!r} is not known: tool calls come out as text"
    if reasoning is not None and reasoning not in REASONING_PARSERS:
        yield f"the reasoning parser {reasoning!r} is not known: reasoning comes out as text"
