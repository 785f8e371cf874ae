"""Tells how one file is getting on."""

from __future__ import annotations

from collections.abc import Callable

from muster.clock import Clock
from muster.model.fetch.plan import PlannedFile
from muster.model.fetch.resolved import FetchProgress, FetchState

__all__ = ["OnProgress", "Reporter"]

OnProgress = Callable[[FetchProgress], None]


class Reporter:
    """Reports on one file; times it from the first thing told."""

    def __init__(self, planned: PlannedFile, on_progress: OnProgress, clock: Clock) -> None:
        self._planned = planned
        self._on_progress = on_progress
        self._clock = clock
        self._started = clock.monotonic()
        self._done_bytes = 0
        self._place = ""

    @property
    def place(self) -> str:
        """Where the file was last said to come from."""
        return self._place

    def tell(
        self,
        state: FetchState,
        *,
        done_bytes: int | None = None,
        place: str | None = None,
        code: str = "",
        reason: str = "",
    ) -> None:
        """Report ``state``; bytes and place are the last known ones unless given."""
        self._done_bytes = self._done_bytes if done_bytes is None else done_bytes
        self._place = self._place if place is None else place
        self._on_progress(
            FetchProgress(
                name=self._planned.name,
                role=self._planned.role,
                digest=self._planned.file.checksum,
                state=state,
                done_bytes=self._done_bytes,
                total_bytes=self._planned.file.size,
                seconds=self._clock.monotonic() - self._started,
                place=self._place,
                code=code,
                reason=reason,
            )
        )
