"""When a card's ``path`` is a URL, and how that URL is spelled.

A card carries paths and URLs in one field: what a WHATWG URL parser accepts is a URL, and its
normalised text is what is written back and what names enter the card's digest from. The parser is
Ada; the rules here are where Rust's ``url`` crate, which Dynamo uses, decides differently:

- ``^`` in a path, and a space that ends an opaque path, stay as they are;
- ``..`` does not remove a segment that looks like a Windows drive (``C:``, ``C|``);
- a file URL has no empty first segments, no host before a drive, and keeps ``file:///C|``
  unless ``..`` leads there (``file:///../C|``); a drive may end with a backslash in any scheme;
- a host whose labels say nothing in punycode, or break the bidi rule, makes no URL;
- a port may be followed by a backslash, and ``:@`` by no host if the scheme needs none.

The first two cannot be seen in Ada's result, so stand-ins are parsed in place of what it would
change: private characters, which mean nothing in a URL and are always percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote

import ada_url

from muster.model.host_name import is_host_name

__all__ = ["last_segment", "parse_url", "url_path"]

_HOST_SCHEMES = ("http:", "https:", "ws:", "wss:", "ftp:", "file:")
"""The schemes whose host is a domain name or address."""
_STAND_INS = range(0xE000, 0xF8FF)
_EDGE = "".join(map(chr, range(0x21)))
_DROPPED = re.compile(r"[\t\n\r]")
_EMPTY_LOGIN_AND_HOST = re.compile(
    r"^(?!(?:https?|wss?|ftp|file):)([^:/?#\\]*://)(?::@(?=[/?#]|$)|@$)", re.IGNORECASE
)
_PORT_AND_BACKSLASH = re.compile(r"([^:/?#\\]*://(?:[^/?#]*@)?[^/?#\\@]*:[0-9]*)(?=\\)")
_DRIVE_SEGMENT = re.compile(r"(?<=[/\\])([A-Za-z][:|])(?=[/\\])")
_DRIVE_SEGMENT_ELSEWHERE = re.compile(r"(?<=/)([A-Za-z][:|](?:\\[^/?#]*+)?)(?=/)")
"""In a scheme of no host, where a backslash separates nothing but still ends a drive."""
_UP = re.compile(r"[/\\](?:\.|%2e){2}", re.IGNORECASE)
_FILE = re.compile(r"file://([^/?#]*)(/+)(.*)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:(?:[/?#]|$)")
_AFTER_HOST = re.compile(
    r"file:[/\\]{2}(?![A-Z][:|](?:[/\\?#]|$))[^/\\?#]*[/\\]([^?#]*)", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[/\\]")
_DOT = re.compile(r"\.|%2e", re.IGNORECASE)
_DOTS = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_DRIVE_OR_BAR = re.compile(r"[A-Za-z][:|]")
_OPAQUE = re.compile(r"([^:]*:(?!/)[^?#]*)%20([?#].*)", re.DOTALL)
_SPACE_AT_END = re.compile(r"[^?#]* [?#]")
_PATH = re.compile(r"[^:]*:(?://[^/?#]*|/\.(?=//))?([^?#]*)")


def parse_url(text: str) -> str | None:
    """The normalised text of the absolute URL ``text``, or ``None`` if it is none (but a path)."""
    text = _DROPPED.sub("", text.strip(_EDGE))
    if _parse(text) is None:
        text = _PORT_AND_BACKSLASH.sub(r"\1/", text, count=1)
        text = _EMPTY_LOGIN_AND_HOST.sub(r"\1", text, count=1)
    url = _parse(text)
    if url is None:
        return None
    if url.protocol in _HOST_SCHEMES and not is_host_name(url.hostname):
        return None
    drive = _DRIVE_SEGMENT if url.protocol in _HOST_SCHEMES else _DRIVE_SEGMENT_ELSEWHERE
    href = _keep_carets_and_drives(text, url.href, drive)
    if url.protocol == "file:":
        return _file_url(text, href)
    opaque = _OPAQUE.fullmatch(href)
    if opaque is not None and _SPACE_AT_END.match(text):
        return " ".join(opaque.groups())
    return href


def url_path(url: str) -> str:
    """The path of a normalised URL, as it is spelled there."""
    match = _PATH.match(url)
    return match.group(1) if match else ""


def last_segment(url: str) -> str:
    """What follows the last slash of a normalised URL's path; maybe nothing."""
    return url_path(url).rpartition("/")[2]


def _parse(text: str) -> ada_url.URL | None:
    try:
        return ada_url.URL(text)
    except ValueError:
        return None


def _keep_carets_and_drives(text: str, href: str, drive: re.Pattern[str]) -> str:
    """Parse ``text``, whose result is ``href``, with stand-ins where that can make a difference."""
    ups = len(_UP.findall(text)) if drive.search(text) else 0
    if not ups and "^" not in text:
        return href
    caret, guard = islice(_stand_ins(text), 2)
    # Each `..` has a guard to remove in place of the drive; those that are left go afterwards.
    guarded = drive.sub(rf"\1{('/' + guard) * ups}", text.replace("^", caret))
    url = _parse(guarded)
    if url is None:
        return href
    # In a user's name and password both parsers encode the caret.
    head, at, tail = "", "", url.href
    if url.username or url.password:
        head, at, tail = url.href.partition("@")
    return _restore(head, caret, "%5E") + at + _restore(_restore(tail, f"/{guard}", ""), caret, "^")


def _stand_ins(text: str) -> Iterator[str]:
    """Characters that ``text`` has neither plain nor percent-encoded."""
    for char in map(chr, _STAND_INS):
        if char not in text and quote(char) not in text:
            yield char


def _restore(href: str, stand_in: str, original: str) -> str:
    return href.replace(quote(stand_in), original)


def _file_url(text: str, href: str) -> str:
    match = _FILE.fullmatch(href)
    if match is None:
        return href
    host, slashes, path = match.groups()
    if not host and _keeps_bar(text):
        path = f"{path[0]}|{path[2:]}"
    if len(slashes) == 1 and _DRIVE.match(path):
        host = ""
    return f"file://{host}/{path}"


def _keeps_bar(text: str) -> bool:
    """Whether the path of a file URL without a host begins with a drive that stays ``C|``.

    It does unless more ``..`` than segments came before it: to Rust the nothing between the host's
    slash and the path's is a segment too, so such a drive is only the first once that is removed.
    """
    match = _AFTER_HOST.match(text)
    if match is None:
        return False
    segments = [""]
    for segment in _SEPARATOR.split(match.group(1)):
        if _DRIVE_OR_BAR.fullmatch(segment):
            return segment[1] == "|" and bool(segments) and not any(segments)
        if _DOTS.fullmatch(segment):
            del segments[-1:]
        elif not _DOT.fullmatch(segment):
            segments.append(segment)
    return False
