"""``/dashboard`` and what it loads: files of this package, and nothing from anywhere else."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import NamedTuple

from blake3 import blake3

from muster.frontend.api_error import ApiError
from muster.http.exchange import Exchange

__all__ = ["DashboardFiles"]

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "format.js": "text/javascript; charset=utf-8",
    "plot.js": "text/javascript; charset=utf-8",
    "sections.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class _File(NamedTuple):
    content: bytes
    etag: str


class DashboardFiles:
    """Handlers of the page and its parts, which hold no data: that comes from the live stream."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    async def page(self, exchange: Exchange) -> None:
        """``GET /dashboard``."""
        await self._send(exchange, "index.html")

    async def part(self, exchange: Exchange) -> None:
        """``GET /dashboard/<file>``.

        Raises:
            ApiError: 404 if there is no such file.
        """
        name = exchange.path.removeprefix("/dashboard/")
        if name not in _TYPES or name == "index.html":
            raise ApiError(404, f"The dashboard has no {name!r}", slug="route_not_found")
        await self._send(exchange, name)

    async def redirect(self, exchange: Exchange) -> None:
        """``GET /dashboard/``: relative, so that it holds below a proxy's prefix, too."""
        exchange.respond(308, b"", content_type="text/plain", headers={"location": "../dashboard"})

    async def _send(self, exchange: Exchange, name: str) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = await asyncio.to_thread(_read, name)
        headers = _HEADERS | {"etag": file.etag}
        if exchange.header(b"if-none-match") == file.etag:
            exchange.respond(304, b"", content_type=_TYPES[name], headers=headers)
        else:
            exchange.respond(200, file.content, content_type=_TYPES[name], headers=headers)


def _read(name: str) -> _File:
    content = (resources.files(__package__) / "static" / name).read_bytes()
    return _File(content, f'"{blake3(content).hexdigest()[:16]}"')
