"""The component model: namespaces hold components, components host endpoints.

These are names with a runtime behind them: making one registers nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from muster.discovery.records import INSTANCES, Instance
from muster.errors import DiscoveryError, InvalidArgument
from muster.names import EndpointId, check_name, slugify
from muster.runtime.choosers import RouterMode
from muster.runtime.client import Client
from muster.wire.context import Context

if TYPE_CHECKING:
    from muster.runtime.distributed import DistributedRuntime

__all__ = ["Component", "Endpoint", "Namespace"]


class Namespace:
    """A namespace. Nested ones have dotted names: ``parent.child``."""

    def __init__(self, runtime: DistributedRuntime, name: str) -> None:
        self._runtime = runtime
        self.name = name
        self._components: dict[str, Component] = {}

    def __str__(self) -> str:
        return self.name

    def namespace(self, name: str) -> Namespace:
        """The nested namespace ``<this>.<name>``.

        Raises:
            InvalidArgument: If ``name`` has a character outside ``a-z 0-9 - _``.
        """
        return self._runtime.namespace_of(f"{self.name}.{check_name(name, what='namespace')}")

    def component(self, name: str) -> Component:
        """The component of this name; asking twice gives the same object.

        Raises:
            InvalidArgument: If ``name`` has a character outside ``a-z 0-9 - _``.
        """
        return self.component_of(check_name(name, what="component"))

    def component_of(self, name: str) -> Component:
        """The component of a name somebody else chose, taken as it is."""
        # setdefault is atomic: two threads asking at once get the same component.
        return self._components.setdefault(name, Component(self._runtime, self, name))


class Component:
    """A component. Equal and hashed by namespace and name; text form ``namespace.name``."""

    def __init__(self, runtime: DistributedRuntime, namespace: Namespace, name: str) -> None:
        self._runtime = runtime
        self.namespace = namespace
        self.name = name

    def __str__(self) -> str:
        return f"{self.namespace.name}.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def service_name(self) -> str:
        """The slug of ``namespace_name``."""
        return slugify(f"{self.namespace.name}_{self.name}")

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of this name."""
        return Endpoint(self._runtime, self, name)

    async def list_instances(self) -> list[Instance]:
        """Live instances of this component's endpoints, sorted by path.

        Raises:
            DiscoveryError: If the registry cannot be read. Records that cannot are left out.
        """
        found = []
        prefix = f"{self.namespace.name}/{self.name}"
        for value in (await self._runtime.discovery.list(INSTANCES, prefix)).values():
            try:
                found.append(Instance.from_json(value))
            except DiscoveryError:
                continue
        return sorted(found)


class Endpoint:
    """An endpoint: somewhere requests of one kind are served. Equal by component and name."""

    def __init__(self, runtime: DistributedRuntime, component: Component, name: str) -> None:
        self._runtime = runtime
        self._component = component
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
            router_mode: ``round-robin`` (the default) or ``random``; ``_`` may stand for ``-``.

        Raises:
            DiscoveryError: If the registry cannot be read, or the runtime is shutting down.
            InvalidArgument: If there is no such mode.
        """
        return await self._runtime.client_of(self.id(), _router_mode(router_mode))

    async def serve_endpoint(
        self,
        handler: Callable[..., Any],
        graceful_shutdown: bool = True,
    ) -> None:
        """Serve requests with ``handler`` until the runtime shuts down.

        Args:
            handler: An async generator function of the request, or of the request and its
                ``Context``. What it yields is sent as it comes; what it raises reaches the caller
                as an error item (``ValueError`` as an invalid argument).
            graceful_shutdown: Let requests in flight finish when the runtime shuts down.

        Raises:
            ConflictError: This process serves the endpoint already.
            ConfigError: The configured address or port cannot be used.
            DiscoveryError: The registry cannot be written.
        """
        service = await self._runtime.serve(
            self.id(), with_context(handler), graceful=graceful_shutdown
        )
        await service.closed.wait()

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


def _router_mode(mode: RouterMode | str | None) -> RouterMode:
    try:
        return RouterMode(mode.replace("_", "-")) if mode else RouterMode.ROUND_ROBIN
    except ValueError:
        known = ", ".join(RouterMode)
        raise InvalidArgument(f"unknown router mode {mode!r}", hint=f"known are {known}") from None


def with_context(handler: Callable[..., Any]) -> Callable[[Any, Context], Any]:
    """``handler`` as a function of request and context, whether it takes the second or not.

    Raises:
        InvalidArgument: It cannot be called.
    """
    try:
        parameters = inspect.signature(handler).parameters.values()
    except TypeError as error:
        raise InvalidArgument(f"a handler must be callable, not {handler!r}") from error
    except ValueError:  # a built-in that does not say what it takes
        return handler
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if len(positional) >= 2 or variadic:
        return handler

    def without(request: Any, context: Context) -> Any:
        return handler(request)

    return without
