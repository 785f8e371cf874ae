"""When a model takes no more requests though its instances would: busy thresholds. Pure.

Dynamo's three thresholds, over another measure: what this frontend itself has under way at the
model, shared out evenly among its instances. Workers' own reports of their load are not read, so
several frontends before one fleet each see their part.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

__all__ = ["Capacity", "Load", "Thresholds"]

Count = Annotated[int, msgspec.Meta(ge=0)]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's workers say they can hold; 0 where they do not say.

    Attributes:
        instances: How many there are.
        block_size: Tokens of a block of the KV cache.
        blocks: Blocks of one instance.
        batched_tokens: Most tokens one instance computes in a step.
    """

    instances: int = 0
    block_size: int = 0
    blocks: int = 0
    batched_tokens: int = 0


class Load:
    """What is under way at one model.

    Attributes:
        prefill_tokens: Tokens of prompts without a first output.
        held_tokens: Tokens of prompts and answers.
    """

    __slots__ = ("held_tokens", "prefill_tokens")

    def __init__(self) -> None:
        self.prefill_tokens = 0
        self.held_tokens = 0


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Beyond which a model is busy; ``None`` never is. Any one of them is enough.

    Attributes:
        active_decode_blocks_threshold: Part of the blocks of the KV cache, 0 to 1.
        active_prefill_tokens_threshold: Prompt tokens per instance.
        active_prefill_tokens_threshold_frac: The same as a multiple of ``batched_tokens``.
    """

    active_decode_blocks_threshold: float | None = None
    active_prefill_tokens_threshold: Count | None = None
    active_prefill_tokens_threshold_frac: float | None = None

    @property
    def unset(self) -> bool:
        """Whether there is none."""
        return self == Thresholds()

    def complaint(self) -> str:
        """What is out of range, in Dynamo's words; empty if nothing is."""
        part, multiple = (
            self.active_decode_blocks_threshold,
            self.active_prefill_tokens_threshold_frac,
        )
        if part is not None and not 0 <= part <= 1:
            return f"active_decode_blocks_threshold must be between 0.0 and 1.0, got {part:g}"
        if multiple is not None and not 0 <= multiple < math.inf:
            return (
                "active_prefill_tokens_threshold_frac must be a finite value greater than or equal "
                f"to 0.0, got {multiple:g}"
            )
        return ""

    def changed(self, other: Thresholds) -> Thresholds:
        """These, with those that ``other`` sets; what it leaves out stays."""
        mine, given = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return Thresholds(**mine | {k: value for k, value in given.items() if value is not None})

    def exceeded(self, load: Load, capacity: Capacity) -> bool:
        """Whether a model with this load is busy. Without instances it is not: it has nobody."""
        if not capacity.instances:
            return False
        prefill = load.prefill_tokens / capacity.instances
        limit, multiple, part = (
            self.active_prefill_tokens_threshold,
            self.active_prefill_tokens_threshold_frac,
            self.active_decode_blocks_threshold,
        )
        if limit is not None and prefill > limit:
            return True
        batched = capacity.batched_tokens
        if multiple is not None and batched and prefill > multiple * batched:
            return True
        room = capacity.block_size * capacity.blocks * capacity.instances
        return part is not None and bool(room) and load.held_tokens > part * room
