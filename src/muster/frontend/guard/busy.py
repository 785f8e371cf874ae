"""When an instance gets no more requests though it would take them: busy thresholds. Pure.

Dynamo's three thresholds, over another measure: what this frontend itself has under way at each
instance. Dynamo's workers tell their load over its event plane, which there is none of here: neither
Muster's workers nor Dynamo's can be heard, so several frontends before one fleet each see their part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec

__all__ = ["Capacity", "Count", "Load", "Loads", "Thresholds"]

Count = Annotated[int, msgspec.Meta(ge=0)]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance can hold, by its card; 0 where that does not say.

    Attributes:
        block_size: Tokens of a block of the KV cache.
        blocks: Blocks of the cache.
        batched_tokens: Most tokens computed in a step.
    """

    block_size: int = 0
    blocks: int = 0
    batched_tokens: int = 0


class Load:
    """What is under way at one instance.

    Attributes:
        prefill_tokens: Tokens of prompts without a first output.
        held_tokens: Tokens of prompts and answers.
    """

    __slots__ = ("held_tokens", "prefill_tokens")

    def __init__(self) -> None:
        self.prefill_tokens = 0
        self.held_tokens = 0


class Loads:
    """What is under way at the instances of one model.

    Tokens of a request that no instance has taken yet have the place ``None``.
    """

    __slots__ = ("_by_place",)

    def __init__(self) -> None:
        self._by_place: dict[int | None, Load] = {}

    def add(self, place: int | None, *, prefill: int = 0, held: int = 0) -> None:
        """Change the counts of a place by so many tokens, which may be negative."""
        load = self._by_place.get(place)
        if load is None:
            load = self._by_place[place] = Load()
        load.prefill_tokens += prefill
        load.held_tokens += held
        if not load.held_tokens:
            del self._by_place[place]

    def at(self, instance_id: int, among: int) -> tuple[float, float]:
        """Prefill and held tokens of an instance, with its share of those that nobody has yet.

        Args:
            instance_id: The instance.
            among: How many instances share; 0 leaves them out.
        """
        prefill = held = 0.0
        for place, parts in ((instance_id, 1), (None, among)):
            load = self._by_place.get(place)
            if load is not None and parts:
                prefill += load.prefill_tokens / parts
                held += load.held_tokens / parts
        return prefill, held


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Beyond which an instance is busy; ``None`` never is. Any one of them is enough.

    Attributes:
        active_decode_blocks_threshold: Part of the blocks of the KV cache, 0 to 1.
        active_prefill_tokens_threshold: Prompt tokens.
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

    def busy(
        self, loads: Loads, capacities: Mapping[int, Capacity], *, share: bool = True
    ) -> frozenset[int]:
        """The instances that are busy.

        Args:
            loads: What is under way.
            capacities: What each instance can hold; those that are not in it are not looked at.
            share: Count what nobody has taken yet, in equal parts.
        """
        among = len(capacities) if share else 0
        return frozenset(
            instance_id
            for instance_id, capacity in capacities.items()
            if self._exceeded(*loads.at(instance_id, among), capacity)
        )

    def _exceeded(self, prefill: float, held: float, capacity: Capacity) -> bool:
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
        room = capacity.block_size * capacity.blocks
        return part is not None and bool(room) and held > part * room
