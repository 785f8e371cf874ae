"""Where a model's chat templates come from, and what its special tokens are called in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muster.errors import CardError
from muster.llm.generation import special_token_text
from muster.llm.json_file import read_json_object, read_text

__all__ = [
    "DEFAULT",
    "MAX_TEMPLATE_BYTES",
    "TemplateSources",
    "find_template_sources",
    "special_tokens_of",
]

DEFAULT = "default"
"""The name of a single template."""

MAX_TEMPLATE_BYTES = 1 << 20
"""Larger templates are refused; the largest published ones have some tens of kilobytes."""

_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

TemplateSources = dict[str, str]
"""Template texts by name; a single template is called ``default``."""


def special_tokens_of(
    tokenizer_config: Mapping[str, Any], special_tokens_map: Mapping[str, Any]
) -> dict[str, str]:
    """The special tokens a template sees (``bos_token``, ...), without those nobody defines."""
    found = {
        name: special_token_text(tokenizer_config.get(name))
        or special_token_text(special_tokens_map.get(name))
        for name in _SPECIAL_TOKENS
    }
    return {name: text for name, text in found.items() if text is not None}


def find_template_sources(
    tokenizer_config: Mapping[str, Any], template_file: Path | None
) -> TemplateSources:
    """The templates a model comes with; empty if it has none (then it serves completions only).

    Args:
        tokenizer_config: The parsed tokenizer_config.json; its ``chat_template`` is a text, or a list
            of ``{"name", "template"}``.
        template_file: A chat_template.jinja, a chat_template.json, or a custom template (Jinja text
            unless it is called ``*.json``). Takes precedence.

    Raises:
        CardError: If the file cannot be read, or what is found is no template; says which file.
    """
    if template_file is None:
        return _named(tokenizer_config.get("chat_template"), "tokenizer_config.json")
    if template_file.suffix == ".json":
        return _named(read_json_object(template_file).get("chat_template"), str(template_file))
    return {DEFAULT: read_text(template_file, max_bytes=MAX_TEMPLATE_BYTES)}


def _named(value: object, where: str) -> TemplateSources:
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    entries = value if isinstance(value, list) else []
    sources = {
        str(entry["name"]): str(entry["template"])
        for entry in entries
        if isinstance(entry, dict) and {"name", "template"} <= entry.keys()
    }
    if not sources or len(sources) != len(entries):
        raise CardError(
            f"the chat_template in {where} is neither a text nor a list of named templates"
        )
    return sources
