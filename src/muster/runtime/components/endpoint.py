"""An endpoint: somewhere requests of one kind are served, and how to reach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from muster.names import EndpointId
from muster.runtime.calling.choosers import RouterMode
from muster.runtime.calling.client import Client
from muster.runtime.components.endpoint_builder import EndpointBuilder
from muster.runtime.components.labels import Labels
from muster.runtime.metrics.hierarchy import MetricsNode

if TYPE_CHECKING:
    from muster.runtime.components.component import Component
    from muster.runtime.distributed import DistributedRuntime

__all__ = ["Endpoint"]


class Endpoint:
    """An endpoint. Equal and hashed by component and name; text form ``ns/component/name``."""

    def __init__(self, runtime: DistributedRuntime, component: Component, name: str) -> None:
        self._runtime = runtime
        self._component = component
        self._labels = Labels()
        self.name = name

    def __str__(self) -> str:
        return str(self.id())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and self.id() == other.id()

    def __hash__(self) -> int:
        return hash(self.id())

    @property
    def runtime(self) -> DistributedRuntime:
        """The runtime it belongs to."""
        return self._runtime

    @property
    def labels(self) -> dict[str, str]:
        """This object's labels, its component's and its namespaces'; the inner one wins."""
        return self._component.labels | self._labels.own

    def add_label(self, name: str, value: str) -> None:
        """Give the endpoint a label; raises as ``Namespace.add_label``.

        Endpoints are made anew each time they are asked for, so the label is this object's.
        """
        self._labels.add(name, value, taken=self.labels, where=f"endpoint {self}")

    @property
    def metrics(self) -> MetricsNode:
        """The endpoint's level of the metrics: counters made there carry its labels."""
        return self._runtime.metrics_root.endpoint_of(self.id())

    def id(self) -> EndpointId:
        """Namespace, component and name."""
        return EndpointId(self._component.namespace.name, self._component.name, self.name)

    def component(self) -> Component:
        """The component that hosts it."""
        return self._component

    def connection_id(self) -> int:
        """The instance id this process serves it under."""
        return self._runtime.instance_id

    async def client(self, router_mode: RouterMode | str | None = None) -> Client:
        """A client of this endpoint, with what the registry shows already known to it.

        Args:
            router_mode: ``round-robin`` by default.

        Raises:
            DiscoveryError: If the registry cannot be read, or the runtime is shutting down.
            InvalidArgument: If there is no such mode.
        """
        return await self._runtime.client_of(
            self.id(), RouterMode.parse(router_mode) if router_mode else RouterMode.ROUND_ROBIN
        )

    def builder(self) -> EndpointBuilder:
        """A builder that says, step by step, how this endpoint is served, and then serves it."""
        return EndpointBuilder(self)

    async def serve_endpoint(
        self,
        handler: Callable[..., Any],
        graceful_shutdown: bool = True,
        metrics_labels: Sequence[tuple[str, str]] | None = None,
        health_check_payload: dict[str, Any] | None = None,
    ) -> None:
        """Serve requests with ``handler`` until the runtime shuts down.

        Args:
            handler: An async generator function of the request, or of the request and its
                ``Context`` (as ``context``, or whatever the second parameter is called). What it
                yields is sent as it comes; what it raises reaches the caller as an error item
                (``ValueError`` as an invalid argument).
            graceful_shutdown: Let requests in flight finish when the runtime shuts down.
            metrics_labels: Labels for the endpoint's metrics, besides those it inherits.
            health_check_payload: A request that tells whether the endpoint works; it is sent to the
                handler when nothing else has been for a while.

        Raises:
            ConflictError: This process serves the endpoint already.
            ConfigError: The configured address or port cannot be used.
            DiscoveryError: The registry cannot be written.
            InvalidArgument: The handler cannot be called, or a label is none.
        """
        builder = self.builder().handler(handler).graceful_shutdown(graceful_shutdown)
        if metrics_labels:
            builder = builder.metrics_labels(metrics_labels)
        if health_check_payload is not None:
            builder = builder.health_check_payload(health_check_payload)
        await builder.start()

    async def unregister_endpoint_instance(self) -> None:
        """Take this process's instance out of the registry; requests that come are still served.

        Raises:
            NotRegisteredError: It is not registered.
        """
        await self._runtime.unregister_instance(self.id())

    async def register_endpoint_instance(self) -> None:
        """Put this process's instance back into the registry.

        Raises:
            NotRegisteredError: This process does not serve the endpoint.
        """
        await self._runtime.register_instance(self.id())
