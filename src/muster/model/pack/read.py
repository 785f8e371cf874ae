"""Read a pack, trusting nothing in it. Blocks.

The manifest comes first and says what must follow, header by header and byte by byte; anything else
is an error that names the member. Nothing is held in memory but the manifest, and a file's reader
learns of wrong bytes before it is told that the file has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from blake3 import blake3

from muster.content.disk import CHUNK_BYTES
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
from muster.model.pack.tar import (
    BLOCK_BYTES,
    END,
    member_header,
    padding_of,
    size_in,
    stored_name,
)

__all__ = ["PackReader", "Receiver", "is_pack"]

Receiver = Callable[[PackedFile, Iterator[bytes]], None]
"""Takes one file: the pieces raise instead of ending if they are not the file's."""

_AGAIN = "copy the file again, and compare the sizes"


def is_pack(start: bytes) -> bool:
    """Whether a file that starts so, with 512 bytes or more, is meant to be a pack."""
    return start[: len(MANIFEST_NAME) + 1] == MANIFEST_NAME.encode() + b"\0"


class PackReader:
    """One pass over one pack; the manifest is read, checked and there once this is made.

    Args:
        stream: The pack, from its first byte; need not seek.
        label: What to call it in messages.

    Raises:
        ContentError: It is no pack, or its beginning is damaged.
    """

    def __init__(self, stream: BinaryIO, *, label: str) -> None:
        self._stream = stream
        self._label = label
        written = self._read_manifest()
        try:
            self.manifest = PackManifest.from_bytes(written)
        except ContentError as error:
            raise ContentError(f"{label}: {error.message}", hint=error.hint) from error
        expected = self.manifest.checksums(written)
        self._expect_header(CHECKSUMS_NAME, len(expected))
        if self._take(len(expected), CHECKSUMS_NAME) != expected:
            raise self._damaged(f"{CHECKSUMS_NAME} is not that of its manifest")
        self._expect_padding(len(expected), CHECKSUMS_NAME)

    def read_files(self, receive: Receiver) -> None:
        """Give every file to ``receive``, once and in the order they come; to be called once.

        Raises:
            ContentError: A file is missing, has other bytes (``DigestMismatchError``), or there is
                something the manifest does not list. Files given before may have been right.
        """
        for file in self.manifest.members():
            self._expect_header(FOLDER + file.name, file.size_bytes)
            pieces = self._pieces(file)
            receive(file, pieces)
            for _ in pieces:  # what the receiver did not want counts too
                pass
            self._expect_padding(file.size_bytes, FOLDER + file.name)
        block = self._read(len(END))
        if block != END:
            if len(block) < len(END) and not any(block):
                raise self._cut("its end")
            raise self._damaged(f"{stored_name(block)!r} follows the last file")
        if self._read(1):
            raise self._damaged("something follows its end")

    def _read_manifest(self) -> bytes:
        block = self._read(BLOCK_BYTES)
        size_bytes = size_in(block) if len(block) == BLOCK_BYTES and is_pack(block) else None
        if size_bytes is None or member_header(MANIFEST_NAME, size_bytes) != block:
            raise ContentError(
                f"{self._label} is not a pack: it does not begin with {MANIFEST_NAME}",
                hint="give a file that `muster pack` wrote; decompress it first if need be",
            )
        if size_bytes > MAX_MANIFEST_BYTES:
            raise self._damaged(
                f"{MANIFEST_NAME} claims {size_bytes} bytes, more than {MAX_MANIFEST_BYTES}"
            )
        written = self._take(size_bytes, MANIFEST_NAME)
        self._expect_padding(size_bytes, MANIFEST_NAME)
        return written

    def _pieces(self, file: PackedFile) -> Iterator[bytes]:
        hasher = blake3()
        missing = file.size_bytes
        while missing:
            piece = self._take(min(missing, CHUNK_BYTES), FOLDER + file.name)
            hasher.update(piece)
            missing -= len(piece)
            if missing:
                yield piece
            else:
                self._check(file, hasher.hexdigest())
                yield piece
        if not file.size_bytes:
            self._check(file, hasher.hexdigest())

    def _check(self, file: PackedFile, got: str) -> None:
        if got != file.digest.hex:
            raise DigestMismatchError(
                f"{self._label}: {FOLDER}{file.name} is damaged: expected {file.digest}, "
                f"got {Digest(got)}",
                hint=_AGAIN,
            )

    def _expect_header(self, name: str, size_bytes: int) -> None:
        expected = member_header(name, size_bytes)
        got = self._read(len(expected))
        if got == expected:
            return
        if len(got) < len(expected):
            raise self._cut(f"the header of {name!r}")
        if not any(got[:BLOCK_BYTES]):
            raise self._damaged(f"{name!r} is missing")
        found = stored_name(got)
        if found == stored_name(expected):
            raise self._damaged(f"the header of {name!r} is not what its manifest demands")
        raise self._damaged(f"{found!r} is where {name!r} should be")

    def _expect_padding(self, size_bytes: int, name: str) -> None:
        if any(self._take(padding_of(size_bytes), name)):
            raise self._damaged(f"what fills up {name!r} is not zeros")

    def _take(self, size_bytes: int, name: str) -> bytes:
        data = self._read(size_bytes)
        if len(data) < size_bytes:
            raise self._cut(repr(name))
        return data

    def _read(self, size_bytes: int) -> bytes:
        """So many bytes, fewer only at the stream's end."""
        parts: list[bytes] = []
        try:
            while size_bytes and (part := self._stream.read(size_bytes)):
                parts.append(part)
                size_bytes -= len(part)
        except OSError as error:
            raise ContentError(f"cannot read {self._label}: {error.strerror or error}") from error
        return b"".join(parts)

    def _cut(self, where: str) -> ContentError:
        return self._damaged(f"it ends within {where}")

    def _damaged(self, what: str) -> ContentError:
        return ContentError(f"the pack {self._label} cannot be used: {what}", hint=_AGAIN)
