"""The private copies a worker serves from, shared by registrations of the same file."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from muster.content.snapshot import Snapshot, take_snapshot
from muster.digest import Digest
from muster.model.checked_file import CheckedFile
from muster.runtime.metadata.registry import Artifact, MetadataKey

__all__ = ["Holding", "SnapshotPool"]

_Name = tuple[Path, Digest]


class SnapshotPool:
    """Copies by path and digest, each closed when its last holder lets go. Safe for threads.

    Args:
        directory: Where they are kept; the temporary directory by default.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._held: dict[_Name, tuple[Snapshot, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, path: Path, digest: Digest) -> Snapshot:
        """The copy of the file, made unless there is one. Blocks; see ``take_snapshot``."""
        name = path, digest
        with self._lock:
            snapshot, holders = self._held.get(name, (None, 0))
            if snapshot is None:
                snapshot = take_snapshot(path, directory=self._directory, expected=digest)
            self._held[name] = snapshot, holders + 1
            return snapshot

    def release(self, names: Iterable[_Name]) -> None:
        """Undo ``take`` once for each name."""
        with self._lock:
            for name in names:
                snapshot, holders = self._held.pop(name)
                if holders > 1:
                    self._held[name] = snapshot, holders - 1
                else:
                    snapshot.close()


class Holding:
    """The files of one registration, held in the pool until they are released.

    It fills while they are copied, so that whoever made it can let go of what is there even when
    that work fails or nobody waits for it any more.

    Attributes:
        entries: For the metadata registry.
        snapshots: The copies.
    """

    def __init__(self, pool: SnapshotPool) -> None:
        self._pool = pool
        self.entries: dict[MetadataKey, Artifact] = {}
        self.snapshots: list[Snapshot] = []
        self._names: list[_Name] = []

    def fill(self, files: Mapping[MetadataKey, CheckedFile]) -> None:
        """Copy the files, at local paths, that the pool does not have yet. Blocks.

        Raises:
            ContentError: A file cannot be read or is no longer what its digest says, or there is no
                room for a copy. What was copied stays held.
        """
        for key, file in files.items():
            path = Path(file.path or "")
            snapshot = self._pool.take(path, file.checksum)
            self._names.append((path, file.checksum))
            self.snapshots.append(snapshot)
            self.entries[key] = Artifact(path, snapshot)

    def release(self) -> None:
        """Let go of the copies; the pool closes those that nobody else holds. Idempotent."""
        names, self._names = self._names, []
        self._pool.release(names)
