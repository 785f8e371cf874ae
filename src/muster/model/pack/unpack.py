"""Put a pack's files somewhere: into a fresh directory, or into the cache. Blocks."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from muster.content.disk import sync_directory
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError
from muster.model.pack.manifest import PackedFile
from muster.model.pack.read import PackReader

__all__ = ["ImportedPack", "import_pack", "unpack_into"]


class ImportedPack(msgspec.Struct, frozen=True, kw_only=True):
    """What importing did, by file name: put into the cache, or found there."""

    imported: tuple[PackedFile, ...]
    present: tuple[PackedFile, ...]


def import_pack(reader: PackReader, store: BlobStore) -> ImportedPack:
    """Put every file of a pack into ``store``; none is pruned before all are there.

    Files that are right stay in the store even if a later one is not: they are what they are.

    Raises:
        ContentError: The pack is damaged.
        StoreError: The store cannot be read or written, or has no room.
    """
    imported: list[PackedFile] = []
    present: list[PackedFile] = []
    seen: set[Digest] = set()

    def receive(file: PackedFile, pieces: Iterator[bytes]) -> None:
        if file.digest in seen or store.find(file.digest) is not None:
            present.append(file)
            return
        store.make_room(file.size_bytes)
        with store.stage(file.digest, cap_bytes=file.size_bytes, source=file.name) as staged:
            for piece in pieces:
                staged.write(piece)
            staged.commit()
        seen.add(file.digest)
        imported.append(file)

    with store.lease(file.digest for file in reader.manifest.members()):
        reader.read_files(receive)
    return ImportedPack(imported=tuple(imported), present=tuple(present))


def unpack_into(reader: PackReader, directory: Path, *, replace: bool = False) -> None:
    """Write a pack's files into ``directory``, which appears complete or stays as it was.

    Args:
        reader: The pack.
        directory: Where to; must not exist or be empty, unless ``replace``.
        replace: Whether a directory with files may be replaced as a whole. One with directories in
            it is refused all the same: it is more than an unpacked model.

    Raises:
        ContentError: The pack is damaged, or the directory is in the way or cannot be written.
    """
    directory = Path(os.path.realpath(directory))  # what a link leads to, not the link
    _check_target(directory, replace=replace)
    aside = directory.with_name(f".muster-unpack.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with _disk_errors(f"cannot write {directory}"):
            directory.parent.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
        reader.read_files(lambda file, pieces: _write(aside / file.name, pieces))
        with _disk_errors(f"cannot write {directory}"):
            sync_directory(aside)
            _put(aside, directory, replace=replace)
            sync_directory(directory.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_target(directory: Path, *, replace: bool) -> None:
    """Refuse a directory that must not be written; see ``unpack_into``."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ContentError(f"cannot unpack into {directory}: {error.strerror}") from error
    if not entries:
        return
    inner = next((each.name for each in entries if each.is_dir(follow_symlinks=False)), None)
    if not replace:
        raise ContentError(
            f"{directory} is not empty", hint="give a new directory, or --force to replace it"
        )
    if inner is not None:
        raise ContentError(
            f"{directory} is not replaced: it holds the directory {inner!r}",
            hint="remove it yourself, or give another",
        )


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with _disk_errors(f"cannot write {path.name!r}"), path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _put(aside: Path, directory: Path, *, replace: bool) -> None:
    _check_target(directory, replace=replace)  # again: reading may have taken long
    if replace and directory.exists():
        old = aside.with_name(aside.name + ".old")
        directory.rename(old)
        try:
            aside.rename(directory)
        except OSError:
            old.rename(directory)
            raise
        shutil.rmtree(old)
        return
    aside.rename(directory)  # onto an empty directory too


@contextlib.contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ContentError(f"{doing}: {error.strerror or error}") from error
