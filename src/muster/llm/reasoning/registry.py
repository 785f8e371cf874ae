"""The ways to reason by the names that model cards carry (``runtime_config.reasoning_parser``)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from muster.llm.reasoning.tagged import TaggedReasoningParser
from muster.llm.tool_calls.events import Parser
from muster.llm.tool_calls.harmony import HarmonyParser

__all__ = ["REASONING_PARSERS", "ReasoningFormat", "new_reasoning_parser"]


class ReasoningFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How a model marks its reasoning.

    Attributes:
        opening: Markers that begin it.
        closing: Markers that end it.
        inside: Whether a reply begins with it unless the prompt says otherwise.
        anywhere: Whether it may begin later than at the start of a reply.
    """

    opening: tuple[str, ...] = ("<think>",)
    closing: tuple[str, ...] = ("</think>",)
    inside: bool = False
    anywhere: bool = True

    def starts_inside(self, prompt_end: str) -> bool:
        """Whether a reply to a prompt that ends like this begins with reasoning.

        Templates open it for the model, or open and close it when thinking is switched off.
        """
        end = prompt_end.rstrip()
        if end.endswith(self.closing):
            return False
        return self.inside or end.endswith(self.opening)


_THINK = ReasoningFormat()
_THINK_FIRST = ReasoningFormat(inside=True)

GPT_OSS = "gpt_oss"

REASONING_PARSERS: Mapping[str, ReasoningFormat | None] = {
    "basic": _THINK,
    "deepseek_r1": _THINK_FIRST,
    "deepseek_v3": _THINK,
    "deepseek_v3_1": _THINK,
    "deepseek_v3_2": _THINK,
    "glm45": _THINK,
    "glm47": _THINK,
    GPT_OSS: None,
    "granite": ReasoningFormat(
        opening=("Here is my thought process:", "Here's my thought process:"),
        closing=("Here is my response:", "Here's my response:"),
        anywhere=False,
    ),
    "kimi": ReasoningFormat(opening=("◁think▷",), closing=("◁/think▷",)),
    "kimi_k2": _THINK,
    "kimi_k25": _THINK_FIRST,
    "mistral": ReasoningFormat(opening=("[THINK]",), closing=("[/THINK]",)),
    "nemotron_deci": _THINK,
    "qwen3": _THINK,
    "step3": _THINK_FIRST,
}
"""Every way there is; gpt-oss's is a format of its own (``HarmonyParser``)."""


def new_reasoning_parser(name: str, *, prompt_end: str = "") -> Parser | None:
    """A parser for one reply; ``None`` if nobody knows the name.

    Args:
        name: As in the card.
        prompt_end: The last characters of the prompt.
    """
    if name == GPT_OSS:
        return HarmonyParser(str, calls=False)
    way = REASONING_PARSERS.get(name)
    if way is None:
        return None
    return TaggedReasoningParser(
        way.opening,
        way.closing,
        inside=way.starts_inside(prompt_end),
        anywhere=way.anywhere,
    )
