from __future__ import annotations

from typing import Any

import pytest

from muster.errors import InvalidArgument
from muster.runtime.serving.handler import with_context
from muster.wire.context import Context


def of_request(request: Any) -> Any:
    return (request,)


def of_both(request: Any, context: Context) -> Any:
    return (request, context)


def of_context_by_name(request: Any, *, context: Context | None = None) -> Any:
    return (request, context)


def of_second(request: Any, ctx: Context) -> Any:
    return (request, ctx)


def of_any(*args: Any) -> Any:
    return args


def of_context_last(request: Any, more: int = 5, context: Context | None = None) -> Any:
    assert more == 5
    return (request, context)


class Engine:
    def method(self, request: Any, context: Context) -> Any:
        return (request, context)

    def __call__(self, request: Any) -> Any:
        return (request,)


@pytest.mark.parametrize(
    "handler",
    [of_both, of_context_by_name, of_second, of_any, of_context_last, Engine().method],
)
def test_a_handler_that_takes_a_context_gets_it(handler: Any) -> None:
    context = Context()
    assert with_context(handler)(1, context) == (1, context)


@pytest.mark.parametrize("handler", [of_request, Engine()])
def test_a_handler_that_takes_none_gets_none(handler: Any) -> None:
    assert with_context(handler)(1, Context()) == (1,)


@pytest.mark.parametrize("handler", [None, 5, "text"])
def test_what_cannot_be_called_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidArgument, match="a handler must be callable"):
        with_context(handler)
