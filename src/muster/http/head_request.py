"""Asks a server what it has at an address: one HEAD request, without a client library."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httptools

__all__ = ["ask_head"]

_PORTS = {"http": 80, "https": 443}
_MOST_BYTES = 64 << 10


class _Head:
    """What the parser reports."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.complete = True


async def ask_head(url: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Status and headers, names in lower case, of the answer. There is no deadline here.

    No proxy is used and no redirect followed.

    Args:
        url: With ``http`` or ``https``; sent as it is spelled.
        headers: To send.

    Raises:
        ValueError: If ``url`` is no such URL.
        OSError: If the server cannot be reached, leaves, or what it answers is not HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it is no http URL with a host")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"host": parts.netloc.rpartition("@")[2], **headers, "connection": "close"}
    lines = [f"HEAD {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or _PORTS[parts.scheme],
        ssl=ssl.create_default_context() if parts.scheme == "https" else None,
    )
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return await _read_head(reader)
    finally:
        writer.transport.abort()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = _Head()
    parser = httptools.HttpResponseParser(head)
    left = _MOST_BYTES
    while not head.complete:
        data = await reader.read(left)
        left -= len(data)
        if not data:
            raise ConnectionResetError("it closes the connection without an answer")
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionError(f"its answer is not HTTP ({error})") from error
    return parser.get_status_code(), head.fields
