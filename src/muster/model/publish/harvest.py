"""Which other files of a model's directory travel with its card.

The rule is Dynamo 1.6.1's, exactly: the card's digest covers these files, so workers that harvest
differently do not serve one model together.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from muster.errors import CardError

__all__ = ["Harvest", "LeftOutFile", "LeftOutReason", "harvest_extra_files"]

_WEIGHTS = frozenset({"safetensors", "bin", "gguf", "onnx", "tflite", "h5", "pt", "pth", "msgpack"})


class LeftOutReason(enum.StrEnum):
    """Why a directory entry does not travel."""

    TYPED = "in a typed slot of the card"
    WEIGHTS = "model weights"
    HIDDEN = "its name begins with a dot"
    README = "the read-me file"
    NOT_A_FILE = "not a regular file"
    DANGLING = "its target cannot be reached"
    NOT_UTF8 = "its name is not UTF-8"


class LeftOutFile(msgspec.Struct, frozen=True):
    """An entry that does not travel. A name that is not UTF-8 has surrogates in it."""

    name: str
    reason: LeftOutReason


class Harvest(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory gives, sorted by name. ``kept`` are paths, spelled as the directory is."""

    kept: tuple[str, ...]
    left_out: tuple[LeftOutFile, ...]


def harvest_extra_files(
    directory: str | os.PathLike[str], taken_names: AbstractSet[str]
) -> Harvest:
    """List the files beside the typed slots' in ``directory``, not in its sub-directories.

    A link counts as what it points to, wherever that is. A directory that does not exist has
    nothing to give. Files are not opened: their size and content are the caller's concern.

    Args:
        directory: The model's directory.
        taken_names: The names of the typed slots' files.

    Raises:
        CardError: If the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names, as they are spelled
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise CardError(f"Cannot list {os.fspath(directory)}: {error.strerror}") from error
    kept: list[str] = []
    left_out: list[LeftOutFile] = []
    for name in names:
        path = os.path.join(directory, name)  # noqa: PTH118 - a Path would not keep the spelling
        reason = _by_name(name, taken_names) or _by_kind(path)
        if reason is None:
            kept.append(path)
        else:
            left_out.append(LeftOutFile(name, reason))
    return Harvest(kept=tuple(kept), left_out=tuple(left_out))


def _by_name(name: str, taken_names: AbstractSet[str]) -> LeftOutReason | None:
    """Why a file of this name is left out; ``None`` if its name is no reason."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return LeftOutReason.NOT_UTF8
    if name in taken_names:
        return LeftOutReason.TYPED
    if name.startswith("."):
        return LeftOutReason.HIDDEN
    if name == "README.md":
        return LeftOutReason.README
    stem, dot, extension = name.rpartition(".")
    return LeftOutReason.WEIGHTS if stem and dot and extension in _WEIGHTS else None


def _by_kind(path: str) -> LeftOutReason | None:
    """Why what is at ``path`` is left out; ``None`` if it is a file."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return LeftOutReason.DANGLING
    return None if stat.S_ISREG(mode) else LeftOutReason.NOT_A_FILE
