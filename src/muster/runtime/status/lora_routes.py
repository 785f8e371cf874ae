"""``/v1/loras``: list, load and unload the LoRA adapters of a worker.

Routes, statuses and bodies are those of Dynamo 1.6.1; with one fault left out: an adapter that
could not be loaded because the handler raised is an error, not ``{"status":"success"}``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec
from aiohttp import hdrs, web

from muster.config.settings import SystemSettings
from muster.errors import (
    EngineError,
    InvalidArgument,
    MusterError,
    NotRegisteredError,
    ResponseTimeout,
    TooLargeError,
)
from muster.log import facts
from muster.runtime.status.admin_calls import AdminCalls, CallRefusedError
from muster.runtime.status.request_body import decode_name, read_body

__all__ = ["LORAS_PATH", "EndpointLoras", "LoraManager", "LoraReply", "LoraRoutes"]

logger = logging.getLogger(__name__)

LORAS_PATH = "/v1/loras"

_ALLOW_ALL = {hdrs.ALLOW: "GET,HEAD,POST"}
_ALLOW_ONE = {hdrs.ALLOW: "DELETE"}


class LoraReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manager answers, and the body of the response. Fields are Dynamo's.

    Args:
        status: ``success`` (as for Dynamo also when it is left out), or ``error`` for a response
            with status 500.
        message: A sentence for people.
        lora_name: The adapter's name.
        lora_id: Its number within the engine.
        loras: When listing, the number of each adapter by its name.
        count: When listing, how many there are.
    """

    # A factory, because a plain default would be left out of the body.
    status: str = msgspec.field(default_factory=lambda: "success")
    message: str | None = None
    lora_name: str | None = None
    lora_id: int | None = None
    loras: Any = None
    count: int | None = None


class LoraManager(Protocol):
    """What loads adapters into an engine. Whatever it raises becomes an error with its text."""

    async def list_loras(self) -> LoraReply:
        """The adapters loaded: ``loras`` and ``count`` are set."""
        ...

    async def load_lora(self, name: str, uri: str) -> LoraReply:
        """Load the adapter at ``uri`` (``file://``, ``s3://``, ...) under ``name``."""
        ...

    async def unload_lora(self, name: str) -> LoraReply:
        """Forget the adapter of this name."""
        ...


class EndpointLoras:
    """A manager that asks this process's endpoints ``list_loras``, ``load_lora``, ``unload_lora``.

    Dynamo's engines serve these beside ``generate``; requests are ``{}``,
    ``{"lora_name", "source": {"uri"}}`` and ``{"lora_name"}``, and the first item is the reply.

    Args:
        find: The handler of the endpoint of a name in this process, called as
            ``handler(request)``, or ``None``.
    """

    def __init__(self, find: Callable[[str], Callable[[Any], AsyncIterator[Any]] | None]) -> None:
        self._find = find

    async def list_loras(self) -> LoraReply:
        """See ``LoraManager``."""
        return await self._ask("list_loras", {})

    async def load_lora(self, name: str, uri: str) -> LoraReply:
        """See ``LoraManager``."""
        return await self._ask("load_lora", {"lora_name": name, "source": {"uri": uri}})

    async def unload_lora(self, name: str) -> LoraReply:
        """See ``LoraManager``."""
        return await self._ask("unload_lora", {"lora_name": name})

    async def _ask(self, endpoint: str, request: dict[str, Any]) -> LoraReply:
        """The first item of the endpoint's answer.

        Raises:
            NotRegisteredError: This process does not serve it.
            EngineError: It gave no item, or one that is no reply.
        """
        handler = self._find(endpoint)
        if handler is None:
            raise NotRegisteredError(
                f"this worker cannot manage LoRAs: it serves no endpoint {endpoint!r}"
            )
        stream = handler(request)
        try:
            async for item in stream:
                try:
                    return msgspec.convert(item, LoraReply)
                except msgspec.ValidationError as error:
                    raise EngineError(f"endpoint {endpoint!r} gave no reply: {error}") from error
            raise EngineError(f"No response received from endpoint '{endpoint}'")
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


