"""Formats that have all of a reply in one syntax: reasoning, text and calls.

A card names them as tool call parser, as reasoning parser, or as both; one of the two is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from muster.llm.tool_calls.events import Parser
from muster.llm.tool_calls.harmony import HarmonyParser
from muster.llm.tool_calls.inkling import InklingParser
from muster.llm.tool_calls.kimi_k3 import KimiK3Parser
from muster.llm.tool_calls.muse import MuseParser
from muster.llm.tool_calls.scanner import NewId
from muster.llm.tool_calls.tagged import Tools

__all__ = ["WHOLE_REPLY_PARSERS", "WholeReplyFactory"]


class WholeReplyFactory(Protocol):
    """Makes a parser for one reply; see ``HarmonyParser``."""

    def __call__(
        self, new_id: NewId, tools: Tools = (), *, calls: bool = True, prompt_end: str = ""
    ) -> Parser:
        """Make it."""
        ...


WHOLE_REPLY_PARSERS: Mapping[str, WholeReplyFactory] = {
    "gpt_oss": HarmonyParser,
    "harmony": HarmonyParser,
    "inkling": InklingParser,
    "kimi-k3": KimiK3Parser,
    "kimi_k3": KimiK3Parser,
    "muse": MuseParser,
    "muse_glimmer": MuseParser,
}
"""By the names in cards."""
