"""Write a pack: the same model gives the same bytes, whatever directory it lies in. Blocks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from muster.content.disk import CHUNK_BYTES, sync_directory
from muster.digest import Digest
from muster.errors import ContentError, DigestMismatchError
from muster.model.pack.manifest import (
    CHECKSUMS_NAME,
    FOLDER,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PackedFile,
    PackManifest,
)
from muster.model.pack.tar import END, member_header, padding_of

__all__ = ["write_pack", "write_pack_file"]


def write_pack(stream: BinaryIO, manifest: PackManifest, path_of: Callable[[str], Path]) -> int:
    """Write a pack to ``stream``; how many bytes it took. What is read is what was hashed.

    Args:
        stream: Where to; need not seek.
        manifest: What is in it.
        path_of: Where the file of a name is.

    Raises:
        ContentError: A file cannot be read, or is not (any more) what the manifest says.
        OSError: The stream refuses.
    """
    written = manifest.to_bytes()
    if len(written) > MAX_MANIFEST_BYTES:
        raise ContentError(
            f"the pack's manifest would take {len(written)} bytes, more than {MAX_MANIFEST_BYTES}",
            hint="see that the directory holds one model only",
        )
    size_bytes = 0
    for piece in _pieces(manifest, written, path_of):
        stream.write(piece)
        size_bytes += len(piece)
    stream.flush()
    return size_bytes


def write_pack_file(target: Path, manifest: PackManifest, path_of: Callable[[str], Path]) -> int:
    """Write a pack to the file ``target``, which appears whole or not at all; see ``write_pack``.

    What was there is replaced; a link stays, and what it leads to is replaced. A pipe or device is
    written to.

    Raises:
        ContentError: As ``write_pack``, or ``target`` cannot be written.
    """
    if target.exists() and not target.is_file():
        return _write_to_special(target, manifest, path_of)
    target = Path(os.path.realpath(target))
    temporary = target.with_name(f".muster-pack.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            size_bytes = write_pack(stream, manifest, path_of)
            os.fsync(stream.fileno())
        temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise ContentError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return size_bytes


def _write_to_special(target: Path, manifest: PackManifest, path_of: Callable[[str], Path]) -> int:
    try:
        with target.open("wb") as stream:
            return write_pack(stream, manifest, path_of)
    except OSError as error:  # a directory too
        raise ContentError(f"cannot write {target}: {error.strerror or error}") from error


def _pieces(
    manifest: PackManifest, written: bytes, path_of: Callable[[str], Path]
) -> Iterator[bytes]:
    for name, content in (
        (MANIFEST_NAME, written),
        (CHECKSUMS_NAME, manifest.checksums(written)),
    ):
        yield member_header(name, len(content))
        yield content
        yield bytes(padding_of(len(content)))
    for file in manifest.members():
        yield member_header(FOLDER + file.name, file.size_bytes)
        yield from _content(file, path_of(file.name))
        yield bytes(padding_of(file.size_bytes))
    yield END


def _content(file: PackedFile, path: Path) -> Iterator[bytes]:
    hasher = blake3()
    got_bytes = 0
    try:
        with path.open("rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                got_bytes += len(piece)
                if got_bytes > file.size_bytes:
                    break
                hasher.update(piece)
                yield piece
    except OSError as error:
        raise ContentError(f"cannot read {path}: {error.strerror or error}") from error
    if got_bytes != file.size_bytes or Digest(hasher.hexdigest()) != file.digest:
        raise DigestMismatchError(
            f"{path} changed while it was packed", hint="pack it again when nobody writes to it"
        )
