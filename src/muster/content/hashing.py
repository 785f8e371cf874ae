"""The digest and size of a file, both from one reading of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from blake3 import blake3

from muster.digest import Digest
from muster.errors import ContentError

__all__ = ["hash_file"]

_PIECE_BYTES = 4 * 1024 * 1024
_THREADED_BYTES = 1024 * 1024
"""From here on several threads hash faster than one."""


def hash_file(path: str | os.PathLike[str]) -> tuple[Digest, int]:
    """Hash the file at ``path``, following links.

    Reads it in pieces: a file that shrinks meanwhile cannot kill the process as a memory map would,
    and the size given is that of the bytes hashed, whatever the file's size is before or after.
    Blocks; on an event loop call it through ``asyncio.to_thread``.

    Returns:
        The digest, and how many bytes it is of.

    Raises:
        ContentError: ``File not found: ...``, ``Not a file: ...`` (a directory, a pipe, a device),
            or why it cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ContentError(f"File not found: {_shown(path)}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ContentError(f"Not a file: {_shown(path)}")
        return _hash(descriptor, status.st_size)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _hash(descriptor: int, expected_bytes: int) -> tuple[Digest, int]:
    threads = blake3.AUTO if expected_bytes >= _THREADED_BYTES else 1
    hasher = blake3(max_threads=threads)
    buffer = memoryview(bytearray(min(_PIECE_BYTES, expected_bytes + 1)))
    size_bytes = 0
    while count := os.readv(descriptor, [buffer]):
        hasher.update(buffer[:count])
        size_bytes += count
    return Digest(hasher.hexdigest()), size_bytes


def _unreadable(path: str | os.PathLike[str], error: OSError | ValueError) -> ContentError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ContentError(f"Cannot read {_shown(path)}: {reason}")


def _shown(path: str | os.PathLike[str]) -> str:
    text = str(Path(path))
    return text if text.isprintable() else repr(text)
