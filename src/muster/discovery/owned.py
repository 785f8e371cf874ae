"""The records of this process in the file registry: written, kept alive, written anew, removed.

A claim is a file by name and inode. While the file at the name is ours its time is refreshed. If it
is gone it is written again, so a record that someone removed too early is never lost. If another
process has replaced it the record is that process's: it is neither refreshed nor removed by us, and
ours comes back when the other's has gone.
"""

from __future__ import annotations

import logging
import threading

from muster.discovery.directory import Found, RecordDirectory
from muster.errors import ConflictError, DiscoveryError, NotRegisteredError
from muster.log import facts

__all__ = ["OwnedRecords"]

logger = logging.getLogger(__name__)


class _Claim:
    """One record of ours."""

    __slots__ = ("directory", "failing", "inode", "name", "replaced", "value")

    def __init__(self, directory: RecordDirectory, name: str, value: bytes, inode: int) -> None:
        self.directory = directory
        self.name = name
        self.value = value
        self.inode = inode
        self.replaced = False
        self.failing = False

    @property
    def path(self) -> str:
        return self.directory.path_of(self.name)


class OwnedRecords:
    """All claims of one process. Calls block on the disk and are safe from any thread."""

    def __init__(self) -> None:
        # Re-entrant, because an exit handler may interrupt the thread that holds it. Held for one
        # file at a time, so that an exit need not wait for a refresh of a thousand.
        self._lock = threading.RLock()
        self._claims: dict[str, _Claim] = {}
        self._closed = False

    def owns(self, path: str) -> bool:
        """Whether the record at ``path`` is ours and nobody has replaced it. Takes no lock."""
        claim = self._claims.get(path)
        return claim is not None and not claim.replaced

    def claim(self, directory: RecordDirectory, name: str, value: bytes, *, create: bool) -> None:
        """Write a record and own it.

        Raises:
            ConflictError: ``create`` and the file exists.
            DiscoveryError: It cannot be written, or ``release_all`` was called before.
        """
        with self._lock:
            if self._closed:
                raise DiscoveryError("the registry is closed")
            inode = directory.write(name, value, create=create)
            self._claims[directory.path_of(name)] = _Claim(directory, name, value, inode)

    def release(self, directory: RecordDirectory, name: str) -> None:
        """Remove a record of ours.

        Raises:
            NotRegisteredError: It is not ours, or was gone or replaced already.
            DiscoveryError: It cannot be deleted; it stays ours.
        """
        path = directory.path_of(name)
        with self._lock:
            claim = self._claims.get(path)
            if claim is None:
                raise NotRegisteredError(f"{path} was not registered by this process")
            found = directory.remove(name, claim.inode)
            del self._claims[path]
        if found is not Found.OURS:
            raise NotRegisteredError(f"{path} is no longer ours: {found.value}")

    def release_all(self) -> None:
        """Remove every record and own none from now on. What cannot be deleted is logged."""
        with self._lock:
            self._closed = True
            while self._claims:
                _, claim = self._claims.popitem()
                try:
                    claim.directory.remove(claim.name, claim.inode)
                except DiscoveryError as error:
                    logger.warning(
                        "a record of ours stays until its lease runs out",
                        extra=facts(reason=error),
                    )

    def refresh(self) -> None:
        """Refresh every claim. A failure is logged when it begins and when it ends."""
        for path in list(self._claims):
            with self._lock:
                claim = self._claims.get(path)
                if claim is not None:
                    self._refresh_logged(claim)

    def _refresh_logged(self, claim: _Claim) -> None:
        try:
            self._refresh(claim)
        except DiscoveryError as error:
            if not claim.failing:
                logger.warning("cannot refresh a record of ours", extra=facts(reason=error))
            claim.failing = True
        else:
            if claim.failing:
                logger.info("a record of ours is fresh again", extra=facts(path=claim.path))
            claim.failing = False

    def _refresh(self, claim: _Claim) -> None:
        found = claim.directory.touch(claim.name, claim.inode)
        if found is Found.GONE:
            self._restore(claim)
        elif found is Found.REPLACED and not claim.replaced:
            logger.warning(
                "another process replaced a record of ours; leaving it alone",
                extra=facts(path=claim.path),
            )
        claim.replaced = found is Found.REPLACED

    def _restore(self, claim: _Claim) -> None:
        try:
            claim.inode = claim.directory.write(claim.name, claim.value, create=True)
        except ConflictError:
            # Someone was faster; the next refresh sees who.
            return
        logger.warning(
            "someone removed a record of ours; wrote it anew", extra=facts(path=claim.path)
        )
