"""Where a card's file may be had: the places to ask, in order, and what a source promises.

Which places those are is a decision over the card's text and this host's ``--model-path``; nothing
here reads a file or opens a connection. What kind of place each is, and with it which source can
read it, is in the type.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from muster.content.name import check_file_name
from muster.errors import ContentError, SourceError
from muster.model.checked_file import CheckedFile

__all__ = ["FileSource", "HttpPlace", "LocalPlace", "Place", "file_name", "places", "redact"]


class HttpPlace(msgspec.Struct, frozen=True):
    """A file behind http or https; ``url`` is the card's own spelling."""

    url: str

    def __str__(self) -> str:
        return redact(self.url)


class LocalPlace(msgspec.Struct, frozen=True):
    """A file on this host."""

    path: Path

    def __str__(self) -> str:
        text = str(self.path)
        return text if text.isprintable() else repr(text)


Place = HttpPlace | LocalPlace


class FileSource(Protocol):
    """Reads the bytes of one kind of place."""

    def open(
        self, place: Place, *, cap_bytes: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open ``place`` and give its bytes as they come, in pieces of up to 1 MiB.

        Ends only at the file's end: bytes that are known to be missing raise. More than
        ``cap_bytes`` may come where the length is not known before; the reader counts.

        Raises:
            SourceError: The place does not give the file, or stops giving it.
            TooLargeError: It says before the first byte that there are more than ``cap_bytes``.
        """
        ...


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


def places(file: CheckedFile, *, model_path: Path | None) -> tuple[Place, ...]:
    """Where to ask for ``file``, best first; never empty.

    An http(s) URL or this host's own path comes first, then the file of the same name in
    ``model_path``. Whatever the place, its bytes are checked against the card.

    Raises:
        ContentError: The file's name is unsafe.
        SourceError: The card names a place no source of ours can read, and there is no
            ``model_path`` to use instead.
    """
    if model_path is None:
        return (_own_place(file),)
    overlay = LocalPlace(model_path / file_name(file))
    try:
        return (_own_place(file), overlay)
    except SourceError:
        return (overlay,)


def _own_place(file: CheckedFile) -> Place:
    if file.url is None:
        return LocalPlace(_absolute(file.path or ""))
    scheme = file.url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return HttpPlace(file.url)
    if scheme == "file":
        return LocalPlace(_path_of(file.url))
    raise SourceError(
        f"unsupported scheme {scheme!r}: {redact(file.url)}",
        hint=_HUB_HINT if scheme == "hf" else _SCHEME_HINT,
    )


_HUB_HINT = (
    "let the worker serve its files (DYN_SELF_HOST_METADATA=1, DYN_SYSTEM_PORT set), or give this "
    "process the model's directory with --model-path"
)
_SCHEME_HINT = (
    "files are fetched from http, https and file; or give their directory with --model-path"
)


def _path_of(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{redact(url)} is on host {parts.netloc!r}",
            hint="a file URL names a file on this host: file:///path",
        )
    return _absolute(urllib.parse.unquote(parts.path, errors="surrogateescape"))


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise SourceError(
            f"the card's path {text!r} is not an absolute path",
            hint="register the model from an absolute path, or let the worker serve its files",
        )
    return path
