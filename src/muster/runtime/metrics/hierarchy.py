"""The hierarchy of metrics: runtime, namespaces, components, endpoints.

Every level has metrics of its own and adds its part to what its parent shows; the root shows all.
Where a metric was made is not part of its name: it is told by labels, which are added when the
page is made. So one name used at many places is one family with a series per place.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import Metric

from muster.errors import InvalidArgument
from muster.names import EndpointId
from muster.runtime.metrics.families import Part, merge
from muster.runtime.metrics.labels import (
    COMPONENT,
    ENDPOINT,
    NAMESPACE,
    WORKER_ID,
    Labels,
    check_labels,
    sanitize_label_value,
)
from muster.runtime.metrics.registry import MetricsRegistry
from muster.runtime.metrics.sources import SharedState

__all__ = ["MetricsLevel", "MetricsNode"]


class MetricsLevel(enum.StrEnum):
    """What a node stands for."""

    RUNTIME = "runtime"
    NAMESPACE = "namespace"
    COMPONENT = "component"
    ENDPOINT = "endpoint"


_ABOVE = {
    MetricsLevel.NAMESPACE: (MetricsLevel.RUNTIME, MetricsLevel.NAMESPACE),
    MetricsLevel.COMPONENT: (MetricsLevel.NAMESPACE,),
    MetricsLevel.ENDPOINT: (MetricsLevel.COMPONENT,),
}


class MetricsNode(MetricsRegistry):
    """One level's metrics. ``MetricsNode.root`` makes the runtime's; a node makes those below it.

    It may be registered in a ``CollectorRegistry``, or be encoded by itself as one can; either way
    it shows its own metrics and those of all levels below, each with its labels.

    Attributes:
        level: What it stands for.
        base_name: Its own name: of the namespace ``a.b`` it is ``b``, of the root it is empty.
        parent: The level above, ``None`` for the root.
        ancestors: The levels above, the root first.
        names: ``base_name`` of each level from the outermost namespace to this one.
    """

    def __init__(
        self,
        shared: SharedState,
        level: MetricsLevel,
        base_name: str = "",
        parent: MetricsNode | None = None,
    ) -> None:
        super().__init__(shared)
        self.level = level
        self.base_name = base_name
        self.parent = parent
        self.ancestors: tuple[MetricsNode, ...] = ()
        self.names: tuple[str, ...] = ()
        if parent is not None:
            self.ancestors = (*parent.ancestors, parent)
            self.names = (*parent.names, base_name)
        self._place_values = self._labels_of_place()
        self._constant: Labels = ()
        self._children: dict[tuple[MetricsLevel, str], MetricsNode] = {}

    @classmethod
    def root(cls, connection_id: int | Callable[[], int]) -> MetricsNode:
        """The runtime's node.

        Args:
            connection_id: The process's u64 in the registry; a function is asked whenever the id is
                needed, and must not block.
        """
        return cls(SharedState(connection_id), MetricsLevel.RUNTIME)

    def __repr__(self) -> str:
        return f"<MetricsNode {self.place}>"

    # -- the hierarchy -----------------------------------------------------------------------

    @property
    def children(self) -> tuple[MetricsNode, ...]:
        """The levels directly below, in the order they were made."""
        with self._shared.lock:
            return tuple(self._children.values())

    @property
    def connection_id(self) -> int:
        """The process's u64 in the registry."""
        return self._shared.connection_id

    @property
    def place(self) -> str:
        """The node in words: ``runtime``, ``namespace a.b``, ``endpoint a.b/c/d``."""
        if self.parent is None:
            return str(self.level)
        if self.level is MetricsLevel.NAMESPACE:
            return f"{self.level} {'.'.join(self.names)}"
        above = self.parent.place.partition(" ")[2]
        return f"{self.level} {above}/{self.base_name}"

    def namespace(self, name: str) -> MetricsNode:
        """The namespace of this name, of the root or of a namespace; dots make it a nested one.

        Asking twice gives the same node, as it does for components and endpoints.

        Raises:
            InvalidArgument: This level has no namespaces.
            ConfigError: It is closed.
        """
        node = self
        for part in name.split("."):
            node = node._child(MetricsLevel.NAMESPACE, part)
        return node

    def component(self, name: str) -> MetricsNode:
        """The component of this name in a namespace; raises as ``namespace`` does."""
        return self._child(MetricsLevel.COMPONENT, name)

    def endpoint(self, name: str) -> MetricsNode:
        """The endpoint of this name in a component; raises as ``namespace`` does."""
        return self._child(MetricsLevel.ENDPOINT, name)

    def endpoint_of(self, endpoint: EndpointId) -> MetricsNode:
        """The endpoint of an id, from the root."""
        component = self.namespace(endpoint.namespace).component(endpoint.component)
        return component.endpoint(endpoint.name)

    def _child(self, level: MetricsLevel, name: str) -> MetricsNode:
        if self.level not in _ABOVE[level]:
            raise InvalidArgument(f"there is no {level} {name!r} right below {self.place}")
        with self._shared.lock:
            self._check_open()
            child = self._children.get((level, name))
            if child is None:
                child = MetricsNode(self._shared, level, name, self)
                self._children[level, name] = child
            return child

    def close(self) -> None:
        """Take the level and all below it out of the page, and free its names. Idempotent.

        Metrics made here may still be observed, but nobody sees it. Asking the parent for this
        name again gives a new level.
        """
        with self._shared.lock:
            for child in self.children:
                child.close()
            self._clear()
            if self.parent is not None:
                siblings = self.parent._children  # noqa: SLF001
                if siblings.get((self.level, self.base_name)) is self:
                    del siblings[self.level, self.base_name]

    # -- labels ------------------------------------------------------------------------------

    @property
    def labels(self) -> dict[str, str]:
        """What is added to its metrics: constant labels from the root down, and automatic ones."""
        return dict((*self.constant_labels, *self.automatic_labels))

    @property
    def automatic_labels(self) -> Labels:
        """``dynamo_namespace``, ``dynamo_component``, ``dynamo_endpoint``, ``worker_id``.

        The first three so far as the level has them; the last is the connection id in hexadecimal.
        """
        return (*self._place_values, (WORKER_ID, f"{self.connection_id:x}"))

    @property
    def constant_labels(self) -> Labels:
        """What ``add_labels`` added, here and above, the outermost first."""
        return tuple(pair for node in (*self.ancestors, self) for pair in node._constant)  # noqa: SLF001

    def add_labels(self, labels: Iterable[Sequence[str]]) -> None:
        """Add constant labels to all metrics of this level and below, whoever made them.

        What an outer level says may be said again further in, where the new value counts. A label
        that a metric has by itself stays as it is.

        Args:
            labels: Pairs of name and value.

        Raises:
            InvalidArgument: A name is bad, set automatically, or there twice; nothing is added.
        """
        with self._shared.lock:
            self._constant = check_labels((*self._constant, *labels), where=self.place)

    def _labels_of_place(self) -> Labels:
        if self.parent is None:
            return ()
        if self.level is MetricsLevel.NAMESPACE:
            return ((NAMESPACE, sanitize_label_value(".".join(self.names))),)
        label = COMPONENT if self.level is MetricsLevel.COMPONENT else ENDPOINT
        return (*self.parent._place_values, (label, sanitize_label_value(self.base_name)))  # noqa: SLF001

    # -- giving out --------------------------------------------------------------------------

    def collect(self) -> list[Metric]:
        """The families of this level and all below, each once, sorted by name."""
        return merge(self._parts(), self._shared.warnings)

    def typed_families(self) -> list[Metric]:
        """The families of the typed callbacks of this level and all below, as they give them."""
        return [family for node in self._walk() for family in node.own_typed()]

    def _parts(self) -> Iterator[Part]:
        for node in self._walk():
            yield from node.own_parts()

    def _walk(self) -> Iterator[MetricsNode]:
        yield self
        for child in self.children:
            yield from child._walk()  # noqa: SLF001
