"""What a model's files say about generating: where a reply ends and how to sample.

Every source an end-of-sequence id may hide in is looked at, because publishers disagree on which
one is the right one: missing it means replies that never end. Pure functions of the parsed files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

__all__ = [
    "GenerationSettings",
    "SamplingDefaults",
    "read_generation_settings",
    "special_token_text",
]

_WELL_KNOWN_EOS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<eos>",
    "</s>",
)

FindToken = Callable[[str], int | None]
"""The id of a token's text in the model's tokenizer, or ``None``."""


class SamplingDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The publisher's recommended sampling, from generation_config.json; ``None`` where it is silent.

    The frontend applies those of sampling to requests that name none (Dynamo 1.6.1 does not), unless
    a setting turns that off.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_new_tokens: int | None = None
    do_sample: bool | None = None


class GenerationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Result of reading a model's files.

    Attributes:
        eos_token_ids: Ids that end a reply, without duplicates, in the order of their sources;
            empty if no source names one (then only the engine knows).
        bos_token_id: The id that begins a text, if any source names one.
        sampling: The publisher's sampling defaults.
    """

    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    sampling: SamplingDefaults


def special_token_text(entry: object) -> str | None:
    """The text of a special token as tokenizer_config.json spells it: a string, or an object with it."""
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


def read_generation_settings(
    *,
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    special_tokens_map: Mapping[str, Any],
    find_token: FindToken,
    special_tokens: Iterable[str] = (),
) -> GenerationSettings:
    """Read what the parsed files say; a file that does not exist is an empty mapping.

    The end-of-sequence ids are the union of ``eos_token_id`` in config.json (or in its
    ``text_config``) and generation_config.json, and of the id of tokenizer_config.json's
    ``eos_token``. Only if all of these are silent: special_tokens_map.json's ``eos_token``, then a
    well-known name among the tokenizer's own special tokens.
    """
    eos = [
        *_ids(config, "eos_token_id"),
        *_ids(generation_config, "eos_token_id"),
        *_named(tokenizer_config, "eos_token", find_token),
    ]
    if not eos:
        eos = _named(special_tokens_map, "eos_token", find_token)
    if not eos:
        eos = _well_known(set(special_tokens), find_token)
    bos = [
        *_ids(config, "bos_token_id"),
        *_ids(generation_config, "bos_token_id"),
        *_named(tokenizer_config, "bos_token", find_token),
        *_named(special_tokens_map, "bos_token", find_token),
    ]
    return GenerationSettings(
        eos_token_ids=tuple(dict.fromkeys(eos)),
        bos_token_id=bos[0] if bos else None,
        sampling=_sampling(generation_config),
    )


def _ids(values: Mapping[str, Any], key: str) -> list[int]:
    value = values.get(key)
    if value is None and isinstance(nested := values.get("text_config"), Mapping):
        value = nested.get(key)
    items = value if isinstance(value, list) else [value]
    return [item for item in items if type(item) is int and item >= 0]


def _named(values: Mapping[str, Any], key: str, find_token: FindToken) -> list[int]:
    text = special_token_text(values.get(key))
    found = find_token(text) if text is not None else None
    return [] if found is None else [found]


def _well_known(special_tokens: set[str], find_token: FindToken) -> list[int]:
    for name in _WELL_KNOWN_EOS:
        found = find_token(name) if name in special_tokens else None
        if found is not None:
            return [found]
    return []


def _sampling(values: Mapping[str, Any]) -> SamplingDefaults:
    def number(key: str) -> float | None:
        value = values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        # an integer beyond 64 bits cannot become a float, and means nothing here
        usable = abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)
        return float(value) if usable else None

    def whole(key: str) -> int | None:
        value = number(key)
        return None if value is None else int(value)

    do_sample = values.get("do_sample")
    return SamplingDefaults(
        temperature=number("temperature"),
        top_p=number("top_p"),
        top_k=whole("top_k"),
        min_p=number("min_p"),
        repetition_penalty=number("repetition_penalty"),
        presence_penalty=number("presence_penalty"),
        frequency_penalty=number("frequency_penalty"),
        max_new_tokens=whole("max_new_tokens"),
        do_sample=do_sample if isinstance(do_sample, bool) else None,
    )
