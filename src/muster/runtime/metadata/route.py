"""The URL path of a metadata file, and back.

``/v1/metadata/{namespace}/{component}/{endpoint}/{slug}/{suffix}/{filename}``, as Dynamo 1.6.1 has
it. Reading decodes percent escapes once and normalises nothing, so ``..`` is a name like any other
and can only ever miss.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import msgspec

from muster.errors import InvalidArgument
from muster.runtime.metadata.registry import MetadataKey

__all__ = ["METADATA_PREFIX", "format_path", "parse_path"]

METADATA_PREFIX = "/v1/metadata/"
# Checked against the peer's cards name by name: tests/interop/test_same_card.py.
_SAFE = "!$&'()*+,;=:@~[]^|"
_PARTS = MetadataKey.__struct_fields__


def format_path(key: MetadataKey) -> str:
    """The path of ``key``'s URL; whatever a URL parser could misread or rewrite is escaped.

    What no parser touches in a path stays as it is, because the card's digest covers the last
    segment as it is spelled, and the peer spells such names that way.

    Raises:
        InvalidArgument: If a part is not valid Unicode (a file name that is not UTF-8).
    """
    try:
        return METADATA_PREFIX + "/".join(
            quote(part, safe=_SAFE) for part in msgspec.structs.astuple(key)
        )
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{str(key)!r} is not valid UTF-8 and cannot be in a URL") from error


def parse_path(path: str) -> MetadataKey | None:
    """Read a raw path, or ``None`` if it has too few parts or ends before the file name.

    Parts but the file name may be empty; whatever follows the fifth belongs to the file name.

    Args:
        path: As sent; bytes outside UTF-8 as surrogate escapes.

    Raises:
        InvalidArgument: If a part is not UTF-8 after decoding; the message is Dynamo's.
    """
    if not path.startswith(METADATA_PREFIX):
        return None
    parts = path[len(METADATA_PREFIX) :].split("/", len(_PARTS) - 1)
    if len(parts) < len(_PARTS) or not parts[-1]:
        return None
    if "%" not in path and path.isascii():
        return MetadataKey(*parts)
    return MetadataKey(*map(_decode, parts, _PARTS))


def _decode(part: str, name: str) -> str:
    try:
        return unquote_to_bytes(part.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError as error:
        raise InvalidArgument(f"Invalid URL: Invalid UTF-8 in `{name}`") from error
