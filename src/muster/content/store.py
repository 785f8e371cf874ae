"""The store: blobs named by their digests, and views that give them names.

::

    <root>/blobs/<64 hex>                              a verified file, 0444
    <root>/by-slug/<slug>/<mdcsum>/<file name>         a link to a blob
    <root>/claims/  leases/  quarantine/               who downloads, who uses, what went bad

The first two are the layout of Dynamo 1.6.1's cache, so a store may be pointed at it. All methods
block and are meant for threads; any number of threads and processes may use one root at once,
without locks: what is visible under a final name is complete, and appears there by renaming.

Invariant: a path that ``find`` or ``commit`` returned held exactly the digest's bytes then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from muster.clock import SYSTEM_CLOCK, Clock
from muster.content import room, view
from muster.content.claim import Claim, take_claim
from muster.content.directory import check_directory, make_private_directory, warn_if_open
from muster.content.disk import Fingerprint, remove_entry
from muster.content.examine import Examined, examine
from muster.content.inventory import Inventory, scan_store
from muster.content.lease import Lease
from muster.content.promise import Promise
from muster.content.prune import PrunePlan
from muster.content.pruning import Pruned, carry_out
from muster.content.quarantine import list_quarantine, set_aside
from muster.content.staging import StagedBlob
from muster.content.sweep import sweep
from muster.digest import Digest
from muster.errors import StoreError
from muster.log import facts

__all__ = ["BlobStore"]

logger = logging.getLogger(__name__)

_TRIES = 4
"""How often a blob that others replace while we look is looked at again."""


class BlobStore:
    """Verified files under one root directory.

    No directory from the root down may be a link or somebody else's; see ``directory``. Every
    method that needs one raises ``StoreError`` then.

    Args:
        root: The directory; made on first need. A relative one counts from the working directory
            at this moment.
        clock: Its wall time decides which leftovers are old, and what was used when.
        max_bytes: What the store may take, for ``make_room``; ``None`` for no limit.
        min_free_bytes: Space on the disk that ``make_room`` leaves.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
        max_bytes: int | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        self._root = root.absolute()
        self._blobs = self._root / "blobs"
        self._clock = clock
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self._verified: dict[Digest, Fingerprint] = {}

    @property
    def root(self) -> Path:
        """The store's directory, absolute."""
        return self._root

    def prepare(self) -> None:
        """Make the directories and sweep what killed processes left. Call once at start.

        Everything else works without it; it makes an unusable directory known early.

        Raises:
            StoreError: The directories cannot be made.
        """
        make_private_directory(self._root, self._blobs)
        warn_if_open(self._root)
        self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left, as far as it can be removed."""
        for path in sweep(self._root, now=self._clock.wall()):
            logger.info("removed a leftover", extra=facts(path=path))

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def find(self, digest: Digest) -> Path | None:
        """The blob's path if the store has it and its bytes are right, else ``None``.

        The bytes are hashed the first time this process asks for the blob, and again when the
        file's identity, size or time has changed. A bad blob is logged and moved into quarantine,
        so that it is fetched again.

        Raises:
            StoreError: The store cannot be read, or a bad blob cannot be moved.
        """
        if not check_directory(self._root, self._blobs):
            return None
        path = self.blob_path(digest)
        for _ in range(_TRIES):
            known = self._verified.get(digest)
            found = examine(path, digest, known=known, used_at=self._clock.wall())
            if found is None:
                return None
            if not found.problem:
                self._remember(digest, found.seen)
                return path
            if self._set_aside(path, found):
                return None
        return None

    def verify(self, digest: Digest, *, set_aside: bool = True) -> str | None:
        """Hash a blob whatever is known of it. This is no use of it: its age stays.

        Args:
            digest: Which.
            set_aside: Whether to move a bad one into quarantine.

        Returns:
            What is wrong with it, empty if nothing; ``None`` if it is not there.

        Raises:
            StoreError: The store cannot be read, or a bad blob cannot be moved.
        """
        if not check_directory(self._root, self._blobs):
            return None
        path = self.blob_path(digest)
        found = examine(path, digest, known=None, used_at=None)
        if found is None:
            return None
        if found.problem and set_aside:
            self._set_aside(path, found)
        return found.problem

    def stage(self, digest: Digest, *, cap_bytes: int, source: str) -> StagedBlob:
        """Start to put a blob into the store. Touches no disk before the first write.

        Args:
            digest: What the bytes must hash to.
            cap_bytes: Most bytes accepted.
            source: Where they come from, for messages; must hold no secrets.
        """
        return StagedBlob(
            self.blob_path(digest),
            root=self._root,
            promise=Promise(digest, cap_bytes=cap_bytes, source=source),
            on_commit=lambda fingerprint: self._remember(digest, fingerprint),
        )

    def claim(self, digest: Digest) -> Claim | None:
        """The right to download a blob, or ``None`` while a live process of this host has it.

        It keeps processes from doing one thing twice and nothing more: whatever the disk refuses
        counts as granted, and nobody who ignores it does harm.
        """
        directory = self._root / "claims"
        try:
            make_private_directory(self._root, directory)
        except StoreError:
            return Claim(directory / digest.hex, None)
        return take_claim(directory / digest.hex, now=self._clock.wall())

    def lease(self, digests: Iterable[Digest]) -> Lease:
        """Say that this process uses blobs, and the views of them, so that nobody prunes them.

        Take it before ``find``: what is found under a lease stays. Where the disk refuses, there
        is no protection, and no error.
        """
        return Lease(self._root, digests)

    def make_room(self, needed_bytes: int) -> None:
        """See that ``needed_bytes`` more fit; blobs nobody uses make way for the store's budget.

        Raises:
            StoreError: They would leave less space on the disk than is to stay free, or what is in
                use leaves no room in the budget.
        """
        room.require_free_space(self._root, needed_bytes, min_free_bytes=self._min_free_bytes)
        if self._max_bytes is not None:
            room.make_room(self._root, needed_bytes, max_bytes=self._max_bytes, clock=self._clock)

    def scan(self) -> Inventory:
        """What is in the store.

        Raises:
            StoreError: It cannot be read.
        """
        return scan_store(self._root, now=self._clock.wall())

    def prune(self, plan: PrunePlan) -> Pruned:
        """Remove what ``plan`` says, if nobody has come to use it since, and views that lead nowhere.

        Raises:
            StoreError: The disk refuses; what was removed before stays removed.
        """
        return carry_out(self._root, plan, clock=self._clock)

    def empty_quarantine(self) -> int:
        """Remove the bad blobs that were kept, and give how many those were."""
        kept = list_quarantine(self._root)
        for each in kept:
            with contextlib.suppress(OSError):
                remove_entry(each.path)
        return len(kept)

    def view_directory(self, slug: str, mdcsum: str) -> Path:
        """Where the view is, or would be.

        Raises:
            ContentError: If the slug or the digest has a character it may not have.
        """
        return view.view_directory(self._root, slug, mdcsum)

    def link_view(
        self,
        slug: str,
        mdcsum: str,
        names: Mapping[str, Digest],
        *,
        listed: Mapping[str, Digest] | None = None,
    ) -> Path:
        """Make a directory in which every name is a link to its blob, and which has nothing else.

        A directory that is there already is kept if it is right, else exchanged for a new one in
        one step. Any number of processes may do this at once. Whether the blobs exist is not looked
        at.

        Args:
            slug: The card's slug; may be empty.
            mdcsum: The card's digest, 64 hexadecimal digits.
            names: Which blob each name stands for.
            listed: All names the card lists: those that are there with their blobs stay, because
                another process may have got a file that this one did not.

        Returns:
            The directory.

        Raises:
            ContentError: If a name, the slug or the digest is unsafe; then nothing is made.
            StoreError: The disk refused.
        """
        directory = self.view_directory(slug, mdcsum)
        view.link_view(
            self._root,
            directory,
            {name: self.blob_path(digest) for name, digest in names.items()},
            listed={name: self.blob_path(digest) for name, digest in (listed or {}).items()},
            now=self._clock.wall(),
        )
        return directory

    def _remember(self, digest: Digest, fingerprint: Fingerprint) -> None:
        with self._lock:
            self._verified[digest] = fingerprint

    def _set_aside(self, path: Path, found: Examined) -> bool:
        return set_aside(self._root, path, found.seen, found.problem, now=self._clock.wall())
