"""When a card's ``path`` is a URL, and how that URL is spelled.

A card carries paths and URLs in one field: what a WHATWG URL parser accepts is a URL, and its
normalised text is what is written back and what names enter the card's digest from. The parser is
Ada; the rules below are where Rust's ``url`` crate, which Dynamo uses, decides differently.
"""

from __future__ import annotations

import re

import ada_url

__all__ = ["last_segment", "parse_url", "url_path"]

_CARET = "^"
_EMPTY_PUNYCODE = re.compile(r"(^|\.)xn--(\.|$)")
_FILE_WITH_DRIVE = re.compile(r"file://[^/]+(/[A-Za-z]:(?:/.*)?)", re.DOTALL)
_STAND_INS = range(0xE000, 0xF8FF)
"""Private characters. Like ``^`` they have no meaning in a URL, and are always percent-encoded."""


def parse_url(text: str) -> str | None:
    """The normalised text of the absolute URL ``text``, or ``None`` if it is none (but a path)."""
    url = _parse(text)
    if url is None or _EMPTY_PUNYCODE.search(url.hostname):
        return None
    href = _keep_carets(text, url.href) if _CARET in text else url.href
    drive = _FILE_WITH_DRIVE.fullmatch(href)
    return f"file://{drive.group(1)}" if drive else href


def url_path(url: str) -> str:
    """The path of a normalised URL, as it is spelled there."""
    parsed = _parse(url)
    return parsed.pathname if parsed else url


def last_segment(url: str) -> str:
    """What follows the last slash of a normalised URL's path; maybe nothing."""
    return url_path(url).rpartition("/")[2]


def _parse(text: str) -> ada_url.URL | None:
    try:
        return ada_url.URL(text)
    except ValueError:
        return None


def _keep_carets(text: str, href: str) -> str:
    """Ada writes ``^`` in a path as ``%5E``, the ``url`` crate leaves it.

    To tell those from a ``%5E`` that was there before, the text is parsed once more with another
    character in the place of every ``^``.
    """
    stand_in = next(chr(code) for code in _STAND_INS if chr(code) not in text)
    url = _parse(text.replace(_CARET, stand_in))
    if url is None:
        return href
    encoded = "".join(f"%{byte:02X}" for byte in stand_in.encode())
    head, at, tail = "", "", url.href
    if url.username or url.password:
        head, at, tail = url.href.partition("@")
    return head.replace(encoded, "%5E") + at + tail.replace(encoded, _CARET)
