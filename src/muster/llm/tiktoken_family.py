"""What a tiktoken file leaves out: how a text is split, and which special tokens follow.

The file holds ranks only. The rest is in the code that a model is published with, so it is known
here by the model's family: from its tokenizer_config.json, its config.json, or the file's name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import msgspec

__all__ = ["Family", "find_family"]

logger = logging.getLogger(__name__)

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def _cased(without: str) -> str:
    """Words cut where lower case turns into upper case; ``without`` narrows the letters."""
    upper, lower = f"[{_UPPER}{without}]", f"[{_LOWER}{without}]"
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{start}{upper}*{lower}+{_CONTRACTIONS}?|{start}{upper}+{lower}*{_CONTRACTIONS}?"
        r"|\p{N}{1,3}"
    )


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What models of one kind have in common.

    Attributes:
        pattern: The regular expression whose matches are encoded one by one.
        composes: Whether the text is brought to Unicode's NFC first.
        reserved: Names of special tokens behind the ranks, one id each, from the first free id on.
            ``{}`` stands for the token's id. What the model's own list says takes precedence.
    """

    pattern: str
    composes: bool = False
    reserved: tuple[str, ...] = ()


_CL100K = Family(pattern=rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}")
_O200K = Family(pattern=_cased("") + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_GPT2 = Family(pattern=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
_QWEN = Family(
    pattern=rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}",
    composes=True,
    reserved=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *(f"<|extra_{number}|>" for number in range(205)),
    ),
)
_KIMI = Family(
    pattern=r"[\p{Han}]+|" + _cased(r"&&[^\p{Han}]") + "|" + _TAIL,
    reserved=("<|reserved_token_{}|>",) * 256,
)

_BY_MODEL_TYPE = {
    # Moonlight calls itself deepseek_v3; DeepSeek's own models have a tokenizer.json.
    **dict.fromkeys(("deepseek_v3", "moonshot"), _KIMI),
    **dict.fromkeys(("chatglm", "glm4", "llama", "dbrx", "phi3small"), _CL100K),
    "qwen": _QWEN,
    "gpt2": _GPT2,
    "gpt_oss": _O200K,
    "whisper": _GPT2,
}
_BY_CLASS = {
    "QWenTokenizer": _QWEN,
    "TikTokenTokenizer": _KIMI,
    "ChatGLM4Tokenizer": _CL100K,
}
_BY_NAME = {
    "qwen": _QWEN,
    "cl100k_base": _CL100K,
    **dict.fromkeys(("o200k_base", "o200k_harmony"), _O200K),
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base", "multilingual"), _GPT2),
}

_POSSESSIVE_COUNT = re.compile(r"(\{\d+(?:,\d*)?\})\+")


def find_family(
    path: PurePath, *, tokenizer_config: Mapping[str, Any], model_type: str | None
) -> Family:
    """The family of a tiktoken file.

    A ``pattern`` or ``pat_str`` in tokenizer_config.json overrides what is known of the family.
    What is not known at all is split as GPT-4 does, with a warning: ids may be wrong then.

    Args:
        path: The file; its name counts, without the ending.
        tokenizer_config: The parsed tokenizer_config.json.
        model_type: ``model_type`` of config.json.
    """
    known = _by_model_type(model_type) or _BY_CLASS.get(
        str(tokenizer_config.get("tokenizer_class"))
    )
    known = known or _BY_NAME.get(path.stem)
    pattern = tokenizer_config.get("pattern") or tokenizer_config.get("pat_str")
    if isinstance(pattern, str):
        return msgspec.structs.replace(
            known or _CL100K, pattern=_without_possessive_counts(pattern)
        )
    if known is None:
        logger.warning(
            "%s: nothing says how a text is split before it is encoded; splitting as GPT-4 does. "
            'If ids differ from the engine\'s, add "pattern" to tokenizer_config.json',
            path,
        )
    return known or _CL100K


def _by_model_type(model_type: str | None) -> Family | None:
    if model_type is None:
        return None
    return _KIMI if model_type.startswith("kimi") else _BY_MODEL_TYPE.get(model_type)


def _without_possessive_counts(pattern: str) -> str:
    """``{1,3}+`` never gives back what it took; for the ``tokenizers`` package it repeats.

    The plain count takes as much, and gives back only where the rest would not match otherwise.
    """
    return _POSSESSIVE_COUNT.sub(r"\1", pattern)
