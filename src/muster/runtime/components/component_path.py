"""Keys of records under a component's path, for buckets that only Muster has.

A key is ``namespace/component/name[/instance id]``. Names may be any text, so every segment is
encoded: ASCII letters, digits, ``-``, ``_`` and ``.`` stay, all other bytes of the UTF-8 become
``%XX``. A segment too long for a file's name is ``=`` and a digest instead; the record itself has
the names in full.
"""

from __future__ import annotations

import re

from muster.digest import Digest
from muster.errors import InvalidArgument
from muster.names import encode_file_name

__all__ = ["check_key_name", "component_key"]

_LONGEST_SEGMENT = 68
"""In a file's name, where each byte but ASCII letters and digits takes three: three segments, an
instance id and the slashes between them stay below the 255 bytes a file's name may have."""
_DIGEST_DIGITS = 32
_ENCODED = re.compile(rb"[^A-Za-z0-9._-]")


def check_key_name(name: str, *, what: str) -> str:
    """Return ``name`` if a ``what`` may have it.

    Raises:
        InvalidArgument: If it is empty or not valid Unicode.
    """
    if not name:
        raise InvalidArgument(f"a {what}'s name must not be empty")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the {what}'s name {name!r} is not valid Unicode: {error}") from None
    return name


def component_key(*segments: str) -> str:
    """The key of a record, or the prefix of several, from its names."""
    return "/".join(map(_segment, segments))


def _segment(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    encoded = _ENCODED.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    if encoded and len(encode_file_name(encoded)) <= _LONGEST_SEGMENT:
        return encoded
    return "=" + Digest.of(raw).hex[:_DIGEST_DIGITS]
