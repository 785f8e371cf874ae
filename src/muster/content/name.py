"""Which names a file of a view may have.

Names come from cards, and cards from anyone; a name becomes one path segment under the cache. Every
name a file system can hold as one entry is allowed, spaces, ``%``, backslashes and leading
dashes included: a tokenizer that looks for its siblings must find them under their real names.
"""

from __future__ import annotations

from muster.errors import ContentError

__all__ = ["MAX_NAME_BYTES", "check_file_name"]

MAX_NAME_BYTES = 255
"""Longest entry of a directory on the file systems we know (NAME_MAX)."""


def check_file_name(name: str) -> str:
    """Return ``name`` if it names one entry of a directory and nothing else.

    Raises:
        ContentError: If it is empty, ``.`` or ``..``, has a ``/`` or a NUL, is not valid Unicode or
            takes more than 255 bytes in UTF-8.
    """
    complaint = _complaint(name)
    if complaint:
        shown = name if len(name) <= 80 else name[:80] + "..."
        raise ContentError(
            f"unsafe file name {shown!r}: {complaint}",
            hint="rename the file in the model's directory and register the model again",
        )
    return name


def _complaint(name: str) -> str:
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return "it names a directory"
    if "/" in name or "\0" in name:
        return "it has a '/'" if "/" in name else "it has a NUL"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    return f"it takes {size} bytes, the limit is {MAX_NAME_BYTES}" if size > MAX_NAME_BYTES else ""
