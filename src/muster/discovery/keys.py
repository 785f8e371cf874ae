"""What a bucket, a key and a record must be before a registry takes them.

The same for every backend, so that what one accepts another does not refuse. A backend may have a
narrower limit of its own (the file backend: length of a file name).
"""

from __future__ import annotations

import re

from muster.errors import DiscoveryError

__all__ = ["MAX_RECORD_BYTES", "check_bucket", "check_record"]

MAX_RECORD_BYTES = 16 << 20
"""Largest record written or read: far above any card, far below what would hurt a reader."""

_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


def check_bucket(bucket: str) -> str:
    """Return ``bucket`` if it is one: segments of letters, digits, ``_ . -`` joined with ``/``.

    Raises:
        DiscoveryError: If it is not; it could name a place outside the registry.
    """
    if _BUCKET.fullmatch(bucket):
        return bucket
    raise DiscoveryError(
        f"{bucket!r} is not a bucket", hint="use a name like v1/instances, without '..'"
    )


def check_record(key: str, value: bytes) -> None:
    """Check what is about to be registered.

    Raises:
        DiscoveryError: If the key is empty or not valid Unicode, or the record is empty or too long.
    """
    if not key:
        raise DiscoveryError("a record's key must not be empty")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DiscoveryError(f"the key {key!r} is not valid Unicode: {error}") from error
    if not value:
        raise DiscoveryError(f"the record {key!r} is empty", hint="a record is a JSON text")
    if len(value) > MAX_RECORD_BYTES:
        raise DiscoveryError(
            f"the record {key!r} has {len(value)} bytes; the limit is {MAX_RECORD_BYTES}"
        )
