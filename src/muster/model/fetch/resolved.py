"""What fetching a card gives: its files here, and how that went, file by file."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.identity import FileRole

__all__ = ["FetchProgress", "FetchState", "LeftOut", "ResolvedCard", "ResolvedFile"]


class FetchState(enum.StrEnum):
    """Where a file is on its way here."""

    CACHED = "cached"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    VERIFIED = "verified"
    FAILED = "failed"


class FetchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one file.

    A file that was in the cache has one event, ``cached``; so has one that another task or process
    of this host was fetching, once that has it. Any other has ``fetching`` at its
    beginning and after each piece, ``verifying`` when all bytes are here, then ``verified`` or
    ``failed``. ``total_bytes`` is the card's word. ``seconds`` counts from the file's first event.
    ``place`` holds no secrets. Extra files may fail without failing the card. ``code`` and ``reason``
    say why a file failed.
    """

    name: str
    role: FileRole
    digest: Digest
    state: FetchState
    done_bytes: int
    total_bytes: int | None
    seconds: float
    place: str = ""
    code: str = ""
    reason: str = ""


class ResolvedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is here. ``fetched`` tells it from one that somebody else has put there."""

    name: str
    path: Path
    digest: Digest
    size_bytes: int
    role: FileRole
    fetched: bool


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """An extra file the model is served without, and why. ``name`` is as good as is known."""

    name: str
    digest: Digest
    code: str
    message: str


class ResolvedCard(msgspec.Struct, frozen=True, kw_only=True):
    """A card whose files are all on this host, verified.

    ``card`` is the one that was asked for with every file's location replaced by a local path and
    without the extra files left out; ``mdcsum`` is that of the card asked for, which identifies the
    model. ``local_dir`` holds the files under their real names, for loaders that look for siblings;
    it is ``None`` when the disk could not be used: the files are in memory then.
    """

    card: ModelDeploymentCard
    mdcsum: str
    local_dir: Path | None
    files: tuple[ResolvedFile, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float

    def find_file(self, name: str) -> Path | None:
        """The path of the file of that name, or ``None``; a typed slot's before an extra file's."""
        return next((file.path for file in self.files if file.name == name), None)
