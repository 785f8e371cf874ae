"""``/engine/{name}``: callbacks a worker registers for its operators.

Bodies and errors are those of Dynamo 1.6.1, served as JSON. Beyond it a callback has a deadline,
the number of calls is bounded, and a callback that is not async is an error, not a broken
connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from muster.config.settings import SystemSettings
from muster.errors import InvalidArgument, ResponseTimeout, TooLargeError
from muster.log import facts
from muster.runtime.status.admin_calls import AdminCalls, CallRefusedError
from muster.runtime.status.request_body import decode_name, read_body

__all__ = ["ENGINE_PREFIX", "EngineCallback", "EngineRoutes"]

logger = logging.getLogger(__name__)

ENGINE_PREFIX = "/engine/"

EngineCallback = Callable[[Any], Awaitable[Any]]
"""Given the request's JSON, ``{}`` if there is none; gives what JSON can say."""


class _Error(msgspec.Struct, frozen=True):
    error: str
    message: str


class EngineRoutes:
    """The callbacks of one process.

    Args:
        settings: Limits on bodies, and on the time and number of calls.
    """

    def __init__(self, settings: SystemSettings) -> None:
        self._settings = settings
        self._calls = AdminCalls("/engine", settings)
        self._callbacks: dict[str, EngineCallback] = {}

    def register(self, name: str, callback: EngineCallback) -> None:
        """Answer ``/engine/{name}``, whatever the method; replaces a callback of the same name.

        Args:
            name: May have slashes; matched exactly, after the path's escapes are decoded.
            callback: Called on the event loop. Its exception is a 500 with the exception's class
                and text in it.

        Raises:
            InvalidArgument: ``name`` is empty, or ``callback`` cannot be called.
        """
        if not name:
            raise InvalidArgument("an engine route needs a name")
        if not callable(callback):
            raise InvalidArgument(f"the callback of engine route {name!r} cannot be called")
        self._callbacks[name] = callback

    async def answer(self, request: web.BaseRequest, path: str) -> web.Response | None:
        """The answer to a request for a raw path; ``None`` if it is not one of these routes."""
        if not path.startswith(ENGINE_PREFIX) or path == ENGINE_PREFIX:
            return None
        try:
            name = decode_name(path[len(ENGINE_PREFIX) :], what="path")
        except InvalidArgument as error:
            return web.Response(status=400, text=error.message)
        try:
            raw = await read_body(request, self._settings)
        except TooLargeError as error:
            return web.Response(status=413, text=error.message)
        except ResponseTimeout as error:
            return _refusal(408, "Request timeout", error.message)
        try:
            body = msgspec.json.decode(raw) if raw else {}
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return _refusal(400, "Invalid JSON", str(error))
        callback = self._callbacks.get(name)
        if callback is None:
            return _refusal(404, "Route not found", f"Route {ENGINE_PREFIX}{name} not found")
        return await self._call(name, callback, body)

    async def close(self) -> None:
        """Cancel the callbacks that run; later requests are told so. Idempotent."""
        await self._calls.close()

    async def _call(self, name: str, callback: EngineCallback, body: Any) -> web.Response:
        try:
            result = await self._calls.run(callback, body)
        except CallRefusedError as refused:
            logger.warning(
                "an engine callback gave no result",
                extra=facts(route=name, reason=refused.message),
            )
            text = f"Route {ENGINE_PREFIX}{name}: {refused.message}"
            return _refusal(refused.status, refused.error, text)
        except Exception as error:
            logger.exception("an engine callback failed", extra=facts(route=name))
            text = f"Python callback failed: {type(error).__qualname__}: {error}"
            return _refusal(500, "Handler error", text)
        try:
            return _json(200, result)
        except (TypeError, ValueError, RecursionError) as error:
            return _refusal(500, "Handler error", f"Failed to serialize response: {error}")


def _json(status: int, value: Any) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json")


def _refusal(status: int, error: str, message: str) -> web.Response:
    return _json(status, _Error(error, message))
