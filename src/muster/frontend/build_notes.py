"""What a build tells while it runs, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from muster.frontend.card_notes import card_notes
from muster.frontend.file_table import FileTable
from muster.frontend.journal import FleetJournal
from muster.log import facts
from muster.model.catalog.catalog import Catalog
from muster.model.catalog.decision import Build
from muster.model.fetch.resolved import FetchProgress, ResolvedCard

__all__ = ["BuildNotes", "OnModelProgress"]

logger = logging.getLogger(__name__)

OnModelProgress = Callable[[str, FetchProgress], None]
"""Told each step of each file, with the model's name; on the event loop."""


class BuildNotes:
    """Passes on what one build tells; see ``BuildWatcher``.

    Args:
        build: Which.
        files: Where its files are noted.
        catalog: Told how far it is.
        journal: Told of changes, and counts files.
        on_progress: Somebody who shows it.
    """

    def __init__(
        self,
        build: Build,
        files: FileTable,
        catalog: Catalog,
        journal: FleetJournal,
        on_progress: OnModelProgress | None,
    ) -> None:
        self._build = build
        self._files = files
        self._catalog = catalog
        self._journal = journal
        self._on_progress = on_progress
        self._told: tuple[int, bool] | None = None

    def file_moved(self, progress: FetchProgress) -> None:
        """A file is a step further."""
        self._files.note(progress)
        self._journal.note_file(progress)
        if self._on_progress is not None:
            self._on_progress(self._build.group.model, progress)
        told = (self._files.done_count, self._files.is_verifying)
        if told != self._told:  # not for every piece of every file
            self._told = told
            self._catalog.fetching(
                self._build.build_id,
                files_done=told[0],
                files_total=self._files.total_count,
                verifying=told[1],
            )
            self._observe()

    def files_here(self, resolved: ResolvedCard) -> None:
        """All files are here that will be: what the model does without is said once, now."""
        for note in card_notes(resolved.card.runtime_config):
            logger.warning(
                "model served without: %s", note, extra=facts(model=self._build.group.model)
            )
            self._journal.note_shortcoming(self._build.group.model, self._build.mdcsum, note)
        self._files.leave_out(resolved.left_out)
        self._journal.note_left_out(len(resolved.left_out))
        self._catalog.loading(self._build.build_id)
        self._observe()

    def _observe(self) -> None:
        group = self._build.group
        self._journal.observe_group(group, self._catalog.status_of(group))
