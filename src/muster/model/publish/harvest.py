"""Which other files of a model's directory travel with its card.

The rule is Dynamo 1.6.1's: the card's digest covers these files, so workers that harvest differently
do not serve one model together. It is narrower in two points, both of which make a model fail with
Dynamo or give away what is not the model's: a file over a limit stays, and so does one that is a
link to a place which ``links`` does not follow.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from muster.config.settings import MetadataSettings
from muster.errors import CardError
from muster.model.publish.links import LinkRule

__all__ = ["Harvest", "LeftOutFile", "LeftOutReason", "harvest_extra_files", "is_weights"]

_MAX_BYTES = MetadataSettings().max_extra_bytes
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
    LINK_OUTSIDE = "a link that leads out of the model's directory"
    TOO_LARGE = "larger than files that travel along may be"

    @property
    def is_surprise(self) -> bool:
        """Whether somebody who put the file there would expect it to travel."""
        return self in _SURPRISES


_SURPRISES = frozenset(
    {
        LeftOutReason.DANGLING,
        LeftOutReason.NOT_UTF8,
        LeftOutReason.LINK_OUTSIDE,
        LeftOutReason.TOO_LARGE,
    }
)


class LeftOutFile(msgspec.Struct, frozen=True):
    """An entry that does not travel. A name that is not UTF-8 has surrogates in it."""

    name: str
    reason: LeftOutReason


class Harvest(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory gives, sorted by name. ``kept`` are paths, spelled as the directory is."""

    kept: tuple[str, ...]
    left_out: tuple[LeftOutFile, ...]


def harvest_extra_files(
    directory: str | os.PathLike[str],
    taken_names: AbstractSet[str],
    *,
    max_bytes: int = _MAX_BYTES,
) -> Harvest:
    """List the files beside the typed slots' in ``directory``, not in its sub-directories.

    A link that is followed counts as what it leads to. A directory that does not exist has nothing
    to give. Files are not opened: their content is the caller's concern.

    Args:
        directory: The model's directory.
        taken_names: The names of the typed slots' files.
        max_bytes: Size of the largest file that travels; by default the setting's default.

    Raises:
        CardError: If the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names, as they are spelled
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise CardError(f"Cannot list {os.fspath(directory)}: {error.strerror}") from error
    rule = LinkRule.of(directory)
    kept: list[str] = []
    left_out: list[LeftOutFile] = []
    for name in names:
        path = os.path.join(directory, name)  # noqa: PTH118 - a Path would not keep the spelling
        reason = _by_name(name, taken_names) or _by_file(path, rule, max_bytes)
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
    return LeftOutReason.WEIGHTS if is_weights(name) else None


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights, as Dynamo 1.6.1 has it: by its extension."""
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and extension in _WEIGHTS


def _by_file(path: str, rule: LinkRule, max_bytes: int) -> LeftOutReason | None:
    """Why what is at ``path`` is left out; ``None`` if it is a file that travels."""
    file = Path(path)
    try:
        status = file.stat()
        is_link = file.is_symlink()
    except OSError:
        return LeftOutReason.DANGLING
    if not stat.S_ISREG(status.st_mode):
        return LeftOutReason.NOT_A_FILE
    if is_link and not rule.follows(path):
        return LeftOutReason.LINK_OUTSIDE
    return LeftOutReason.TOO_LARGE if status.st_size > max_bytes else None
