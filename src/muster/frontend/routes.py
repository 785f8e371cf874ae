"""Which handler answers which path, and what is said when none does."""

from __future__ import annotations

from muster.frontend.api_error import ApiError
from muster.http.handler import Handler

__all__ = ["RouteTable"]


class RouteTable:
    """Handlers by path and method. HEAD is answered by GET's handler."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._below: dict[str, dict[str, Handler]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Answer ``method path``; a path ending in ``/*`` stands for everything below it."""
        paths = self._exact
        if path.endswith("/*"):
            paths, path = self._below, path[:-1]
        paths.setdefault(path, {})[method] = handler

    def find(self, method: str, path: str) -> Handler:
        """The handler for a request.

        Raises:
            ApiError: 404 if no route has this path, 405 (with ``allow``) if one has, but not this
                method.
        """
        handlers = self._exact.get(path)
        if handlers is None:
            handlers = self._find_below(path)
        if handlers is None:
            raise ApiError(404, f"Route not found: {method} {path}", slug="route_not_found")
        handler = handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join([*handlers, *(["HEAD"] if "GET" in handlers else [])])
            raise ApiError(
                405,
                f"{method} is not allowed on {path}, only {allowed}",
                slug="method_not_allowed",
                headers={"allow": allowed},
            )
        return handler

    def entries(self) -> list[tuple[str, str]]:
        """Method and path of every route, as they were added."""
        exact = [(method, path) for path, methods in self._exact.items() for method in methods]
        below = [
            (method, f"{path}*") for path, methods in self._below.items() for method in methods
        ]
        return exact + below

    def _find_below(self, path: str) -> dict[str, Handler] | None:
        for prefix, handlers in self._below.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return handlers
        return None
