"""When an instance of a served model gets no more requests, and when it gets some again: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["ExclusionNote", "ExclusionNotes", "Standing"]

Standing = Mapping[str, Mapping[int, str]]
"""Why each instance of each served model gets no requests; empty for one that does."""


class ExclusionNote(NamedTuple):
    """An instance of a model that gets no more requests, and why; or, without a reason, some again."""

    model: str
    instance_id: int
    reason: str


class ExclusionNotes:
    """Compares one look with the next, about a second apart.

    A change counts when two looks in a row see it: one that is full for a moment is no event. An
    instance that is gone is none either, as its replica's end is told elsewhere.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, int], bool] = {}
        self._last: dict[tuple[str, int], bool] = {}

    def look(self, standing: Standing) -> Iterator[ExclusionNote]:
        """What has changed, as this look confirms. To be consumed before the next one."""
        told, last = self._told, self._last
        self._told, self._last = {}, {}
        for model, instances in standing.items():
            for instance_id, reason in instances.items():
                key = (model, instance_id)
                is_out = bool(reason)
                was_told = told.get(key, False)
                self._last[key] = is_out
                if is_out is was_told or last.get(key, was_told) is not is_out:
                    self._told[key] = was_told
                    continue
                self._told[key] = is_out
                yield ExclusionNote(model, instance_id, reason)
