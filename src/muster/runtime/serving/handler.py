"""What a handler takes, and how to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from muster.errors import InvalidArgument
from muster.wire.context import Context

__all__ = ["with_context"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def with_context(handler: Callable[..., Any]) -> Callable[[Any, Context], Any]:
    """``handler`` as a function of request and context, whether it takes the second or not.

    A parameter called ``context`` gets it by name, as with Dynamo; else a second positional one
    does.

    Raises:
        InvalidArgument: It cannot be called.
    """
    try:
        parameters = inspect.signature(handler).parameters
    except TypeError as error:
        raise InvalidArgument(f"a handler must be callable, not {handler!r}") from error
    except ValueError:  # a built-in that does not say what it takes
        return handler
    named = parameters.get("context")
    if named is not None and named.kind in _NAMED:

        def by_name(request: Any, context: Context) -> Any:
            return handler(request, context=context)

        return by_name
    positional = [each for each in parameters.values() if each.kind in _POSITIONAL]
    variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters.values())
    if len(positional) >= 2 or variadic:
        return handler

    def without(request: Any, context: Context) -> Any:
        return handler(request)

    return without
