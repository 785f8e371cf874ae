"""Which links in a model's directory are followed.

A link may lead anywhere, and what it leads to would be served to whoever asks. So one that stays in
the model's directory is followed, and one into a hub cache's blobs, where a snapshot's names are
links to files called by their hashes; no other.

The cache's layout: ``<cache>/models--<owner>--<name>/{blobs,snapshots/<revision>}``, since 2.x also
a store that all its repositories share, ``<cache>/blobs/<2 hex digits>/<hash>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

import msgspec

__all__ = ["LinkRule"]

_REPOSITORY = "models--"
_BLOBS = "blobs"
_SHARD = re.compile(r"[0-9a-f]{2}")


class LinkRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a link in one directory may lead to. All paths are real ones: no part is a link.

    Attributes:
        directory: The model's directory.
        blobs: The blobs of the hub repository the directory is a snapshot of, if it is one.
        shared: The store shared by the repositories of that cache.
    """

    directory: PurePath
    blobs: frozenset[PurePath] = frozenset()
    shared: frozenset[PurePath] = frozenset()

    @classmethod
    def of(cls, directory: str | os.PathLike[str]) -> LinkRule:
        """The rule for a directory, however it is reached. Asks the file system."""
        spelled, real = Path(os.path.abspath(directory)), _real(directory)  # noqa: PTH100 - Path.absolute keeps ..
        repositories = [*_repositories(spelled), *_repositories(real)]
        return cls(
            directory=real,
            blobs=frozenset(_real(each / _BLOBS) for each in repositories),
            shared=frozenset(_real(each.parent / _BLOBS) for each in repositories),
        )

    def follows(self, path: str | os.PathLike[str]) -> bool:
        """Whether what is at ``path`` may be served. Asks the file system."""
        return self.allows(_real(path))

    def allows(self, target: PurePath) -> bool:
        """Whether a link may lead to ``target``, a real path.

        From a snapshot only that repository's blobs count; from any other directory, such as one
        made of links to a snapshot's files, those of any repository.
        """
        if target.is_relative_to(self.directory):
            return True
        if self.blobs:
            return target.parent in self.blobs or self._is_shared(target)
        return target.parent.name == _BLOBS and _is_repository(target.parent.parent)

    def _is_shared(self, target: PurePath) -> bool:
        shard = target.parent
        return shard.parent in self.shared and _SHARD.fullmatch(shard.name) is not None


def _repositories(directory: Path) -> Iterator[Path]:
    """The folders of hub repositories that ``directory`` is in a snapshot of."""
    for folder in directory.parents:
        if _is_repository(folder) and (folder / "snapshots") in directory.parents:
            yield folder


def _is_repository(folder: PurePath) -> bool:
    return folder.name.startswith(_REPOSITORY)


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))
