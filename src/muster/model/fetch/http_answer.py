"""What the head of an answer says: whether its body is the file, and from which byte on."""

from __future__ import annotations

import http
import re

import aiohttp

from muster.errors import SourceBusyError, SourceError, TooLargeError
from muster.model.fetch.place import HttpPlace
from muster.model.fetch.retry_after import retry_after_s

__all__ = ["REDIRECTS", "check_answer", "has_no_more"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that send a client elsewhere."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)


def check_answer(
    response: aiohttp.ClientResponse, place: HttpPlace, *, start: int, cap_bytes: int, now: float
) -> int:
    """How many bytes of the answer's body come before ``start``.

    Args:
        response: The answer, its body not read.
        place: Who answers.
        start: First byte wanted.
        cap_bytes: Most bytes the whole file may have.
        now: The wall clock's time, in seconds since the epoch.

    Raises:
        SourceBusyError: 429 or 503.
        SourceError: Another status, another part than asked for, or an encoded body.
        TooLargeError: The length it announces is over ``cap_bytes``.
    """
    status = response.status
    if status in (429, 503):
        wait_s = retry_after_s(response.headers.get("Retry-After"), now=now)
        raise SourceBusyError(
            f"fetching {place} returned status {_status(response)}",
            retry_after_s=wait_s,
            hint="the worker sends as many files at a time as MUSTER_METADATA_TRANSFERS allows",
        )
    if status == 401:
        raise SourceError(
            f"fetching {place} returned status {_status(response)}",
            hint="set MUSTER_METADATA_TOKEN to the token the worker asks for",
        )
    if status != 200 and not (start and status == 206):
        hint = (
            "redirects are not followed: a card must name the file itself"
            if status in REDIRECTS
            else "see that the worker is the one the card names, and that it serves its files"
        )
        raise SourceError(f"fetching {place} returned status {_status(response)}", hint=hint)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceError(
            f"{place} answered with content encoding {encoding[:40]!r}; only identity is accepted"
        )
    begins = _begins_at(response, place) if status == 206 else 0
    if begins > start or (status == 206 and begins != start):
        raise SourceError(f"{place} sent the part from byte {begins}, asked from {start}")
    length = response.content_length
    if length is not None and begins + length > cap_bytes:
        raise TooLargeError(
            f"{place} reports {begins + length} bytes, exceeds cap {cap_bytes}",
            hint="the file is larger than the card says, or than MUSTER_FETCH_MAX_BYTES allows",
        )
    return start - begins


def has_no_more(response: aiohttp.ClientResponse, start: int) -> bool:
    """Whether the answer is that the file ends where we are."""
    ends_here = response.headers.get("Content-Range", "").strip() == f"bytes */{start}"
    return start > 0 and response.status == 416 and ends_here


def _begins_at(response: aiohttp.ClientResponse, place: HttpPlace) -> int:
    header = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise SourceError(f"{place} sent a part without saying which: {header[:80]!r}")
    return int(match[1])


def _status(response: aiohttp.ClientResponse) -> str:
    """``404 Not Found``, in the standard's words: the server's own may be anything."""
    try:
        return f"{response.status} {http.HTTPStatus(response.status).phrase}"
    except ValueError:
        return str(response.status)
