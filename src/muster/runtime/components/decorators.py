"""Decorators of Dynamo's Python bindings: a worker gets its runtime, an endpoint its parsed request."""

from __future__ import annotations

import functools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from muster.runtime.distributed import DistributedRuntime
from muster.wire.context import Context

__all__ = ["dynamo_endpoint", "dynamo_worker"]

P = ParamSpec("P")
T = TypeVar("T")

_Parse = Callable[[Any], Any]


def dynamo_worker(
    enable_nats: bool | None = None,
) -> Callable[
    [Callable[Concatenate[DistributedRuntime, P], Awaitable[T]]], Callable[P, Awaitable[T]]
]:
    """Give a coroutine function a runtime as its first argument.

    The runtime is made from the settings when the function is called and shut down in order when it
    returns or raises. A signal shuts it down too, whereupon ``serve_endpoint`` returns.

    Args:
        enable_nats: Accepted so that calls from Dynamo carry over, and deprecated there and here;
            the settings say which planes are used.

    Returns:
        A decorator. What it makes returns what the function returns, and raises what it raises;
        also ``ConfigError`` if a setting is wrong.
    """
    if enable_nats is not None:
        warnings.warn(
            "enable_nats has no effect: the settings say which planes are used",
            DeprecationWarning,
            stacklevel=2,
        )

    def decorate(
        function: Callable[Concatenate[DistributedRuntime, P], Awaitable[T]],
    ) -> Callable[P, Awaitable[T]]:
        @functools.wraps(function)
        async def with_runtime(*args: P.args, **kwargs: P.kwargs) -> T:
            async with DistributedRuntime() as runtime:
                return await function(runtime, *args, **kwargs)

        return with_runtime

    return decorate


def dynamo_endpoint(
    request_model: type[Any], response_model: type[Any]
) -> Callable[[Callable[..., AsyncIterator[Any]]], Callable[..., AsyncIterator[Any]]]:
    """Parse what a handler gets into ``request_model`` before it runs.

    With one or two positional arguments (``request``, or ``self`` and ``request``, a ``Context``
    after them not counted), the last is parsed: text as JSON, a dict as it is. More arguments, and
    keyword arguments, are passed on untouched.

    Args:
        request_model: A pydantic model, or any class with ``model_validate`` and
            ``model_validate_json``; or a msgspec Struct. With any other class nothing is parsed.
        response_model: What the handler yields; not checked, as with Dynamo.

    Returns:
        A decorator for async generator functions. Items pass unchanged, but pydantic models are
        turned into dicts, which the wire can carry.

    Raises:
        ValueError: By the generator, when it is first asked for an item: the request does not
            parse, or is neither text nor a dict. The caller sees an invalid argument.
    """
    del response_model
    parsers = _parsers(request_model)

    def decorate(
        function: Callable[..., AsyncIterator[Any]],
    ) -> Callable[..., AsyncIterator[Any]]:
        @functools.wraps(function)
        async def parsed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            arguments = [*args]
            trailing = [arguments.pop()] if arguments and isinstance(args[-1], Context) else []
            if parsers is not None and len(arguments) in (1, 2):
                arguments[-1] = _parse(arguments[-1], *parsers)
            async for item in function(*arguments, *trailing, **kwargs):
                yield item.model_dump(mode="json") if hasattr(item, "model_dump") else item

        return parsed

    return decorate


def _parsers(model: Any) -> tuple[_Parse, _Parse] | None:
    """How text and how a dict is parsed; ``None`` if nothing is."""
    if not isinstance(model, type):
        return None
    if issubclass(model, msgspec.Struct):
        decoder = msgspec.json.Decoder(model)
        return decoder.decode, functools.partial(msgspec.convert, type=model)
    if hasattr(model, "model_validate") and hasattr(model, "model_validate_json"):
        return model.model_validate_json, model.model_validate
    return None


def _parse(request: Any, from_text: _Parse, from_dict: _Parse) -> Any:
    if not isinstance(request, str | dict):
        raise ValueError(f"Invalid request: {request}")  # noqa: TRY004 - as Dynamo's
    try:
        return from_text(request) if isinstance(request, str) else from_dict(request)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"Invalid request: {error}") from error
