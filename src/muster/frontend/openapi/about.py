"""``/openapi.json``, ``/docs`` and ``/version``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from muster import __version__
from muster.frontend.openapi.document import openapi_document
from muster.frontend.routes import RouteTable
from muster.http.exchange import Exchange

__all__ = ["AboutRoutes"]

_PAGE = Path(__file__).with_name("page.html")


class AboutRoutes:
    """The handlers. The document is made at the first request, of the routes there are then.

    Args:
        routes: The routes.
        shows: Whether the port that the document is asked for at answers a route's path.
    """

    def __init__(self, routes: RouteTable, shows: Callable[[str], bool]) -> None:
        self._routes = routes
        self._shows = shows
        self._document = b""
        self._page = _PAGE.read_bytes()
        self._version = msgspec.json.encode({"version": __version__})

    def add(self) -> None:
        """Add the routes."""
        self._routes.add("GET", "/version", self.version)
        self._routes.add("GET", "/openapi.json", self.document)
        self._routes.add("GET", "/docs", self.page)
        self._routes.add("GET", "/docs/", self.page)

    async def version(self, exchange: Exchange) -> None:
        """The version of this program."""
        exchange.respond(200, self._version)

    async def document(self, exchange: Exchange) -> None:
        """The OpenAPI document."""
        if not self._document:
            entries = [entry for entry in self._routes.entries() if self._shows(entry[1])]
            document = await asyncio.to_thread(openapi_document, entries)
            self._document = msgspec.json.encode(document)
        exchange.respond(200, self._document)

    async def page(self, exchange: Exchange) -> None:
        """The document as a page, which asks for nothing but the document."""
        exchange.respond(200, self._page, content_type="text/html; charset=utf-8")
