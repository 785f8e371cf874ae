"""``/v1/loras``: list, load and unload the LoRA adapters of a worker.

Routes, statuses and bodies are those of Dynamo 1.6.1; with one fault left out: an adapter that
could not be loaded because the handler raised is an error, not ``{"status":"success"}``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec

from muster.config.settings import SystemSettings
from muster.errors import (
    EngineError,
    InvalidArgument,
    MusterError,
    NotRegisteredError,
)
from muster.http.exchange import Exchange
from muster.http.replies import refuse_method, reply_json, reply_text
from muster.log import facts
from muster.runtime.status.admin_calls import AdminCalls, CallRefusedError
from muster.runtime.status.request_body import decode_name

__all__ = ["LORAS_PATH", "EndpointLoras", "LoraManager", "LoraReply", "LoraRoutes"]

logger = logging.getLogger(__name__)

LORAS_PATH = "/v1/loras"

_ALLOW_ALL = "GET,HEAD,POST"
_ALLOW_ONE = "DELETE"


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

    async def answer(self, exchange: Exchange, path: str) -> bool:
        """Answer a request for a raw path; ``False`` if it is not one of these routes."""
        if not self._settings.lora_enabled or path == f"{LORAS_PATH}/":
            return False
        if path == LORAS_PATH:
            if exchange.method in ("GET", "HEAD"):
                await self._call(exchange, None, self._manager.list_loras)
            elif exchange.method == "POST":
                await self._load(exchange)
            else:
                refuse_method(exchange, allow=_ALLOW_ALL)
            return True
        if path.startswith(f"{LORAS_PATH}/"):
            if exchange.method == "DELETE":
                await self._unload(exchange, path)
            else:
                refuse_method(exchange, allow=_ALLOW_ONE)
            return True
        return False

    async def close(self) -> None:
        """Cancel what runs; later requests are told so. Idempotent."""
        await self._calls.close()

    async def _load(self, exchange: Exchange) -> None:
        if not _is_json(exchange.header(b"content-type")):
            text = "Expected request with `Content-Type: application/json`"
            reply_text(exchange, 415, text)
            return
        try:
            asked = msgspec.json.decode(exchange.body, type=_Load)
        except msgspec.ValidationError as error:
            text = f"Failed to deserialize the JSON body into the target type: {error}"
            reply_text(exchange, 422, text)
            return
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            reply_text(exchange, 400, f"Failed to parse the request body as JSON: {error}")
            return
        name, uri = asked.lora_name, asked.source.uri
        if not name or not uri:
            text = f"{'`source.uri`' if name else '`lora_name`'} is empty"
            reply_text(exchange, 422, text)
        else:
            await self._call(exchange, name, self._manager.load_lora, name, uri)

    async def _unload(self, exchange: Exchange, path: str) -> None:
        try:
            name = decode_name(path[len(LORAS_PATH) + 1 :], what="lora_name")
        except InvalidArgument as error:
            reply_text(exchange, 400, error.message)
        else:
            await self._call(exchange, name, self._manager.unload_lora, name)

    async def _call(
        self,
        exchange: Exchange,
        name: str | None,
        call: Callable[..., Awaitable[LoraReply]],
        *arguments: str,
    ) -> None:
        try:
            reply: LoraReply = await self._calls.run(call, *arguments)
        except CallRefusedError as refused:
            _fail(exchange, refused.status, name, refused.message)
        except MusterError as error:
            _fail(exchange, 500, name, error.message)
        except Exception as error:
            logger.debug("a LoRA manager raised", exc_info=True)
            _fail(exchange, 500, name, f"{type(error).__qualname__}: {error}")
        else:
            if reply.status == "error":
                _log_failure(name, reply.message)
            reply_json(exchange, 500 if reply.status == "error" else 200, reply)


def _is_json(header: str) -> bool:
    kind = header.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _fail(exchange: Exchange, status: int, name: str | None, message: str) -> None:
    _log_failure(name, message)
    reply_json(exchange, status, LoraReply(status="error", message=message, lora_name=name))


def _log_failure(name: str | None, reason: str | None) -> None:
    logger.warning("managing LoRAs failed", extra=facts(lora=name, reason=reason))
