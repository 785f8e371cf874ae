"""The ways to reason by the names that model cards carry (``runtime_config.reasoning_parser``)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from muster.llm.reasoning.prefixed import PrefixedContentParser
from muster.llm.reasoning.tagged import TaggedReasoningParser
from muster.llm.tool_calls.events import Parser
from muster.llm.tool_calls.whole_reply import WHOLE_REPLY_PARSERS

__all__ = [
    "REASONING_FORMATS",
    "REASONING_PARSERS",
    "ReasoningFormat",
    "new_reasoning_parser",
]


class ReasoningFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How a model marks its reasoning.

    Attributes:
        opening: Markers that begin it.
        closing: Markers that end it.
        inside: Whether a reply begins with it unless the prompt says otherwise.
        anywhere: Whether it may begin later than at the start of a reply.
        label: What may follow an opening marker and belongs to it.
        calls: Markers of calls. They end reasoning too, as some models forget to close it.
        special: Whether markers may be special tokens, which decoding would leave out.
    """

    opening: tuple[str, ...] = ("<think>",)
    closing: tuple[str, ...] = ("</think>",)
    inside: bool = False
    anywhere: bool = True
    label: str = ""
    calls: tuple[str, ...] = ()
    special: bool = False

    def starts_inside(self, prompt_end: str) -> bool:
        """Whether a reply to a prompt that ends like this begins with reasoning.

        Templates open it for the model, or open and close it when thinking is switched off.
        """
        end = prompt_end.rstrip()
        if end.endswith(self.closing):
            return False
        label = self.label.rstrip()
        return self.inside or end.removesuffix(label).rstrip().endswith(self.opening)


_DSML = "<\N{FULLWIDTH VERTICAL LINE}DSML\N{FULLWIDTH VERTICAL LINE}"
_KIMI_CALLS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")

_THINK = ReasoningFormat()
_THINK_FIRST = ReasoningFormat(inside=True)
_DEEPSEEK_V4 = ReasoningFormat(calls=(f"{_DSML}tool_calls>",))
_DEEPSEEK_V41 = ReasoningFormat(calls=(f"{_DSML} calls>",))
_KIMI_K2 = ReasoningFormat(calls=_KIMI_CALLS)
_MINIMAX_M3 = ReasoningFormat(
    opening=("<mm:think>",), closing=("</mm:think>",), calls=("]<]minimax[>[<tool_call>",)
)
_GEMMA4 = ReasoningFormat(
    opening=("<|channel>",), closing=("<channel|>",), label="thought\n", special=True
)

REASONING_FORMATS: Mapping[str, ReasoningFormat] = {
    "basic": _THINK,
    "deepseek-v4": _DEEPSEEK_V4,
    "deepseek_r1": _THINK_FIRST,
    "deepseek_v3": _THINK,
    "deepseek_v3_1": _THINK,
    "deepseek_v3_2": ReasoningFormat(inside=True, calls=(f"{_DSML}function_calls>",)),
    "deepseek_v4": _DEEPSEEK_V4,
    "deepseek_v41": _DEEPSEEK_V41,
    "deepseekv4": _DEEPSEEK_V4,
    "gemma-4": _GEMMA4,
    "gemma4": _GEMMA4,
    "glm45": _THINK,
    "glm47": _THINK,
    "granite": ReasoningFormat(
        opening=("Here is my thought process:", "Here's my thought process:"),
        closing=("Here is my response:", "Here's my response:"),
        anywhere=False,
    ),
    "kimi": ReasoningFormat(opening=("◁think▷",), closing=("◁/think▷",), special=True),
    "kimi_k2": _KIMI_K2,
    "kimi_k25": ReasoningFormat(inside=True, calls=_KIMI_CALLS),
    "minimax-m3": _MINIMAX_M3,
    "minimax_m2": ReasoningFormat(inside=True, calls=("<minimax:tool_call>",)),
    "minimax_m3": _MINIMAX_M3,
    "mistral": ReasoningFormat(opening=("[THINK]",), closing=("[/THINK]",), special=True),
    "nemotron3": _THINK_FIRST,
    "nemotron_deci": _THINK,
    "nemotron_nano": _THINK_FIRST,
    "nemotron_v3": _THINK_FIRST,
    "qwen3": _THINK,
    "qwen3_coder": _THINK,
    "step3": _THINK_FIRST,
}
"""Those that put reasoning between markers."""

APPEND_THINK = "minimax_append_think"

REASONING_PARSERS = frozenset({*REASONING_FORMATS, *WHOLE_REPLY_PARSERS, APPEND_THINK})
"""All names that are known."""


def new_reasoning_parser(name: str, *, prompt_end: str = "", guided: bool = False) -> Parser | None:
    """A parser for one reply; ``None`` if nobody knows the name.

    Args:
        name: As in the card.
        prompt_end: The last characters of the prompt.
        guided: Whether the engine was asked for JSON. A reply that begins with it has no reasoning
            then, whatever the prompt says: the engine let the model write nothing else.
    """
    make = WHOLE_REPLY_PARSERS.get(name)
    if make is not None:
        return make(str, calls=False, prompt_end=prompt_end)
    if name == APPEND_THINK:
        return PrefixedContentParser("<think>")
    way = REASONING_FORMATS.get(name)
    if way is None:
        return None
    return TaggedReasoningParser(
        way.opening,
        way.closing,
        inside=way.starts_inside(prompt_end),
        anywhere=way.anywhere,
        label=way.label,
        calls=way.calls,
        plain="{[" if guided else "",
    )
