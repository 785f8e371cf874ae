"""Where a file may be had: the kinds of places, and how each is shown without what may be secret."""

from __future__ import annotations

import enum
import urllib.parse
from pathlib import Path

import msgspec

from muster.content.name import check_file_name
from muster.errors import ContentError
from muster.model.checked_file import CheckedFile

__all__ = [
    "HttpKind",
    "HttpPlace",
    "HubCachePlace",
    "LocalPlace",
    "Place",
    "file_name",
    "redact",
]


class HttpKind(enum.Enum):
    """Who is asked over HTTP: it decides about tokens and redirects."""

    WORKER = "worker"
    HUB = "hub"


class HttpPlace(msgspec.Struct, frozen=True):
    """A file behind http or https.

    Attributes:
        url: Its address, as the card spells it.
        kind: Who answers there.
        connect_to: The address to connect to instead of looking the host up again: the one that was
            found to be allowed. ``None`` where the name itself is allowed.
    """

    url: str
    kind: HttpKind = HttpKind.WORKER
    connect_to: str | None = None

    def __str__(self) -> str:
        return redact(self.url)

    @property
    def source(self) -> str:
        """Who answers: scheme, host and port, for scores."""
        scheme, _, rest = redact(self.url).partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"


class LocalPlace(msgspec.Struct, frozen=True):
    """A file on this host."""

    path: Path

    def __str__(self) -> str:
        text = str(self.path)
        return text if text.isprintable() else repr(text)

    @property
    def source(self) -> str:
        """This host's disk, for scores."""
        return "disk"


class HubCachePlace(msgspec.Struct, frozen=True):
    """A file of a repository's main revision in a model hub's cache on this host."""

    root: Path
    repository: str
    name: str

    def __str__(self) -> str:
        return f"{self.root}: {self.repository}/{self.name}"

    @property
    def source(self) -> str:
        """This host's disk, for scores."""
        return "disk"

    def resolve(self) -> LocalPlace | None:
        """The file's own place, or ``None`` if the cache has not got it. Reads the disk."""
        folder = self.root / ("models--" + self.repository.replace("/", "--"))
        try:
            revision = (folder / "refs" / "main").read_text("ascii").strip()
            path = folder / "snapshots" / check_file_name(revision) / self.name
            return LocalPlace(path) if path.is_file() else None
        except (OSError, ValueError, ContentError):
            return None


Place = HttpPlace | LocalPlace | HubCachePlace


def redact(url: str) -> str:
    """``url`` without what may be secret: userinfo, query and fragment."""
    shown = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = shown.partition("://")
    if not separator:
        return shown
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def file_name(file: CheckedFile) -> str:
    """The file's real name: its last path segment, percent-decoded if it is a URL's.

    Raises:
        ContentError: If it has none, or one that is unsafe in a directory of ours.
    """
    name = file.basename() or ""
    if file.url is not None:
        try:
            name = urllib.parse.unquote(name, errors="strict")
        except UnicodeDecodeError as error:
            raise ContentError(f"unsafe file name {name!r}: it is not valid UTF-8") from error
    return check_file_name(name)
