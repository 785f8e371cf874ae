"""A file a card names: where it is, and what its bytes must be."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from muster.content.hashing import hash_file
from muster.digest import Digest
from muster.errors import CardError, ContentError
from muster.model.file_url import last_segment, parse_url, url_path
from muster.model.strictjson.compound import Field, Maybe, Record, if_none
from muster.model.strictjson.shape import TEXT, U64, TextAs

__all__ = ["CHECKED_FILE", "CheckedFile"]


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file by its digest, at a local path or a URL. Exactly one of ``path`` and ``url`` is set.

    ``url`` is normalised. ``size`` is in bytes, ``None`` when the card does not say.
    """

    path: str | None = None
    url: str | None = None
    checksum: Digest
    size: int | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.url is None):
            raise CardError("a checked file has either a path or a URL")

    @classmethod
    def at(cls, location: str, checksum: Digest, size: int | None = None) -> CheckedFile:
        """A file whose place is given as a card writes it: a URL if it parses as one, else a path.

        ``c:/a`` therefore is a URL of the scheme ``c``, as it is for Dynamo.
        """
        url = parse_url(location)
        if url is None:
            return cls(path=location, checksum=checksum, size=size)
        return cls(url=url, checksum=checksum, size=size)

    @classmethod
    def from_disk(cls, path: str | os.PathLike[str]) -> CheckedFile:
        """Hash the file at ``path``; the path is kept as given. Blocks while it reads.

        Raises:
            ContentError: ``File not found: ...``, ``Not a file: ...``, or why it cannot be read.
        """
        checksum, size = hash_file(path)
        return cls(path=os.fspath(path), checksum=checksum, size=size)

    @property
    def location(self) -> str:
        """The path or URL: the card's ``path``."""
        return self.path if self.path is not None else self.url or ""

    def basename(self) -> str | None:
        """The file's name as the card's digest has it.

        A path's last component, ``None`` if that is ``..``, missing, or not UTF-8. A URL's last
        segment that is not empty, percent-encoded as it is; ``None`` if all are empty.
        """
        if self.url is not None:
            segments = [segment for segment in url_path(self.url).split("/") if segment]
            return segments[-1] if segments else None
        return _last_component(self.path or "")

    def is_local(self) -> bool:
        """Whether it is a path and something exists there. Asks the file system."""
        return self.path is not None and Path(self.path).exists()

    def with_url(self, url: str) -> CheckedFile:
        """The same file at a URL.

        Raises:
            CardError: If ``url`` is no absolute URL.
        """
        parsed = parse_url(url)
        if parsed is None:
            raise CardError(f"not an absolute URL: {url!r}")
        return msgspec.structs.replace(self, url=parsed, path=None)

    def with_path(self, path: str | os.PathLike[str]) -> CheckedFile:
        """The same file at a local path."""
        return msgspec.structs.replace(self, path=os.fspath(path), url=None)

    def with_dir(self, directory: str | os.PathLike[str]) -> CheckedFile:
        """The same file under its own name in ``directory``, at a local path.

        A file that has no name is left as it is. So is one whose URL ends in ``/``, although
        ``basename`` finds a name for it further up.
        """
        if self.url is not None:
            name = last_segment(self.url) or None
        else:
            name = _last_component(self.path or "")
        return self if name is None else self.with_path(os.path.join(directory, name))  # noqa: PTH118 - keeps the directory's spelling

    def checksum_matches(self, file: str | os.PathLike[str]) -> bool:
        """Whether ``file`` has these bytes; no, too, if it cannot be read. Blocks while it reads."""
        try:
            return hash_file(file)[0] == self.checksum
        except ContentError:
            return False


def _last_component(path: str) -> str | None:
    components = [part for part in path.split("/") if part not in ("", ".")]
    if not components or components[-1] == "..":
        return None
    try:
        components[-1].encode()
    except UnicodeEncodeError:
        return None
    return components[-1]


def _from_wire(location: str, checksum: Digest, size: int | None) -> CheckedFile:
    return CheckedFile.at(location, checksum, size)


CHECKED_FILE = Record(
    "struct CheckedFile",
    _from_wire,
    Field("path", TEXT, attribute="location"),
    Field("checksum", TextAs("a string in the format `{algo}:{hash}`", Digest.parse)),
    Field("size", Maybe(U64), None, omit=if_none),
)
"""How a checked file is written: ``{"path", "checksum", "size"}``, the size only if it is known."""