class _Source(msgspec.Struct):
    uri: str


class _Load(msgspec.Struct):
    lora_name: str
    source: _Source


class LoraRoutes:
    """The routes; there are none unless the setting says so.

    Args:
        settings: Whether LoRAs are on, and limits on bodies, time and number of calls.
        manager: Whom to ask, until ``register`` names another.
    """

    def __init__(self, settings: SystemSettings, manager: LoraManager) -> None:
        self._settings = settings
        self._calls = AdminCalls(LORAS_PATH, settings)
        self._manager = manager

    def register(self, manager: LoraManager) -> None:
        """Ask ``manager`` from now on."""
        self._manager = manager

    async def answer(self, request: web.BaseRequest, path: str) -> web.Response | None:
        """The answer to a request for a raw path; ``None`` if it is not one of these routes."""
        if not self._settings.lora_enabled or path == f"{LORAS_PATH}/":
            return None
        if path == LORAS_PATH:
            if request.method in (hdrs.METH_GET, hdrs.METH_HEAD):
                return await self._call(None, self._manager.list_loras)
            if request.method == hdrs.METH_POST:
                return await self._load(request)
            return web.Response(status=405, headers=_ALLOW_ALL)
        if path.startswith(f"{LORAS_PATH}/"):
            if request.method != hdrs.METH_DELETE:
                return web.Response(status=405, headers=_ALLOW_ONE)
            return await self._unload(path)
        return None

    async def close(self) -> None:
        """Cancel what runs; later requests are told so. Idempotent."""
        await self._calls.close()

    async def _load(self, request: web.BaseRequest) -> web.Response:
        if not _is_json(request.content_type):
            text = "Expected request with `Content-Type: application/json`"
            return web.Response(status=415, text=text)
        try:
            raw = await read_body(request, self._settings)
        except TooLargeError as error:
            return web.Response(status=413, text=error.message)
        except ResponseTimeout as error:
            return web.Response(status=408, text=error.message)
        try:
            asked = msgspec.json.decode(raw, type=_Load)
        except msgspec.ValidationError as error:
            text = f"Failed to deserialize the JSON body into the target type: {error}"
            return web.Response(status=422, text=text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            text = f"Failed to parse the request body as JSON: {error}"
            return web.Response(status=400, text=text)
        name, uri = asked.lora_name, asked.source.uri
        if not name or not uri:
            text = f"{'`source.uri`' if name else '`lora_name`'} is empty"
            return web.Response(status=422, text=text)
        return await self._call(name, self._manager.load_lora, name, uri)

    async def _unload(self, path: str) -> web.Response:
        try:
            name = decode_name(path[len(LORAS_PATH) + 1 :], what="lora_name")
        except InvalidArgument as error:
            return web.Response(status=400, text=error.message)
        return await self._call(name, self._manager.unload_lora, name)

    async def _call(
        self, name: str | None, call: Callable[..., Awaitable[LoraReply]], *arguments: str
    ) -> web.Response:
        try:
            reply: LoraReply = await self._calls.run(call, *arguments)
        except CallRefusedError as refused:
            return _failed(refused.status, name, refused.message)
        except MusterError as error:
            return _failed(500, name, error.message)
        except Exception as error:
            logger.debug("a LoRA manager raised", exc_info=True)
            return _failed(500, name, f"{type(error).__qualname__}: {error}")
        if reply.status == "error":
            _log_failure(name, reply.message)
        return _response(500 if reply.status == "error" else 200, reply)


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )


def _failed(status: int, name: str | None, message: str) -> web.Response:
    _log_failure(name, message)
    return _response(status, LoraReply(status="error", message=message, lora_name=name))


def _log_failure(name: str | None, reason: str | None) -> None:
    logger.warning("managing LoRAs failed", extra=facts(lora=name, reason=reason))


def _response(status: int, reply: LoraReply) -> web.Response:
    body = msgspec.json.encode(reply)
    return web.Response(status=status, body=body, content_type="application/json")
