"""How an endpoint is going to be served, said step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from muster.errors import InvalidArgument
from muster.runtime.components.labels import joined_labels
from muster.runtime.serving.handler import with_context

if TYPE_CHECKING:
    from muster.runtime.components.endpoint import Endpoint
    from muster.runtime.distributed import Service

__all__ = ["EndpointBuilder"]


class EndpointBuilder:
    """Configures how an endpoint is served; made by ``Endpoint.builder()``.

    Each method returns the builder, so that calls chain::

        await endpoint.builder().handler(generate).graceful_shutdown(False).start()
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._handler: Callable[..., Any] | None = None
        self._graceful = True
        self._labels: list[tuple[str, str]] = []
        self._payload: dict[str, Any] | None = None

    def handler(self, handler: Callable[..., Any]) -> Self:
        """Serve with this function; see ``Endpoint.serve_endpoint``."""
        self._handler = handler
        return self

    def graceful_shutdown(self, graceful: bool) -> Self:
        """Whether requests in flight may finish when the runtime shuts down; by default they may."""
        self._graceful = graceful
        return self

    def metrics_labels(self, labels: Sequence[tuple[str, str]]) -> Self:
        """Labels for the endpoint's metrics, besides those it inherits; more calls add more."""
        self._labels.extend(labels)
        return self

    def label(self, name: str, value: str) -> Self:
        """One more label, as ``metrics_labels`` of one."""
        self._labels.append((name, value))
        return self

    def health_check_payload(self, payload: dict[str, Any]) -> Self:
        """A request that tells whether the endpoint works."""
        self._payload = payload
        return self

    async def build(self) -> Service:
        """Serve and register the endpoint; returns as soon as both are done.

        Raises:
            InvalidArgument: No handler was given, or it cannot be called, or a label is none.
            MusterError: As ``Endpoint.serve_endpoint``. Nothing is left behind.
        """
        if self._handler is None:
            raise InvalidArgument(
                f"endpoint {self._endpoint} has no handler", hint="give one with .handler(function)"
            )
        labels = joined_labels(
            self._endpoint.labels, self._labels, where=f"endpoint {self._endpoint}"
        )
        more: dict[str, Any] = {}
        if labels:
            more["metrics_labels"] = labels
        if self._payload is not None:
            more["health_check_payload"] = self._payload
        return await self._endpoint.runtime.serve(
            self._endpoint.id(), with_context(self._handler), graceful=self._graceful, **more
        )

    async def start(self) -> None:
        """Serve until the runtime shuts down; raises as ``build``."""
        service = await self.build()
        await service.closed.wait()
