"""The component model: namespaces hold components, components host endpoints.

These are names with a runtime behind them: making one registers nothing. Namespaces and components
are kept, so that asking twice gives the same object; endpoints are made anew.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from muster.discovery.records import INSTANCES, Instance
from muster.errors import DiscoveryError
from muster.names import check_name, slugify
from muster.runtime.components.documents import Document, Documents
from muster.runtime.components.endpoint import Endpoint
from muster.runtime.components.labels import Labels
from muster.runtime.components.watched_keys import KeyCallback, KeyReaction, KeyWatch, WatchedKeys
from muster.runtime.metrics.hierarchy import MetricsNode

if TYPE_CHECKING:
    from muster.runtime.distributed import DistributedRuntime

__all__ = ["Component", "Endpoint", "Namespace"]


class Namespace:
    """A namespace. Nested ones have dotted names: ``parent.child``. Equal and hashed by name."""

    def __init__(self, runtime: DistributedRuntime, name: str) -> None:
        self._runtime = runtime
        self.name = name
        self._labels = Labels()
        self._components: dict[str, Component] = {}

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespace) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def parent(self) -> Namespace | None:
        """The namespace it is nested in, or ``None``."""
        outer, dot, _ = self.name.rpartition(".")
        return self._runtime.namespace_of(outer) if dot and outer else None

    @property
    def metrics(self) -> MetricsNode:
        """Its level of the metrics: counters made there carry its labels."""
        return self._runtime.metrics_root.namespace(self.name)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels and those of the namespaces around it; the inner one wins."""
        parent = self.parent
        return (parent.labels if parent is not None else {}) | self._labels.own

    def add_label(self, name: str, value: str) -> None:
        """Give everything in this namespace a label.

        Raises:
            InvalidArgument: The name is no label's, is reserved, or is taken here or further out.
        """
        self._labels.add(name, value, taken=self.labels, where=f"namespace {self}")

    def namespace(self, name: str) -> Namespace:
        """The nested namespace ``<this>.<name>``.

        Raises:
            InvalidArgument: If ``name`` has a character outside ``a-z 0-9 - _``.
        """
        return self._runtime.namespace_of(f"{self.name}.{check_name(name, what='namespace')}")

    def component(self, name: str) -> Component:
        """The component of this name; asking twice gives the same object, from any thread.

        Raises:
            InvalidArgument: If ``name`` has a character outside ``a-z 0-9 - _``.
        """
        return self.component_of(check_name(name, what="component"))

    def component_of(self, name: str) -> Component:
        """The component of a name somebody else chose, taken as it is."""
        found = self._components.get(name)
        if found is None:
            # setdefault is atomic: two threads asking at once get the same component.
            found = self._components.setdefault(name, Component(self._runtime, self, name))
        return found


class Component:
    """A component. Equal and hashed by namespace and name; text form ``namespace.name``."""

    def __init__(self, runtime: DistributedRuntime, namespace: Namespace, name: str) -> None:
        self._runtime = runtime
        self.namespace = namespace
        self.name = name
        self._labels = Labels()
        self._documents = Documents(runtime.discovery, namespace.name, name)
        self._keys = WatchedKeys(runtime, namespace.name, name)

    def __str__(self) -> str:
        return f"{self.namespace.name}.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self._names == other._names

    def __hash__(self) -> int:
        return hash(self._names)

    @property
    def _names(self) -> tuple[str, str]:
        return self.namespace.name, self.name

    @property
    def service_name(self) -> str:
        """The slug of ``namespace_name``."""
        return slugify(f"{self.namespace.name}_{self.name}")

    @property
    def metrics(self) -> MetricsNode:
        """Its level of the metrics: counters made there carry its labels."""
        return self.namespace.metrics.component(self.name)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels and its namespaces'; the inner one wins."""
        return self.namespace.labels | self._labels.own

    def add_label(self, name: str, value: str) -> None:
        """Give this component and its endpoints a label; raises as ``Namespace.add_label``."""
        self._labels.add(name, value, taken=self.labels, where=f"component {self}")

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

    # -- configuration documents -------------------------------------------------------------

    async def publish_document(self, name: str, content: Any) -> Document:
        """Publish ``content`` as this component's document ``name``, for as long as this process lives.

        Documents say how a component was made and what it can do. Publishing again replaces what
        this process published; other replicas have their own.

        Args:
            name: Any text but the empty one.
            content: A JSON value (also a msgspec Struct or dataclass).

        Raises:
            InvalidArgument: The name or the content cannot be carried.
            DiscoveryError: The registry cannot be written, or the record is over its limit.
        """
        return await self._documents.publish(name, content)

    async def withdraw_document(self, name: str) -> None:
        """Take back this process's document ``name``.

        Raises:
            NotRegisteredError: This process publishes none.
            DiscoveryError: The registry cannot be written.
        """
        await self._documents.withdraw(name)

    async def list_documents(self) -> dict[str, tuple[Document, ...]]:
        """This component's documents by name, sorted: one per content, with those who publish it.

        Replicas that publish the same share one entry. Where they differ, the content of most comes
        first (then by digest).

        Raises:
            DiscoveryError: The registry cannot be read. Records that cannot are left out.
        """
        return await self._documents.list()

    async def read_document(
        self, name: str, *, digest: str | None = None, instance_id: int | None = None
    ) -> Document:
        """One document, with its content.

        Args:
            name: Its name.
            digest: The one of this digest, where replicas differ.
            instance_id: The one this instance publishes, where replicas differ.

        Raises:
            NotRegisteredError: Nobody publishes it.
            ConflictError: Replicas publish different contents under this name; says who has which.
            DiscoveryError: The registry cannot be read.
        """
        return await self._documents.read(name, digest=digest, instance_id=instance_id)

    # -- watched keys ------------------------------------------------------------------------

    async def write_key(self, name: str, value: Any) -> None:
        """Write ``value`` to the key ``name`` under this component's path; whoever watches it reacts.

        There is one value per key: the last writer's. It is gone when that process ends.

        Raises:
            InvalidArgument: The name or the value cannot be carried.
            DiscoveryError: The registry cannot be written, or the record is over its limit.
        """
        await self._keys.write(name, value)

    async def delete_key(self, name: str) -> None:
        """Delete the key ``name``, which this process wrote.

        Raises:
            NotRegisteredError: It did not, or somebody else has written it since.
            DiscoveryError: The registry cannot be written.
        """
        await self._keys.delete(name)

    def watch_key(self, name: str | None = None) -> AbstractAsyncContextManager[KeyWatch]:
        """Watch the key ``name`` under this component's path, or all of them.

        ``async with component.watch_key("scale") as states: async for state in states: ...``
        The first states are what is there; then comes every change, until the registry is closed.
        A slow reader is given the last state of each key.

        Raises:
            InvalidArgument: The name cannot be a key's.
            DiscoveryError: The registry cannot be read.
        """
        return self._keys.watch(name)

    async def on_key(self, name: str | None, callback: KeyCallback) -> KeyReaction:
        """Call ``callback`` with each state of the key ``name``, or of all keys, in order.

        It begins with what is there. The callback may be a function or a coroutine function; one
        that raises is logged, and the next state comes all the same.

        Returns:
            The reaction: close it to end it. It ends with the runtime in any case.

        Raises:
            InvalidArgument: The name cannot be a key's.
            DiscoveryError: The registry cannot be read, or the runtime is shutting down.
        """
        return await self._keys.react(name, callback)
