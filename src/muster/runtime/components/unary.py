"""One request, one response, over endpoints that stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from muster.errors import StreamIncomplete, Unknown
from muster.runtime.calling.client import Client
from muster.runtime.components.endpoint import Endpoint
from muster.wire.context import Context

__all__ = ["UnaryClient", "UnaryHandler", "serve_unary_endpoint"]


class UnaryHandler(Protocol):
    """Answers a request with one value."""

    async def __call__(self, request: Any, *, context: Context) -> Any:
        """The response."""
        ...


class UnaryClient:
    """Calls an endpoint that gives one item for a request; instances in turn.

    Args:
        client: A client of the endpoint.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def complete(self, request: Any, *, context: Context | None = None) -> Any:
        """The response to ``request``.

        Args:
            request: As for ``Client.generate``.
            context: Stops or kills the request and carries its id and metadata.

        Raises:
            StreamIncomplete: The endpoint gave no item.
            Unknown: It gave more than one, and so is no unary endpoint; the request is dropped.
            MusterError: As ``Client.generate``, and what the handler raised.
        """
        stream = await self._client.round_robin(request, annotated=False, context=context)
        items = aiter(stream)
        try:
            response = await anext(items, _NOTHING)
            if response is _NOTHING:
                raise StreamIncomplete("unary endpoint returned no response")
            if await anext(items, _NOTHING) is not _NOTHING:
                raise Unknown(
                    "unary endpoint returned multiple responses",
                    hint="call it with Client.round_robin and iterate the response",
                )
            return response
        finally:
            await _close(items)


_NOTHING = object()


async def serve_unary_endpoint(endpoint: Endpoint, handler: UnaryHandler) -> None:
    """Serve ``endpoint`` with a function that returns one response, until the runtime shuts down.

    Raises:
        MusterError: As ``Endpoint.serve_endpoint``.
    """

    async def generate(request: Any, *, context: Context) -> AsyncIterator[Any]:
        yield await handler(request, context=context)

    await endpoint.serve_endpoint(generate)


async def _close(items: AsyncIterator[Any]) -> None:
    """End a generator at once; other iterators end by themselves."""
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
