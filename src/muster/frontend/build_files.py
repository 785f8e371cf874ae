"""The files of what is built and served: how each came here, and that the cache keeps them."""

from __future__ import annotations

from muster.content.store import BlobStore
from muster.frontend.file_table import FileTable
from muster.frontend.lease_keeper import LeaseKeeper
from muster.frontend.report import FileReport
from muster.model.catalog.decision import Build
from muster.model.catalog.group import GroupKey
from muster.model.catalog.status import ModelStatus

__all__ = ["BuildFiles"]


class BuildFiles:
    """A table of files for each group and card that has been built, until the group is dropped.

    Args:
        store: Where files are kept: those in use are leased there. ``None`` keeps no lease.
    """

    def __init__(self, store: BlobStore | None) -> None:
        self._tables: dict[tuple[GroupKey, str], FileTable] = {}
        self._leases = LeaseKeeper(store)

    def begin(self, build: Build) -> FileTable:
        """An empty table for the files of this build's card, in the place of an earlier one."""
        table = self._tables[build.group, build.mdcsum] = FileTable(build.members[0].card)
        return table

    async def hold(self, build: Build) -> None:
        """From when this returns, the cache keeps the files of the build's card."""
        digests = [file.checksum for file, _ in build.members[0].card.iter_metadata_files()]
        await self._leases.use((build.group, build.mdcsum), digests)

    def forget(self, group: GroupKey) -> None:
        """Let go of everything of a group; a no-op if there is nothing."""
        for key in [key for key in self._tables if key[0] == group]:
            del self._tables[key]
            self._leases.forget(key)

    def reports(self, status: ModelStatus) -> tuple[FileReport, ...]:
        """How the files of a card came here; those of a card not built yet have not begun to."""
        if status.group is None:
            return ()
        table = self._tables.get((status.group, status.mdcsum or ""))
        if table is None and status.members:
            table = FileTable(status.members[0].card)
        return table.reports() if table is not None else ()

    async def run(self) -> None:
        """Keep the lease alive until cancelled, then release it."""
        await self._leases.run()
