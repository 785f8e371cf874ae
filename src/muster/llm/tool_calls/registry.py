"""The formats by the names that model cards carry (``runtime_config.tool_call_parser``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from muster.llm.tool_calls.deepseek import DeepSeekV3Parser, DeepSeekV31Parser
from muster.llm.tool_calls.default_calls import DefaultParser
from muster.llm.tool_calls.dsml import DeepSeekV4Parser, DeepSeekV32Parser, DeepSeekV41Parser
from muster.llm.tool_calls.events import Parser
from muster.llm.tool_calls.gemma4 import Gemma4Parser
from muster.llm.tool_calls.glm45 import Glm45Parser
from muster.llm.tool_calls.hermes import HermesParser
from muster.llm.tool_calls.json_lists import JambaParser, NemotronDeciParser
from muster.llm.tool_calls.kimi_k2 import KimiK2Parser
from muster.llm.tool_calls.llama3_json import Llama3JsonParser
from muster.llm.tool_calls.minimax import MiniMaxM2Parser, MiniMaxM3Parser
from muster.llm.tool_calls.mistral import MistralParser
from muster.llm.tool_calls.phi4 import Phi4Parser
from muster.llm.tool_calls.pythonic import PythonicParser
from muster.llm.tool_calls.qwen3 import Qwen3Parser
from muster.llm.tool_calls.qwen3_coder import Qwen3CoderParser
from muster.llm.tool_calls.scanner import NewId
from muster.llm.tool_calls.tagged import Tools
from muster.llm.tool_calls.whole_reply import WHOLE_REPLY_PARSERS

__all__ = ["TOOL_CALL_PARSERS", "ToolCallParserFactory", "new_tool_call_parser"]

ToolCallParserFactory = Callable[[NewId, Tools], Parser]


def _plain(make: Callable[[NewId], Parser]) -> ToolCallParserFactory:
    return lambda new_id, _: make(new_id)


TOOL_CALL_PARSERS: Mapping[str, ToolCallParserFactory] = {
    "deepseek-v4": DeepSeekV4Parser,
    "deepseek_v3": _plain(DeepSeekV3Parser),
    "deepseek_v3_1": _plain(DeepSeekV31Parser),
    "deepseek_v3_2": DeepSeekV32Parser,
    "deepseek_v4": DeepSeekV4Parser,
    "deepseek_v41": DeepSeekV41Parser,
    "deepseekv4": DeepSeekV4Parser,
    "default": _plain(DefaultParser),
    "gemma-4": _plain(Gemma4Parser),
    "gemma4": _plain(Gemma4Parser),
    "glm45": Glm45Parser,
    "glm47": Glm45Parser,
    "hermes": _plain(HermesParser),
    "jamba": _plain(JambaParser),
    "kimi_k2": _plain(KimiK2Parser),
    "kimi_k25": _plain(KimiK2Parser),
    "llama3_json": _plain(Llama3JsonParser),
    "minimax-m3": MiniMaxM3Parser,
    "minimax-m3-nom": MiniMaxM3Parser,
    "minimax_m2": MiniMaxM2Parser,
    "minimax_m3": MiniMaxM3Parser,
    "minimax_m3_nom": MiniMaxM3Parser,
    "mistral": _plain(MistralParser),
    "nemotron_deci": _plain(NemotronDeciParser),
    "nemotron_nano": Qwen3CoderParser,
    "phi4": _plain(Phi4Parser),
    "pythonic": _plain(PythonicParser),
    "qwen25": _plain(HermesParser),
    "qwen3": Qwen3Parser,
    "qwen3_coder": Qwen3CoderParser,
    **WHOLE_REPLY_PARSERS,
}
"""Every format there is. Several names may have one format."""


def new_tool_call_parser(name: str, new_id: NewId, tools: Tools) -> Parser | None:
    """A parser for one reply; ``None`` if nobody knows the name.

    Args:
        name: As in the card.
        new_id: Makes the ids of calls whose format has none. At least nine letters and digits at
            their end.
        tools: The request's functions.
    """
    make = TOOL_CALL_PARSERS.get(name)
    return make(new_id, tools) if make is not None else None
