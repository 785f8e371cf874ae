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

from muster.config.settings import SystemSettings
from muster.errors import InvalidArgument
from muster.http.exchange import Exchange
from muster.http.replies import reply_json, reply_text
from muster.log import facts
from muster.runtime.status.admin_calls import AdminCalls, CallRefusedError
from muster.runtime.status.request_body import decode_name

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

    async def answer(self, exchange: Exchange, path: str) -> bool:
        """Answer a request for a raw path; ``False`` if it is not one of these routes."""
        if not path.startswith(ENGINE_PREFIX) or path == ENGINE_PREFIX:
            return False
        try:
            name = decode_name(path[len(ENGINE_PREFIX) :], what="path")
        except InvalidArgument as error:
            reply_text(exchange, 400, error.message)
            return True
        try:
            body = msgspec.json.decode(exchange.body) if exchange.body else {}
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            _refuse(exchange, 400, "Invalid JSON", str(error))
            return True
        callback = self._callbacks.get(name)
        if callback is None:
            text = f"Route {ENGINE_PREFIX}{name} not found"
            _refuse(exchange, 404, "Route not found", text)
        else:
            await self._call(exchange, name, callback, body)
        return True

    def refuse(self, exchange: Exchange, status: int, message: str) -> bool:
        """Answer a request of these routes that did not arrive; ``False`` if it is another's."""
        if status != 408 or not exchange.path.startswith(ENGINE_PREFIX):
            return False
        _refuse(exchange, status, "Request timeout", message)
        return True

    async def close(self) -> None:
        """Cancel the callbacks that run; later requests are told so. Idempotent."""
        await self._calls.close()

    async def _call(
        self, exchange: Exchange, name: str, callback: EngineCallback, body: Any
    ) -> None:
        try:
            result = await self._calls.run(callback, body)
        except CallRefusedError as refused:
            logger.warning(
                "an engine callback gave no result",
                extra=facts(route=name, reason=refused.message),
            )
            text = f"Route {ENGINE_PREFIX}{name}: {refused.message}"
            _refuse(exchange, refused.status, refused.error, text)
            return
        except Exception as error:
            logger.exception("an engine callback failed", extra=facts(route=name))
            text = f"Python callback failed: {type(error).__qualname__}: {error}"
            _refuse(exchange, 500, "Handler error", text)
            return
        try:
            reply_json(exchange, 200, result)
        except (TypeError, ValueError, RecursionError) as error:
            _refuse(exchange, 500, "Handler error", f"Failed to serialize response: {error}")


def _refuse(exchange: Exchange, status: int, error: str, message: str) -> None:
    reply_json(exchange, status, _Error(error, message))
