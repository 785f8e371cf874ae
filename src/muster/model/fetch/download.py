"""One file's download: its places in order, two at a time if one lags.

A line is one staged file and the places that fill it, one after another: where one breaks off, the
next goes on. If a line lags, a second one begins from nothing beside it, and the first that is
complete and right wins. What a loser has is thrown away.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence

from muster.content.claim import Claim
from muster.errors import ContentError, StoreError
from muster.model.fetch.candidates import Candidate
from muster.model.fetch.line import Blob, Line, Sources, StageFile, Turn
from muster.model.fetch.plan import PlannedFile
from muster.model.fetch.reporter import Reporter

__all__ = ["Download"]

_LINES = 2


class Download:
    """Downloads one file. ``run`` it once.

    Args:
        planned: The file.
        candidates: Where to ask, in this order.
        sources: What downloads share.
        stage: Where the bytes go.
        reporter: Told how it gets on.
        claim: On the file, if we have one: kept up while bytes come, and released with the last.
    """

    def __init__(
        self,
        planned: PlannedFile,
        candidates: Sequence[Candidate],
        sources: Sources,
        stage: StageFile,
        reporter: Reporter,
        claim: Claim | None,
    ) -> None:
        self._planned = planned
        self._sources = sources
        self._stage = stage
        self._reporter = reporter
        self._claim = claim
        self._turns = collections.deque(Turn(each) for each in candidates)
        self._lines: dict[asyncio.Task[Blob | StoreError | None], Line] = {}
        self.errors: list[ContentError] = []

    def is_lagging(self) -> bool:
        """Whether every line of it lags: who waits for it had better not."""
        return all(line.is_lagging() for line in self._lines.values())

    async def run(self) -> Blob | None:
        """The file, or ``None`` if nobody gave it: then ``errors`` has each place's reason.

        Raises:
            StoreError: The bytes cannot be stored.
        """
        async with asyncio.TaskGroup() as group:
            self._add_line(group)
            found: Blob | StoreError | None = None
            while self._lines and found is None:
                done, _ = await asyncio.wait(
                    self._lines, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED
                )
                if not done and self._turns and self.is_lagging():
                    self._add_line(group)
                for task in done:
                    del self._lines[task]
                    found = found or task.result()
            for task in self._lines:
                task.cancel()
        if isinstance(found, StoreError):
            raise found
        return found

    def _add_line(self, group: asyncio.TaskGroup) -> None:
        line = Line(self._planned, self._sources, self._stage, self._reporter, self._claim)
        task = group.create_task(line.run(self._turns, self.errors))
        self._lines[task] = line

    def _patience(self) -> float | None:
        """How long to wait before looking whether another line is due."""
        hedge_s = self._sources.settings.hedge_s
        may_hedge = hedge_s > 0 and len(self._lines) < _LINES and bool(self._turns)
        return hedge_s / 4 if may_hedge else None
