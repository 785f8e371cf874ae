"""The store: blobs named by their digests, and views that give them names.

::

    <root>/blobs/<64 hex>                              a verified file, 0444
    <root>/by-slug/<slug>/<mdcsum>/<file name>         a link to a blob

This is the layout of Dynamo 1.6.1's cache, so a store may be pointed at it. All methods block and
are meant for threads; any number of threads and processes may use one root at once, without locks:
what is visible under a final name is complete, and appears there by renaming.

Invariant: a path that ``find`` or ``commit`` returned held exactly the digest's bytes then.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from muster.clock import SYSTEM_CLOCK, Clock
from muster.content import view
from muster.content.claim import Claim, take_claim
from muster.content.disk import CHUNK_BYTES, Fingerprint, make_private_directory, store_errors
from muster.content.staging import StagedBlob, temporary_name
from muster.content.sweep import sweep
from muster.digest import Digest
from muster.errors import StoreError
from muster.log import facts

__all__ = ["BlobStore"]

logger = logging.getLogger(__name__)

# O_NONBLOCK: opening a pipe that someone put in a blob's place must not hang
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_OURS_TO_READ = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO}


class BlobStore:
    """Verified files under one root directory.

    Args:
        root: The directory; made on first need. A relative one counts from the working directory
            at this moment.
        clock: Its wall time decides which leftovers are old.
        min_free_bytes: Space on the disk that ``make_room`` leaves.
    """

    def __init__(self, root: Path, *, clock: Clock = SYSTEM_CLOCK, min_free_bytes: int = 0) -> None:
        self._root = root.absolute()
        self._blobs = self._root / "blobs"
        self._clock = clock
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
        with store_errors(f"cannot make the cache {self._root}"):
            make_private_directory(self._root, self._blobs)
        for path in sweep(self._root, now=self._clock.wall()):
            logger.info("removed a leftover of a killed process", extra=facts(path=path))

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def find(self, digest: Digest) -> Path | None:
        """The blob's path if the store has it and its bytes are right, else ``None``.

        The bytes are hashed the first time this process asks for the blob, and again when the
        file's identity, size or time has changed. A bad blob is logged and moved out of the way, so
        that it is fetched again.

        Raises:
            StoreError: The store cannot be read, or a bad blob cannot be moved.
        """
        path = self.blob_path(digest)
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_OURS_TO_READ:
                raise StoreError(f"cannot read {path}: {error.strerror}") from error
            self._set_aside(path, None, str(error.strerror))
            return None
        try:
            seen = Fingerprint.of(os.fstat(descriptor))
            if self._verified.get(digest) == seen:
                return path
            problem = _examine(descriptor, digest, seen)
        finally:
            os.close(descriptor)
        if problem:
            self._set_aside(path, seen, problem)
            return None
        self._remember(digest, seen)
        return path

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
            digest=digest,
            cap_bytes=cap_bytes,
            source=source,
            on_commit=lambda fingerprint: self._remember(digest, fingerprint),
        )

    def claim(self, digest: Digest) -> Claim | None:
        """The right to download a blob, or ``None`` while a live process of this host has it.

        It keeps processes from doing one thing twice and nothing more: whatever the disk refuses
        counts as granted, and nobody who ignores it does harm.
        """
        with contextlib.suppress(OSError):
            make_private_directory(self._root, self._root / "claims")
        return take_claim(self._root / "claims" / digest.hex, now=self._clock.wall())

    def make_room(self, needed_bytes: int) -> None:
        """See that ``needed_bytes`` more fit.

        Raises:
            StoreError: They would leave less space on the disk than is to stay free.
        """
        place = next(path for path in (self._root, *self._root.parents) if path.exists())
        with store_errors(f"cannot look at the disk of {self._root}"):
            status = os.statvfs(place)
        free_bytes = status.f_bavail * status.f_frsize
        if free_bytes - needed_bytes < self._min_free_bytes:
            raise StoreError(
                f"no room in {self._root}: {needed_bytes} bytes are needed, {free_bytes} are free and "
                f"{self._min_free_bytes} are to stay so",
                hint="free some space (muster cache prune), or set MUSTER_CACHE_DIR to a directory on "
                "another disk",
            )

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
        """Make a directory in which every name is a link to its blob.

        Idempotent; names already there that are not in ``names`` stay. A link that points elsewhere
        is replaced in one step. Any number of processes may do this at once. Whether the blobs
        exist is not looked at.

        Args:
            slug: The card's slug; may be empty.
            mdcsum: The card's digest, 64 hexadecimal digits.
            names: Which blob each name stands for.

        Returns:
            The directory.

        Raises:
            ContentError: If a name, the slug or the digest is unsafe; then nothing is made.
            StoreError: The disk refused.
        """
        return view.link_view(self._root, self._blobs, slug, mdcsum, names)

    def _remember(self, digest: Digest, fingerprint: Fingerprint) -> None:
        with self._lock:
            self._verified[digest] = fingerprint

    def _set_aside(self, path: Path, seen: Fingerprint | None, problem: str) -> None:
        """Take a bad file away from a blob's name, but never a good one that has replaced it."""
        aside = path.with_name(temporary_name(path.name, "bad"))
        with store_errors(f"cannot move the bad blob {path} out of the way"):
            try:
                path.rename(aside)
            except FileNotFoundError:
                return  # another process was faster
            if seen is not None and Fingerprint.of(aside.lstat()) != seen:
                aside.rename(path)
                return
        logger.warning(
            "cached blob failed verification; it will be fetched again",
            extra=facts(blob=path, problem=problem),
        )
        try:
            aside.unlink()
        except OSError as error:
            logger.warning("left a bad blob aside: %s", error.strerror, extra=facts(path=aside))


def _examine(descriptor: int, digest: Digest, seen: Fingerprint) -> str:
    """What is wrong with an open blob; empty if nothing."""
    if not seen.is_file:
        return "it is not a regular file"
    hasher = blake3()
    try:
        while chunk := os.read(descriptor, CHUNK_BYTES):
            hasher.update(chunk)
        after = Fingerprint.of(os.fstat(descriptor))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if after != seen:
        return "it changed while it was read"
    got = Digest(hasher.hexdigest())
    return "" if got == digest else f"its bytes hash to {got}"
