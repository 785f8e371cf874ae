"""The LoRA adapter a card is for."""

from __future__ import annotations

import msgspec

from muster.model.strictjson.compound import Field, Maybe, Record, if_none
from muster.model.strictjson.shape import TEXT, U32

__all__ = ["LORA_INFO", "LoraInfo"]


class LoraInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter's name, and how many the worker holds on its GPU."""

    name: str
    max_gpu_lora_count: int | None = None


LORA_INFO = Record(
    "struct LoraInfo",
    LoraInfo,
    Field("name", TEXT),
    Field("max_gpu_lora_count", Maybe(U32), None, omit=if_none),
)
